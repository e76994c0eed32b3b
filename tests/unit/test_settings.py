"""airflow_settings.yaml: what is read, what is refused, and that no value is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.backup.errors import SettingsError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.settings import SHIPPED_SETTINGS, Settings, load_settings

SECRET = "s3cr3t-Wert"
FULL = {
    "PULSE_DB_HOST": "db.example",
    "PULSE_DB_PORT": "6400",
    "PULSE_DB_PASSWORD": SECRET,
    "PULSE_DB_CA": "/tls/ca.pem",
    "PULSE_S3_ENDPOINT": "https://s3.example",
    "PULSE_S3_ACCESS_KEY": "AKIA",
    "PULSE_S3_SECRET_KEY": SECRET,
    "PULSE_S3_CA": "/tls/ca.pem",
    "PULSE_SLACK_WEBHOOK_URL": f"https://hooks.slack.com/services/{SECRET}",
}


def load(folder: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = folder / "airflow_settings.yaml"
    path.write_text(text)
    return load_settings(path, environ or {})


def refusal(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(folder, text, environ)
    return str(caught.value)


CONNECTION = "airflow:\n  connections:\n    - conn_id: x\n      conn_type: postgres\n"


def test_the_shipped_settings_have_every_connection_that_the_shipped_policy_names() -> None:
    settings = load_settings(SHIPPED_SETTINGS, FULL)
    policy = load_policy(SHIPPED_POLICY, strict=True)
    source = policy.source("pulse_messages")
    assert source.slack is not None
    assert source.restore is not None
    wanted = {source.connection, source.store.connection, source.slack.connection}
    wanted |= {*source.restore.connections, source.restore.approval.connection}
    assert source.supabase is not None
    wanted.add(source.supabase.connection)
    assert source.schema_backup is not None
    wanted.add(source.schema_backup.connection)
    assert source.attachments is not None
    wanted.add(source.attachments.connection)
    assert policy.metadata is not None
    wanted.add(policy.metadata.connection)
    assert {spec.conn_id for spec in settings.connections} == wanted
    slots = {pool.name: pool.slots for pool in settings.pools}
    assert slots == {"pg_source": 1, "scratch": 1, "backups": 2, "restores": 2}


def test_values_come_from_the_environment() -> None:
    spec = load_settings(SHIPPED_SETTINGS, FULL).connection("pulse_messages_db")
    assert (spec.host, spec.port, spec.schema, spec.login) == (
        "db.example",
        6400,
        "pulse_messages",
        "pulse_backup",
    )
    assert spec.password == SECRET
    assert spec.extra == {"sslmode": "verify-full", "sslrootcert": "/tls/ca.pem"}


def test_airflow_is_given_the_same_fields() -> None:
    given = load_settings(SHIPPED_SETTINGS, FULL).connection("pulse_backups_s3").to_airflow()
    assert given == {
        "conn_type": "aws",
        "login": "AKIA",
        "password": SECRET,
        "extra": {"endpoint_url": "https://s3.example", "region_name": "us-east-1", "verify": "/tls/ca.pem"},
    }


def test_no_repr_shows_a_secret() -> None:
    settings = load_settings(SHIPPED_SETTINGS, FULL)
    assert SECRET not in repr(settings)
    assert SECRET not in f"{settings} {settings.connections[0]} {settings.connections!r}"


def test_a_missing_variable_is_named_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, CONNECTION + "      conn_password: ${NOT_THERE}\n")
    assert message == (
        "airflow_settings.yaml:5: the environment variable NOT_THERE is not set; set it, or give a default"
    )


def test_a_default_stands_in_for_a_missing_or_empty_variable(tmp_path: Path) -> None:
    text = CONNECTION + "      conn_host: a-${H:-b}-c\n      conn_schema: ${S:-}\n"
    for environ in ({}, {"H": ""}):
        spec = load(tmp_path, text, environ).connection("x")
        assert (spec.host, spec.schema) == ("a-b-c", None)
    assert load(tmp_path, text, {"H": "h"}).connection("x").host == "a-h-c"


def test_what_a_variable_holds_is_not_expanded_again(tmp_path: Path) -> None:
    spec = load(tmp_path, CONNECTION + "      conn_host: ${A}\n", {"A": "${B}", "B": "b"}).connection("x")
    assert spec.host == "${B}"


def test_only_asked_connections_need_their_variables() -> None:
    only = load_settings(
        SHIPPED_SETTINGS, {"PULSE_S3_ACCESS_KEY": "k", "PULSE_S3_SECRET_KEY": "s"}, only={"pulse_backups_s3"}
    )
    assert [spec.conn_id for spec in only.connections] == ["pulse_backups_s3"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CONNECTION + "      conn_pasword: x\n", ":5: unknown key 'conn_pasword'"),
        ("airflow:\n  unknown_key: []\n", ":2: unknown key 'unknown_key'"),
        ("airflow: {}\nextra: 1\n", ":2: unknown key 'extra'"),
        ("airflow:\n  pools:\n    - pool_name: a\n", ":3: airflow.pools[0] lacks 'pool_slot'"),
        ("airflow:\n  pools:\n    - pool_name: a\n      pool_slot: many\n", ":4: "),
        ("airflow:\n  connections:\n    - conn_id: x\n", ":3: conn_type is missing"),
        (CONNECTION + "    - conn_id: x\n      conn_type: aws\n", ":5: conn_id 'x' is there twice"),
        (CONNECTION + "      conn_host: a\n      conn_host: b\n", ":6: 'conn_host' is there twice"),
        (CONNECTION + "      conn_uri: postgres://a/b\n", ":3: conn_uri stands alone; remove conn_type"),
        (CONNECTION + "      conn_port: ${P}\n", "connection x is not valid JSON"),
        ("airflow: [\n", ":2: this is not valid YAML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(tmp_path, text, {"P": "not-a-port"})


@pytest.mark.parametrize(
    "line",
    [
        f"      conn_password: [{SECRET}]",
        f"      conn_password: {{{SECRET}: 1}}",
        "      conn_password: 5551234",
        f"      conn_extra: [{SECRET}]",
        f"      conn_extra: '{SECRET}'",
        f"      conn_port: {SECRET}",
        f"      conn_password: '{SECRET}' trailing",
    ],
)
def test_a_refusal_never_shows_a_value(tmp_path: Path, line: str) -> None:
    message = refusal(tmp_path, CONNECTION + line + "\n")
    assert SECRET not in message
    assert "5551234" not in message


def test_a_bad_uri_is_refused_without_showing_it(tmp_path: Path) -> None:
    text = f"airflow:\n  connections:\n    - conn_id: x\n      conn_uri: postgres://u:{SECRET}@h:port/db\n"
    message = refusal(tmp_path, text)
    assert "connection x is no valid URI" in message
    assert SECRET not in message


def test_variables_are_read_and_their_values_are_not_shown(tmp_path: Path) -> None:
    text = "airflow:\n  variables:\n    - variable_name: v\n      variable_value: ${V}\n"
    (variable,) = load(tmp_path, text, {"V": SECRET}).variables
    assert (variable.name, variable.value) == ("v", SECRET)
    assert SECRET not in repr(variable)
