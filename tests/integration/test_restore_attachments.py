"""Files put back: into a folder and into a bucket, never over others unasked, compared by hash."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.backup.attachments.record import AttachedFile
from include.backup.attachments.restore import chosen_files, plan_files, restore_files
from include.backup.attachments.targets import PART_BYTES, BucketTarget, FileTarget, FolderTarget
from include.backup.backup_id import parse_backup_id
from include.backup.connections import StoreConnection
from include.backup.errors import (
    MemberHashError,
    ObjectColdError,
    ParameterError,
    RestoreDiffersError,
    RestoreError,
)
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.steps.context import StepContext
from include.backup.store import Encryption, ObjectStore
from include.local.stack import Stack
from tests.integration.test_attachments import HOSTILE
from tests.support.command_line import SOURCE, CommandLine, restore_on_record, store_json
from tests.support.contexts import ContextMaker
from tests.support.file_buckets import NOVEMBER, FileSource
from tests.support.restores import Marks
from tests.support.store_owner import owner_of, owners_connection

pytest_plugins = ["tests.support.cli_fixtures"]
BIG = os.urandom(PART_BYTES + 12345)


@pytest.fixture(scope="module")
def files(stack: Stack, policy_source: SourcePolicy, tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    make = ContextMaker.of(stack, policy_source, tmp_path_factory.mktemp("files"))
    return FileSource.on(stack, make, test=__name__)


@pytest.fixture(scope="module")
def archived(files: FileSource) -> StepContext:
    """Two archives, the second of which needs the first: a big file is in that one only."""
    files.put("big.bin", BIG, ContentType="video/mp4")
    files.archive()
    files.put("users/1/note.txt", b"note", ContentType="text/plain", Metadata={"owner": "ann"})
    for number, key in enumerate(HOSTILE[:6]):
        files.put(key, f"content {number}".encode())
    return files.archive(due=NOVEMBER)


def put_back(ctx: StepContext, target: FileTarget, *, overwrite: bool = False, prefix: str = "") -> Any:
    manifest = ctx.catalog.manifest(ctx.backup_id)
    plan = plan_files(manifest, chosen_files(manifest, bucket=None, prefix=prefix), target, overwrite=overwrite)
    marks = Marks(ctx.store, ctx.source.name)
    report = restore_files(plan, target, store=ctx.store, catalog=ctx.catalog, progress=marks.at)
    assert marks.seen.keys() == set(plan.archives)
    return report


def manifest_of(ctx: StepContext) -> Manifest:
    return ctx.catalog.manifest(ctx.backup_id)


def test_files_go_into_a_folder_and_none_leaves_it(archived: StepContext, tmp_path: Path) -> None:
    root = tmp_path / "out"
    report = put_back(archived, FolderTarget(root))

    attachments = manifest_of(archived).attachments
    assert attachments is not None
    assert (report.written, report.compared) == (len(attachments.files), len(attachments.files)) == (8, 8)
    for file in attachments.files:
        assert hashlib.sha256((root / file.member).read_bytes()).hexdigest() == file.sha256
    found = [path for path in tmp_path.rglob("*") if path.is_file() and "staging" not in path.parts]
    assert len(found) == 8
    assert put_back(archived, FolderTarget(root)).written == 0  # a second call finds all of it


def test_files_go_into_a_bucket_with_their_keys_types_and_metadata(archived: StepContext, files: FileSource) -> None:
    new = f"{files.name}-new"
    files.s3.create_bucket(Bucket=new)
    store = ObjectStore.connect(files.attachments, bucket=new)

    report = put_back(archived, BucketTarget(store, encryption=Encryption(algorithm=None)))

    assert report.compared == 8
    keys = {item["Key"] for item in files.s3.list_objects_v2(Bucket=new)["Contents"]}
    assert keys == {"big.bin", "users/1/note.txt", *HOSTILE[:6]}
    note = files.s3.get_object(Bucket=new, Key="users/1/note.txt")
    assert (note["ContentType"], note["Metadata"], note["Body"].read()) == ("text/plain", {"owner": "ann"}, b"note")
    assert files.s3.get_object(Bucket=new, Key="big.bin")["Body"].read() == BIG


def test_a_file_with_other_content_is_not_replaced_unasked(archived: StepContext, tmp_path: Path) -> None:
    root, target = tmp_path / "out", FolderTarget(tmp_path / "out")
    mine = root / f"files/{parse_bucket(archived)}/users/1/note.txt"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    report = put_back(archived, target)
    assert (report.written, report.compared, report.left) == (7, 7, 1)  # the others are not kept from whoever lost them
    assert list(report.lines())[1].startswith("1 files there have other content and were left as they are")
    assert mine.read_bytes() == b"mine"
    report = put_back(archived, target, overwrite=True)
    assert (report.written, report.compared, report.left, len([*report.lines()])) == (1, 8, 0, 1)
    assert mine.read_bytes() == b"note"


def parse_bucket(ctx: StepContext) -> str:
    attachments = manifest_of(ctx).attachments
    assert attachments is not None
    return attachments.buckets[0]


def test_files_are_not_put_through_links(archived: StepContext, tmp_path: Path) -> None:
    root, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "files").symlink_to(outside)
    with pytest.raises(RestoreError, match="is a link; files are not put through links"):
        put_back(archived, FolderTarget(root))
    assert list(outside.iterdir()) == []


def test_a_damaged_file_is_named_and_not_written(archived: StepContext, tmp_path: Path) -> None:
    manifest = manifest_of(archived)
    member = manifest.member(f"files/{parse_bucket(archived)}/users/1/note.txt")
    good = b"".join(archived.store.read(archived.archive_key, 0, manifest.archive.size))
    bad = bytearray(good)
    bad[member.offset] ^= 1
    where = {"Bucket": archived.store.bucket, "Key": archived.archive_key}
    archived.store.s3.put_object(**where, Body=bytes(bad))
    with pytest.raises(MemberHashError, match=r"users/1/note\.txt is damaged .* it was not written"):
        put_back(archived, FolderTarget(tmp_path / "out"), prefix="users/")
    archived.store.s3.put_object(**where, Body=good)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_target_that_does_not_keep_what_is_written_is_found_out(archived: StepContext, tmp_path: Path) -> None:
    class Forgetful(FolderTarget):
        def write(self, file: AttachedFile, chunks: Iterator[bytes]) -> None:
            super().write(file, iter([b"".join(chunks)[:-1]]))

    with pytest.raises(RestoreDiffersError, match=r"1 files in .* are not what was archived: .*note\.txt"):
        put_back(archived, Forgetful(tmp_path / "out"), prefix="users/")


def test_nothing_that_is_meant_is_an_error(archived: StepContext) -> None:
    with pytest.raises(ParameterError, match="has no file below 'nowhere/'"):
        chosen_files(manifest_of(archived), bucket=None, prefix="nowhere/")


@pytest.fixture(scope="module")
def of_the_policy(stack: Stack, policy_source: SourcePolicy, tmp_path_factory: pytest.TempPathFactory) -> StepContext:
    """An archive of the files of the policy's own source, which the command line knows."""
    connection = StoreConnection.from_spec(stack.settings().connection("pulse_messages_storage"))
    make = ContextMaker.of(stack, policy_source, tmp_path_factory.mktemp("policy"))
    source = FileSource(
        name="attachments", s3=None, make=make, source=policy_source, attachments=connection, superuser=""
    )
    return source.archive()


