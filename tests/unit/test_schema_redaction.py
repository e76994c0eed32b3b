"""What is hidden of a definition, and what stays readable."""

from __future__ import annotations

import pytest

from include.backup.schema_history.redaction import HIDDEN, Redaction

SECRET = "CANARY"


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        (
            "USER MAPPING",
            "CREATE USER MAPPING FOR x SERVER y OPTIONS (\n    password 'CANARY',\n    a 'b'\n);",
        ),
        ("USER MAPPING", "CREATE USER MAPPING FOR x SERVER y OPTIONS (anything 'it''s CANARY');"),
        ("SERVER", "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'x', \"Odd\" 'CANARY');"),
        ("FOREIGN DATA WRAPPER", "CREATE FOREIGN DATA WRAPPER w OPTIONS (service_account 'CANARY');"),
        (
            "FOREIGN TABLE",
            "CREATE FOREIGN TABLE t (id int OPTIONS (a 'CANARY')) SERVER s OPTIONS (x E'\\\\CANARY');",
        ),
        ("USER MAPPING", "CREATE USER MAPPING FOR x SERVER y OPTIONS (\"odd(na'me\" 'v', pin 'CANARY');"),
        ("USER MAPPING", "CREATE USER MAPPING FOR x SERVER y OPTIONS (a 'v\\', pin 'CANARY');"),
        ("USER MAPPING", "CREATE USER MAPPING FOR x SERVER y OPTIONS (a E'\\'(', pin 'CANARY');"),
        ("USER MAPPING", "CREATE USER MAPPING FOR x SERVER y OPTIONS (a (b), pin 'CANARY');"),
        ("SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION 'host=h password=CANARY dbname=d' PUBLICATION p;"),
        ("SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''a CANARY'' dbname=d' PUBLICATION p;"),
        ("SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION 'postgresql://u:CANARY@h/d' PUBLICATION p;"),
        ("SUBSCRIPTION", "CREATE SUBSCRIPTION s CONNECTION 'host=h passfile=CANARY sslkey=CANARY' PUBLICATION p;"),
        ("TABLE", "CREATE TABLE t (a_token text DEFAULT 'x\\'::text, password text DEFAULT 'CANARY');"),
        ("TABLE", "CREATE TABLE t (a_token text DEFAULT E'x\\'CANARY'::text, b text);"),
        ("FUNCTION", "LANGUAGE plpgsql AS $$ BEGIN a_token := 'x\\'; password := 'CANARY'; END $$;"),
        ("FUNCTION", "LANGUAGE plpython3u AS $$\npassword = 'it\\'s CANARY'\n$$;"),
        ("FUNCTION", "AS $$ DECLARE api_key CONSTANT text := 'CANARY'; BEGIN END $$;"),
        ("FUNCTION", "AS $$ BEGIN PERFORM set_config('app.jwt_secret', 'CANARY', false); END $$;"),
        ("FUNCTION", "AS $$ BEGIN -- the password: CANARY\n END $$;"),
        ("FUNCTION", "AS $$ BEGIN EXECUTE 'ALTER ROLE x PASSWORD ''CANARY'''; END $$;"),
        ("FUNCTION", "AS $$ SELECT dblink('host=a password=CANARY dbname=b') $$;"),
        ("FUNCTION", 'AS $$ SELECT \'{"Authorization": "Bearer CANARY.token"}\'::jsonb $$;'),
        ("FUNCTION", "AS $$ SELECT jsonb_build_object('api_key', 'CANARY') $$;"),
        ("FUNCTION", 'AS $$\napi_key = "CANARY"\n$$;'),
        ("FUNCTION", "SET \"app.access_key\" TO 'CANARY' AS $$ SELECT 1 $$;"),
        ("FUNCTION", "AS $$ SELECT 'https://u:CANARY@host/path' $$;"),
        ("FUNCTION", "AS $$ SELECT 'sk_live_CANARY123456' $$;"),
        ("FUNCTION", "AS $$ SELECT 'c4n4ry-8f3a9c2e51b7d0-CANARY' $$;"),
        (
            "TRIGGER",
            "EXECUTE FUNCTION request('https://x', '{\"Authorization\":\"Bearer eyJhbGciOi.CANARY.x\"}');",
        ),
        ("DATABASE PROPERTIES", "ALTER DATABASE d SET \"app.settings.service_role_key\" TO 'CANARY';"),
        ("COMMENT", "COMMENT ON TABLE t IS '-----BEGIN RSA PRIVATE KEY-----\nCANARY\n-----END RSA PRIVATE KEY-----';"),
        ("DEFAULT", "ALTER TABLE t ALTER COLUMN c SET DEFAULT 'known CANARY password'::text;"),
    ],
)
def test_a_secret_is_hidden(kind: str, definition: str) -> None:
    hidden = Redaction(["known CANARY password"])(kind, definition)
    assert SECRET not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        ("SERVER", "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'x', port '5', dbname 'd');"),
        ("TABLE", "CREATE TABLE t (password text DEFAULT ''::text, path_tokens text[], passed boolean DEFAULT true);"),
        ("TABLE", "CREATE TABLE t (id uuid DEFAULT '6f1e0b6e-0000-4000-8000-000000000001');"),
        ("COMMENT", "COMMENT ON COLUMN a.path_tokens IS 'Parts of the path';"),
        ("RULE", "WHERE (api_keys.id = old.id) AND (api_keys.name = 'x');"),
        (
            "FUNCTION",
            "AS $$ SELECT 'application/json', 'YYYY-MM-DD\"T\"HH24:MI:SS', 'a long sentence of 2024' $$;",
        ),
        ("CONSTRAINT", "CHECK ((kind = ANY (ARRAY['bypass'::text, 'passenger'::text])))"),
        ("INDEX", 'CREATE INDEX "users_2024_01_15_by_token_prefix_v2" ON t (a);'),
    ],
)
def test_what_is_no_secret_stays(kind: str, definition: str) -> None:
    assert Redaction(["known CANARY password"])(kind, definition) == definition


def test_the_harmless_part_of_a_connection_string_stays() -> None:
    text = Redaction()("SUBSCRIPTION", "CONNECTION 'host=h port=5433 password=x dbname=d user=u' PUBLICATION p;")
    assert text == "CONNECTION 'host=h port=5433 dbname=d user=u password=***' PUBLICATION p;"


def test_a_hidden_value_does_not_tell_of_its_length_and_hiding_twice_changes_nothing() -> None:
    redaction = Redaction()
    definition = "CREATE USER MAPPING FOR x SERVER y OPTIONS (password '{}');"
    short, long = (redaction("USER MAPPING", definition.format(text)) for text in ("a", "b" * 90))
    assert short == long
    assert redaction("USER MAPPING", short) == short
