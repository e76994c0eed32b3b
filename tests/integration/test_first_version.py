"""What the first version wrote: policy, archive, manifest and proof are still read, shown, proven and restored."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.backup.policy import load_policy
from include.backup.steps.context import open_store
from include.local.stack import Stack
from tests.support.command_line import TARGET, CommandLine, Server

pytest_plugins = ["tests.support.cli_fixtures"]
pytestmark = pytest.mark.usefixtures("new_databases")

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "first_version"
SOURCE = "first_version"
BACKUP_ID = next((FIXTURE / "daily").glob("*.tar")).stem


@pytest.fixture(scope="module")
def old(cli: CommandLine, stack: Stack) -> Iterator[CommandLine]:
    """The command line with the first version's policy, and its objects in the store as they were."""
    policy = load_policy(FIXTURE / "policy.yaml", strict=True)
    store = open_store(policy.source(SOURCE), stack.store_connection())
    files = [path for path in FIXTURE.rglob("*") if path.is_file() and path.parent != FIXTURE]
    for path in files:
        checksums: dict[str, Any] = {"ChecksumAlgorithm": "SHA256"}
        key = str(path.relative_to(FIXTURE))
        upload = store.s3.create_multipart_upload(Bucket=store.bucket, Key=key, **checksums)
        part = store.s3.upload_part(
            Bucket=store.bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=path.read_bytes(), **checksums
        )
        store.s3.complete_multipart_upload(
            Bucket=store.bucket,
            Key=key,
            UploadId=upload["UploadId"],
            MultipartUpload={
                "Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
            },
        )
    yield cli.with_environment(BACKUP_POLICY=str(FIXTURE / "policy.yaml"))
    for path in files:
        store.s3.delete_object(Bucket=store.bucket, Key=str(path.relative_to(FIXTURE)))


def test_it_is_listed_and_shown_as_proven(old: CommandLine) -> None:
    listed = old.here("list", SOURCE, "--json")
    assert listed.code == 0, listed.err
    assert BACKUP_ID in listed.out
    shown = old.here("show", SOURCE, "latest-proven", "--json")
    assert shown.code == 0, shown.err
    assert BACKUP_ID in shown.out


def test_it_is_verified_and_proven_anew(old: CommandLine) -> None:
    answer = old.here("verify", SOURCE, BACKUP_ID, "--restore-test", "--json")
    assert answer.code == 0, answer.err


def test_it_is_restored_with_every_row(old: CommandLine, cli_server: Server) -> None:
    answer = old.run("restore", SOURCE, BACKUP_ID, "--to-database", "of_old", "--create", *TARGET, "--yes", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["report"]["compared"]["differences"] == []
    with cli_server.session("of_old") as session:
        counts = session.execute(
            "SELECT (SELECT count(*) FROM public.customers), (SELECT count(*) FROM public.open_orders),"
            " (SELECT note FROM public.orders WHERE id = 7)"
        ).fetchone()
    assert counts == (100, 300, "a\nb\t7")
