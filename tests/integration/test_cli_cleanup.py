"""Cleanup and holds from the command line, on a real versioned store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from include.aws.render import render
from include.backup.backup_id import make_backup_id
from include.backup.catalog import archive_key, manifest_key
from include.backup.store import ObjectStore
from include.local.credentials import load_credentials
from include.local.s3 import BUCKET, KEY_ALIAS, REGION
from include.local.stack import Stack
from tests.support.command_line import SOURCE, CommandLine
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]
AGE = timedelta(days=30)
NO_PROXY = Config(proxies={})


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


@pytest.fixture
def in_role(stack: Stack, cli: CommandLine) -> Iterator[Callable[[str], CommandLine]]:
    """The command line with the key of a user who has one of the shipped roles and nothing else."""
    owner = load_credentials(stack.layout.credentials)
    session = boto3.Session(owner.store_root_key, owner.store_root_secret, region_name=REGION)
    iam: Any = session.client("iam", endpoint_url=stack.store.url, verify=str(stack.layout.ca), config=NO_PROXY)
    kms: Any = session.client("kms", endpoint_url=stack.store.url, verify=str(stack.layout.ca), config=NO_PROXY)
    arn = kms.describe_key(KeyId=KEY_ALIAS)["KeyMetadata"]["Arn"]
    alias = {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"}  # this store judges by the alias
    made: dict[str, str] = {}

    def command_line(role: str) -> CommandLine:
        iam.create_user(UserName=role)
        document = render(f"iam-{role}", {"BUCKET": BUCKET, "KEY_ARN": arn})
        document["Statement"].append(alias)
        iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=json.dumps(document))
        key = iam.create_access_key(UserName=role)["AccessKey"]
        made[role] = key["AccessKeyId"]
        return cli.with_environment(PULSE_S3_ACCESS_KEY=key["AccessKeyId"], PULSE_S3_SECRET_KEY=key["SecretAccessKey"])

    yield command_line
    for role, key in made.items():
        iam.delete_access_key(UserName=role, AccessKeyId=key)
        iam.delete_user_policy(UserName=role, PolicyName=role)
        iam.delete_user(UserName=role)


def test_who_writes_backups_deletes_none_and_who_cleans_up_can(
    in_role: Callable[[str], CommandLine], taken_backup: StoredBackup, expired: str
) -> None:
    refused = in_role("writer").here("cleanup", SOURCE, "--delete")
    assert len(versions(taken_backup.store, expired)) == 4
    assert "AccessDenied" in refused.out + refused.err
    done = in_role("cleaner").here("cleanup", SOURCE, "--delete")
    assert done.code == 0, done.err
    assert versions(taken_backup.store, expired) == []


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
