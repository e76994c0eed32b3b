"""Cleanup and holds from the command line, on a real versioned store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.backup_id import make_backup_id
from include.backup.catalog import archive_key, manifest_key
from include.backup.store import ObjectStore
from tests.support.command_line import SOURCE, CommandLine
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]
AGE = timedelta(days=30)


@pytest.fixture
def expired(taken_backup: StoredBackup) -> Iterator[str]:
    """A backup of thirty days ago, each of its objects in two versions."""
    store, manifest = taken_backup.store, taken_backup.manifest
    then = datetime.now(tz=UTC) - AGE
    backup_id = make_backup_id(source=SOURCE, tier="daily", kind="full", run_after=then, dag_id="old", run_id="old")
    snapshot = replace(manifest.dump.snapshot, time=then)
    old = replace(
        manifest,
        backup_id=backup_id,
        dump=replace(manifest.dump, snapshot=snapshot),
        members=(),
        archive=replace(manifest.archive, key=archive_key("daily", backup_id), size=3),
    )
    for _ in range(2):
        store.s3.put_object(Bucket=store.bucket, Key=archive_key("daily", backup_id), Body=b"old")
        store.s3.put_object(Bucket=store.bucket, Key=manifest_key("daily", backup_id), Body=old.to_json())
    yield backup_id
    for version in versions(store, backup_id):
        store.s3.delete_object(Bucket=store.bucket, Key=version["Key"], VersionId=version["VersionId"])


def versions(store: ObjectStore, backup_id: str) -> list[Any]:
    page = store.s3.list_object_versions(Bucket=store.bucket, Prefix=f"daily/{backup_id}")
    return [*page.get("Versions", []), *page.get("DeleteMarkers", [])]


def test_a_dry_run_shows_what_would_go_and_a_real_one_removes_every_version(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup, expired: str
) -> None:
    shown = cli.run("cleanup", SOURCE)
    assert shown.code == 0, shown.err
    assert expired in shown.out
    assert "nothing was changed; --delete does it" in shown.out
    assert len(versions(taken_backup.store, expired)) == 4
    done = cli.run("cleanup", SOURCE, "--delete", "--json")
    assert done.code == 0, done.err
    assert [item["name"] for item in done.document["items"] if item["what"] == "backup"] == [expired]
    assert versions(taken_backup.store, expired) == []
    left = [backup["backup_id"] for backup in cli.here("list", SOURCE, "--json").document["backups"]]
    assert taken["backup_id"] in left
    assert expired not in left
    # The deletion is evidence, and the ledger fits the bucket.
    assert cli.here("evidence", "verify", SOURCE).code == 0


def test_a_hold_keeps_what_has_expired_until_it_is_released(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup, expired: str
) -> None:
    held = cli.run("hold", "add", SOURCE, expired, "--reason", "investigation 12", "--json").document
    assert cli.here("cleanup", SOURCE, "--delete").code == 0
    assert len(versions(taken_backup.store, expired)) == 4
    assert f"{expired} kept: on hold (held by " in cli.here("cleanup", SOURCE, "--all").out
    listed = cli.here("hold", "list", SOURCE)
    assert "investigation 12" in listed.out
    released = cli.here("hold", "release", SOURCE, held["hold_id"], "--reason", "it is over")
    assert released.code == 0, released.err
    assert "nothing is held" in cli.here("hold", "list", SOURCE).out
    assert "it is over" in cli.here("hold", "list", SOURCE, "--all").out
    assert cli.here("cleanup", SOURCE, "--delete").code == 0
    assert versions(taken_backup.store, expired) == []


def test_a_hold_on_nothing_is_refused(cli: CommandLine, taken: dict[str, Any]) -> None:
    missing = taken["backup_id"][:-6] + "000000"
    answer = cli.here("hold", "add", SOURCE, missing, "--reason", "for the auditor")
    assert answer.code == 2
    assert f"has no backup {missing}" in answer.error


def test_unfinished_uploads_of_now_are_kept(
    cli: CommandLine, taken: dict[str, Any], taken_backup: StoredBackup
) -> None:
    store, key = taken_backup.store, f"daily/{taken['backup_id'][:-6]}111111.tar"
    upload = store.s3.create_multipart_upload(Bucket=store.bucket, Key=key)
    try:
        assert cli.here("cleanup", SOURCE, "--delete").code == 0
        assert upload["UploadId"] in [upload_id for _, upload_id, _ in store.unfinished(key)]
    finally:
        store.abort(key, upload["UploadId"])
    assert list(store.unfinished(key)) == []