def test_the_command_line_shows_first_and_puts_back_then(
    cli: CommandLine, of_the_policy: StepContext, tmp_path: Path
) -> None:
    ctx = of_the_policy
    out = tmp_path / "restored"
    arguments = ("restore-attachments", "pulse_messages", ctx.backup_id, "--to-folder", str(out), "--json")

    preview = cli.here(*arguments, "--dry-run").document["preview"]
    assert preview["missing"] == preview["writes"] >= 200
    assert not out.exists()
    assert cli.here(*arguments).code == 2  # nobody is there to say yes
    done = cli.here(*arguments, "--yes", "--reason", "lost files").document
    report = done["report"]
    assert report["written"] == report["compared"] == preview["missing"]
    facts = restore_on_record(ctx.store, done)
    assert (facts["reason"], facts["production"], facts["written"]) == ("lost files", False, report["written"])
    assert (facts["backup_id"], facts["target"]) == (ctx.backup_id, str(out))

    shown = cli.here("show", "pulse_messages", ctx.backup_id)
    assert "all as storage.objects says" in shown.out
    assert "bytes read back" in shown.out
    assert [word for word in ("not carried", "tables", "pg_restore") if word in shown.out] == []
    full = str(parse_backup_id(ctx.backup_id)).replace("_attachments_", "_full_")
    assert "not carried  files of Supabase Storage" in cli.here("show", "pulse_messages", full).out
    assert cli.here(*arguments[:2], full, *arguments[3:], "--dry-run").document["preview"]["same"] == report["written"]
    refused = cli.here("restore-attachments", "pulse_messages", ctx.backup_id, "--to-bucket", "nowhere-at-all", "--yes")
    assert refused.code == 3
    assert "nowhere-at-all" in refused.err


