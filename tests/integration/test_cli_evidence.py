"""The ledger from the command line: verified, exported, and the rest of the bucket held against it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.catalog import archive_key, manifest_key
from include.backup.evidence.record import record_key
from include.local.stack import Stack
from tests.support.command_line import SOURCE, CommandLine
from tests.support.proofs import StoredBackup
from tests.support.store_owner import owner_of

pytest_plugins = ["tests.support.cli_fixtures"]


def test_a_ledger_is_verified_exported_and_checked_again(
    cli: CommandLine, taken: dict[str, Any], tmp_path: Path
) -> None:
    verified = cli.run("evidence", "verify", SOURCE, "--json")
    assert verified.code == 0, verified.out
    assert verified.document["kinds"]["backup"] >= 1
    assert verified.document["kinds"]["proof"] >= 1
    key, bundle = tmp_path / "key", tmp_path / "evidence.tar"
    assert cli.here("evidence", "keygen", "--output", str(key)).code == 0
    exported = cli.here("evidence", "export", SOURCE, "--output", str(bundle), "--key", str(key))
    assert exported.code == 0, exported.err
    checked = cli.here("evidence", "check", str(bundle), "--public-key", f"{key}.pub", "--json")
    assert checked.document["intact"] is True
    assert checked.document["records"] == verified.document["records"]
    assert cli.here("evidence", "verify", SOURCE, "--anchor", verified.document["head"]).code == 0
    assert "nothing to sign with" in cli.here("evidence", "export", SOURCE, "--output", str(tmp_path / "x")).error


def test_a_tail_that_is_cut_off_in_the_whole_bucket_shows_by_the_head_that_was_noted(
    cli: CommandLine, taken: dict[str, Any]
) -> None:
    head = cli.here("evidence", "verify", SOURCE, "--json").document["head"]
    later = f"{int(head.partition(':')[0]) + 1}:{'0' * 64}"
    answer = cli.here("evidence", "verify", SOURCE, "--anchor", later)
    assert answer.code == 4
    assert "is missing, and the given head saw it" in answer.out


def test_a_backup_that_the_ledger_does_not_know_and_one_that_is_gone_are_findings(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup
) -> None:
    store, manifest = taken_backup.store, taken_backup.manifest
    foreign = manifest.backup_id[:-6] + "ffffff"
    key = manifest_key("daily", foreign)
    content = replace(
        manifest, backup_id=foreign, archive=replace(manifest.archive, key=archive_key("daily", foreign))
    ).to_json()
    original = store.get(manifest_key("daily", manifest.backup_id))
    store.s3.put_object(Bucket=store.bucket, Key=key, Body=content)
    store.s3.delete_object(Bucket=store.bucket, Key=manifest_key("daily", manifest.backup_id))
    try:
        answer = cli.here("evidence", "verify", SOURCE)
    finally:
        store.s3.delete_object(Bucket=store.bucket, Key=key)
        store.s3.put_object(Bucket=store.bucket, Key=manifest_key("daily", manifest.backup_id), Body=original)
    assert answer.code == 4
    assert f"backup {foreign} is in the store and has no record" in answer.out
    assert f"backup {manifest.backup_id} was recorded, is gone, and no deletion was recorded" in answer.out


@pytest.mark.parametrize("action", ["verify", "export"])
def test_a_record_that_was_deleted_ends_the_command_with_its_own_exit_code(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup, stack: Stack, tmp_path: Path, action: str
) -> None:
    store, key, owner = taken_backup.store, record_key(SOURCE, 1), owner_of(stack)
    content = store.get(key)
    owner.delete_object(Bucket=store.bucket, Key=key)
    assert cli.here("evidence", "keygen", "--output", str(tmp_path / "key")).code == 0
    more = ("--output", str(tmp_path / "evidence.tar"), "--key", str(tmp_path / "key")) if action == "export" else ()
    try:
        answer = cli.here("evidence", action, SOURCE, *more)
    finally:
        for version in owner.list_object_versions(Bucket=store.bucket, Prefix=key).get("DeleteMarkers", []):
            owner.delete_object(Bucket=store.bucket, Key=key, VersionId=version["VersionId"])
    assert store.get(key) == content
    assert answer.code == 4
    assert "record 1: is missing" in answer.out + answer.err
