"""No secret leaves in a text, whichever way it is written."""

from __future__ import annotations

import json
from html import escape
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from backup_operators.redaction import MASK, Redactor
from tests.support.properties import given

SECRET = "pä ss/w@rd:\"1%'&<"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET),
        repr(SECRET),
        escape(SECRET, quote=False),
    ],
)
def test_a_known_secret_is_masked_however_it_is_written(written: str) -> None:
    text = Redactor([SECRET])(f"could not connect with {written} to the server")
    assert written.strip("\"'") not in text
    assert MASK in text
    assert text.endswith("to the server")


@given(secret=st.text(min_size=4, max_size=40), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_known_secret_is_left_in_any_text(secret: str, before: str, after: str) -> None:
    assume(secret not in MASK)
    assume(secret not in Redactor([])(before + MASK + after))
    text = Redactor([secret])(before + secret + after)
    assert secret not in text or secret in Redactor([])(MASK.join((before, after)))


def test_a_secret_that_holds_another_is_masked_as_a_whole() -> None:
    assert Redactor(["abcd", "abcdefgh"])("x abcdefgh y") == f"x {MASK} y"


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    assert Redactor(["ab"])("ab absolute drab 'ab'") == f"{MASK} absolute drab '{MASK}'"


def test_empty_secrets_mask_nothing() -> None:
    assert Redactor(["", ""])("as it was") == "as it was"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgres://backup:hunter22@db.example/pulse", "hunter22"),
        ("postgres://backup:hunt/er@22@db.example/pulse", "hunt/er@22"),
        ("PGPASSWORD=hunter22 pg_dump", "hunter22"),
        ("host=db password=hunter22 dbname=x", "hunter22"),
        ("host=db password='hunter 22' dbname=x", "hunter 22"),
        ('{"password": "hunter 22"}', "hunter 22"),
        ("{'db_password': 'hunter22'}", "hunter22"),
        ("passwd: hunter22", "hunter22"),
        ("ALTER ROLE x PASSWORD 'hunter22'", "hunter22"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("secret_key=wJalrXUtnFEMI", "wJalrXUtnFEMI"),
        ("AKIAIOSFODNN7EXAMPLE is not allowed", "AKIAIOSFODNN7EXAMPLE"),
        ("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXX", "XXXXXXXX"),
        ("http://127.0.0.1:6402/services/T0LOCAL/B0LOCAL/0a1b2c failed", "0a1b2c"),
        ("xoxb-123-abcDEF", "abcDEF"),
        ("Authorization: Bearer eyJhbGciOi.J9", "eyJhbGciOi"),
        ("https://s3/x?X-Amz-Credential=AK%2F1&X-Amz-Signature=0f0f0f", "0f0f0f"),
        ("SCRAM-SHA-256$4096:salt$stored:server", "stored"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ],
)
def test_what_looks_like_a_secret_is_masked_though_nobody_knows_it(text: str, secret: str) -> None:
    redacted = Redactor([])(text)
    assert secret not in redacted
    assert MASK in redacted


@pytest.mark.parametrize(
    "text",
    [
        'FATAL: password authentication failed for user "pulse_backup"',
        "s3://pulse-backups/daily/pulse_messages_daily_full_20250119T020000Z_3fa9c1.tar",
        "http://airflow.example:8080/dags/x/runs/manual__2025-01-19T02:00:00+00:00",
        "set sslmode=verify-full and sslrootcert in the connection's extra",
        "checksum q1w2e3r4=-12 instead of q1w2e3r4=-13",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert Redactor(["hunter22"])(text) == text
