"""Passwords, tokens and rows that a backup holds stay out of proofs, logs and messages, also when a restore fails."""

from __future__ import annotations

import logging
import re
import traceback

import pytest
from backports import zstd

from include.backup.errors import ProofFailedError
from include.backup.proof.record import Proof
from include.backup.steps.restore_test import check_passed
from tests.support.proofs import Arena, KeptRestore, StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]

CANARIES = ("canary-user-mapping", "canary-database-setting", "canary-function-body", "canary-row")
# A statement of the archive is broken right where a secret stands in it; each has the length of what it replaces.
BROKEN = {
    "user mapping": (b"CREATE USER MAPPING FOR proof_app", b"CREATE USER MAPPONG FOR proof_app"),
    "database setting": (b'SET "app.jwt_secret" TO', b'SET "app.jwt_secret" TU'),
    "function": (
        b"    LANGUAGE plpgsql\n    AS $$\nBEGIN\n    -- canary",
        b"    LANGUAGE plpgsql\n    IS $$\nBEGIN\n    -- canary",
    ),
}


def secrets_of(backup: StoredBackup) -> set[str]:
    """Return the canaries, and how the hashes of passwords begin that the archive holds."""
    hashes = set(re.findall(r"SCRAM-SHA-256\$\d+:[^$]{8}", backup.content("globals.sql").decode()))
    assert hashes
    return {*CANARIES, *hashes}


def assert_silent(backup: StoredBackup, proof: Proof, caplog: pytest.LogCaptureFixture) -> None:
    """Look into the proof, the log and the error with all its causes."""
    with pytest.raises(ProofFailedError) as error:
        check_passed(proof)
    said = [proof.to_json().decode(), caplog.text, "".join(traceback.format_exception(error.value))]
    found = {secret for secret in secrets_of(backup) for text in said if secret in text}
    assert found == set()


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("include", "tests.proof"):
        caplog.set_level(logging.DEBUG, logger=name)


def test_the_backup_holds_the_secrets_that_are_looked_for(backup: StoredBackup) -> None:
    toc = backup.content("dump/toc.dat").decode(errors="replace")
    assert all(canary in toc for canary in CANARIES if canary != "canary-row")


@pytest.mark.parametrize("where", BROKEN)
def test_a_statement_that_fails_is_named_without_its_secrets(
    backup: StoredBackup, arena: Arena, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    old, new = BROKEN[where]
    content = backup.content("dump/toc.dat")
    assert content.count(old) == 1
    proof = arena.prove(backup.repacked({"dump/toc.dat": content.replace(old, new)}, rehashed=True))
    (difference,) = proof.differences
    assert "syntax error" in difference.detail
    assert_silent(backup, proof, caplog)


def test_a_role_that_fails_is_told_without_its_password(
    backup: StoredBackup, arena: Arena, caplog: pytest.LogCaptureFixture
) -> None:
    content = backup.content("globals.sql")
    broken = re.sub(rb"(ALTER ROLE proof_app WITH .*PASSWORD) (')", rb"\1 IS \2", content)
    proof = arena.prove(backup.repacked({"globals.sql": broken}, rehashed=True))
    (difference,) = proof.differences
    assert "the roles of globals.sql cannot be restored" in difference.detail
    assert 'syntax error at or near "IS"' in difference.detail
    assert_silent(backup, proof, caplog)


def test_a_row_that_fails_is_not_shown(backup: StoredBackup, arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    """A value of the wrong type is quoted in the message itself, the rest of the row after it."""
    name = backup.data_member("shop.twins").name
    row = backup.content(name).replace(b"1\n", b"canary-row\n", 1)
    proof = arena.prove(backup.repacked({name: zstd.compress(row)}, rehashed=True))
    (difference,) = proof.differences
    assert 'COPY failed for table "twins"' in difference.detail
    assert_silent(backup, proof, caplog)


def test_differences_show_no_secret(kept: KeptRestore, caplog: pytest.LogCaptureFixture) -> None:
    password = re.search(r"proof_app WITH .*PASSWORD ('[^']+')", kept.backup.content("globals.sql").decode())
    assert password is not None
    proof = kept.prove(
        "ALTER USER MAPPING FOR proof_app SERVER far OPTIONS (SET password 'x');"
        "ALTER DATABASE proof_source SET \"app.jwt_secret\" = 'x';"
        "CREATE OR REPLACE FUNCTION shop.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "ALTER ROLE proof_app PASSWORD 'canary-other-password'",
        undo=f"ALTER ROLE proof_app PASSWORD {password[1]}",
    )
    assert {difference.what for difference in proof.differences} == {
        "DATABASE PROPERTIES",
        "FUNCTION",
        "ROLE",
        "USER MAPPING",
    }
    assert_silent(kept.backup, proof, caplog)


def test_a_copy_that_cannot_be_read_shows_no_secret(kept: KeptRestore, caplog: pytest.LogCaptureFixture) -> None:
    proof = kept.prove("ALTER TABLE shop.orders RENAME TO elsewhere; ALTER SEQUENCE shop.numbers RENAME TO away")
    assert {"shop.orders", "shop.numbers"} <= {difference.name for difference in proof.differences}
    assert_silent(kept.backup, proof, caplog)