def test_files_that_are_put_back_into_their_own_bucket_are_on_record_as_production(
    cli: CommandLine, of_the_policy: StepContext, stack: Stack
) -> None:
    own = parse_bucket(of_the_policy)
    lost, changed, *_ = chosen_files(manifest_of(of_the_policy), bucket=None, prefix="")
    owner = owner_of(stack)
    owner.delete_object(Bucket=own, Key=lost.key)
    command = cli.with_environment(AIRFLOW_CONN_OWNER=store_json(owners_connection(stack)))
    into = ("--to-bucket", own, "--connection", "owner", "--yes", "--json")
    good = owner.get_object(Bucket=own, Key=changed.key)["Body"].read()
    owner.put_object(Bucket=own, Key=changed.key, Body=b"newer")
    try:
        done = command.here("restore-attachments", SOURCE, of_the_policy.backup_id, *into)
        assert owner.get_object(Bucket=own, Key=changed.key)["Body"].read() == b"newer"
    finally:
        owner.put_object(Bucket=own, Key=changed.key, Body=good)
    report = done.document["report"]
    assert (done.code, report["written"], report["left"]) == (4, 1, 1), done.err
    assert hashlib.sha256(owner.get_object(Bucket=own, Key=lost.key)["Body"].read()).hexdigest() == lost.sha256
    assert restore_on_record(of_the_policy.store, done.document)["production"] is True


def test_an_archive_in_glacier_says_that_it_has_to_be_thawed_and_the_command_line_does_it(
    of_the_policy: StepContext, tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.backup.steps import change_class

    of_the_policy.kind = "attachments"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(change_class, "archives_of_run", lambda ctx: [ctx.backup_id])
        change_class.run(of_the_policy)
    with pytest.raises(ObjectColdError, match="have it thawed"):
        put_back(of_the_policy, FolderTarget(tmp_path / "out"))
    monkeypatch.setattr("include.backup.cli.thaw.time", SimpleNamespace(sleep=lambda seconds: time.sleep(0.1)))
    command = ("thaw", "pulse_messages", of_the_policy.backup_id)
    assert cli.here(*command, "--dry-run", "--json").document["state"] == "frozen"
    done = cli.here(*command, "--thaw-tier", "Bulk", "--wait", "--json")
    assert (done.code, done.document["state"]) == (0, "readable"), done.err
    assert "thaw was asked for at the tier Bulk (the cheapest price)" in done.err
    assert cli.here(*command, "--dry-run", "--json").document["state"] == "readable"
    put_back(of_the_policy, FolderTarget(tmp_path / "thawed"))
