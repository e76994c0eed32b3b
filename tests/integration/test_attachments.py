"""Files and database as one recovery point: real buckets, real dumps, and whatever users call their files."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.backup.attachments import collect
from include.backup.attachments.bucket import FileBucket
from include.backup.attachments.names import parent_keys
from include.backup.backup_id import parse_backup_id
from include.backup.connection_spec import Secret
from include.backup.connections import StoreConnection
from include.backup.errors import (
    BucketMissingError,
    ParameterError,
    ProofFailedError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.retention.gather import gather, rules_of
from include.backup.steps import archive_attachments, copy_yearly, restore_test, upload
from include.backup.steps.context import StepContext
from include.backup.store import ObjectStore
from include.local.ports import free_port_base
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, run_chain
from tests.support.file_buckets import NOVEMBER, FileSource, names
from tests.support.programs import unpack
from tests.support.store_owner import owners_connection

HOSTILE = (
    "../../etc/passwd",
    "/absolute/path",
    "./here",
    "a/../../b",
    "a//b",
    "ends-with-slash/",
    "tab\tnew\nline",
    "bell\x07escape\x1b[31m",
    "back\\slash",
    "quote'\"$(reboot);`id`",
    "-rf",
    " leading and trailing ",
    "café/会議/é",
    "x" * 1000,
    "deep/" * 150 + "end",
    "con.",
    "folder",
    "folder/file",
    "files/looks/like/ours",
    "hashed/" + "0" * 64,
    "README.txt",
    "index.jsonl",
    "%2e%2e/percent",
)


@pytest.fixture
def root_files(stack: Stack) -> StoreConnection:
    return owners_connection(stack)


@pytest.fixture
def files(request: pytest.FixtureRequest, stack: Stack, make_context: ContextMaker) -> FileSource:
    return FileSource.on(stack, make_context, test=request.node.name)


def facts_of(ctx: StepContext) -> Any:
    facts = ctx.catalog.manifest(ctx.backup_id).attachments
    assert facts is not None
    return facts


def tar_of(ctx: StepContext, manifest: Manifest) -> tarfile.TarFile:
    content = b"".join(ctx.store.read(manifest.archive.key, 0, manifest.archive.size))
    return tarfile.open(fileobj=io.BytesIO(content))


def test_the_samples_files_and_rows_are_one_recovery_point(
    stack: Stack, make_context: ContextMaker, policy_source: SourcePolicy
) -> None:
    connection = StoreConnection.from_spec(stack.settings().connection("pulse_messages_storage"))
    whole = FileSource(
        name="attachments",
        s3=None,
        make=make_context,
        source=policy_source,
        attachments=connection,
        superuser="",
    )
    ctx = whole.archive()
    facts = facts_of(ctx)
    assert facts.agrees, facts.summary()
    assert len(facts.files) >= 200
    assert facts.recovery_point == ctx.backup_id.replace("_attachments_", "_full_")
    assert {file.content_type for file in facts.files} >= {"application/pdf", "image/png"}
    assert any(file.metadata.get("owner") for file in facts.files)
    assert read_standing(ctx.catalog, ctx.backup_id) is Standing.PROVEN


def test_files_and_rows_that_differ_are_named_in_the_manifest(files: FileSource) -> None:
    files.put("good.txt", b"good", ContentType="text/plain", Metadata={"owner": "ann"})
    files.put("extra.txt", row=False)
    files.put("changed.txt", b"old")
    files.s3.put_object(Bucket=files.name, Key="changed.txt", Body=b"newer content")
    files.rows({"missing.txt": {"size": 1}, "no-metadata.txt": None})
    files.put("no-metadata.txt", row=False)
    files.rows({"elsewhere.txt": {}}, bucket="another-bucket")

    ctx = files.archive()

    facts = facts_of(ctx)
    assert names(facts.missing) == ["missing.txt"]
    assert [(note.key, note.detail.partition(";")[0]) for note in facts.extra] == [
        ("extra.txt", "the bucket has it, the database does not")
    ]
    assert names(facts.changed) == ["changed.txt"]
    assert facts.changed[0].detail.startswith("13 bytes instead of 3, ETag ")
    assert facts.other_buckets == ("another-bucket",)
    (good,) = [file for file in facts.files if file.key == "good.txt"]
    assert (good.content_type, good.metadata) == ("text/plain", {"owner": "ann"})
    assert good.sha256 == hashlib.sha256(b"good").hexdigest()
    assert "1 missing, 1 extra, 1 changed; without the buckets another-bucket" in facts.summary()


def test_what_users_call_their_files_breaks_no_tar_and_leaves_no_folder(files: FileSource, tmp_path: Any) -> None:
    for number, key in enumerate(HOSTILE):
        files.put(key, f"content {number}".encode(), row="\0" not in key)
    ctx = files.archive()

    facts = facts_of(ctx)
    assert facts.agrees, [*map(str, (*facts.missing, *facts.extra, *facts.changed, *facts.troubled))]
    assert {file.key for file in facts.files} == set(HOSTILE)
    manifest = ctx.catalog.manifest(ctx.backup_id)
    with tar_of(ctx, manifest) as tar:
        unpack(tar, tmp_path / "out")
        assert {member.name for member in tar.getmembers()} == {member.name for member in manifest.members}
    for file in facts.files:
        body = (tmp_path / "out" / file.member).read_bytes()
        assert hashlib.sha256(body).hexdigest() == file.sha256
        assert body == f"content {HOSTILE.index(file.key)}".encode()
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "staging"}


def test_what_did_not_change_is_named_and_not_stored_again(files: FileSource) -> None:
    files.put("kept.bin", os.urandom(300_000))
    files.put("changed.txt", b"old")
    files.put("deleted.txt")
    files.put("soon-a-folder")
    first = files.archive()
    files.put("changed.txt", b"new content")
    files.put("new.txt")
    files.put("soon-a-folder/file")
    files.s3.delete_object(Bucket=files.name, Key="deleted.txt")

    second = files.archive(due=NOVEMBER)

    facts, manifest = facts_of(second), second.catalog.manifest(second.backup_id)
    held = {file.key: file.archive for file in facts.files}
    # No folder can hold a file and a folder of one name, so that the file is stored again under another.
    anew = dict.fromkeys(("changed.txt", "new.txt", "soon-a-folder", "soon-a-folder/file"))
    assert held == {"kept.bin": first.backup_id, **anew}
    members = {file.member for file in facts.files}
    assert not parent_keys(members) & members
    assert manifest.depends_on == (first.backup_id,)
    assert facts.based_on == first.backup_id
    seen = gather(second.catalog, rules_of(second.source), now=second.clock()).candidates
    assert {one.backup_id: one.needs for one in seen}[second.backup_id] == {first.backup_id}
    assert manifest.archive.size < 300_000
    assert names(facts.missing) == ["deleted.txt"]
    assert read_standing(second.catalog, second.backup_id) is Standing.PROVEN

    third = files.archive(due=NOVEMBER)  # a reference names where the bytes are, not the archive before

    assert third.catalog.manifest(third.backup_id).depends_on == (first.backup_id, second.backup_id)


@pytest.mark.long
def test_januarys_archive_names_no_other_and_is_copied_for_years(files: FileSource) -> None:
    files.put("a.txt")
    files.archive()
    january = NOVEMBER.replace(year=2027, month=1)
    full, ctx = files.contexts(due=january)
    run_chain(full, until=restore_test)
    archive_attachments.run(ctx)
    restore_test.run(ctx)
    assert ctx.catalog.manifest(ctx.backup_id).depends_on == ()

    report = copy_yearly.run(full)

    assert [parse_backup_id(copy_id).kind for copy_id in report.copies] == ["full", "attachments"]
    for copy_id in report.copies:
        assert read_standing(ctx.catalog, copy_id) is Standing.PROVEN
    copied = ctx.catalog.manifest(report.copies[1]).attachments
    assert copied is not None
    assert names(copied.files) == ["a.txt"]


@pytest.mark.long
def test_nothing_is_built_on_an_archive_whose_bytes_are_gone(files: FileSource) -> None:
    files.put("a.txt")
    first = files.archive()
    first.store.s3.delete_object(Bucket=first.store.bucket, Key=first.archive_key)
    second = files.archive(due=NOVEMBER)
    assert second.catalog.manifest(second.backup_id).depends_on == ()


def test_a_proof_sees_that_an_earlier_archive_is_gone(files: FileSource) -> None:
    files.put("a.txt")
    first = files.archive()
    second = files.archive(due=NOVEMBER)
    first.store.s3.delete_object(Bucket=first.store.bucket, Key=first.archive_key)
    with pytest.raises(ProofFailedError, match="earlier archive"):
        restore_test.run(second)
    assert read_standing(second.catalog, second.backup_id) is Standing.FAILED


def test_a_proof_sees_one_changed_byte_and_names_the_file(files: FileSource) -> None:
    files.put("a.bin", os.urandom(2000))
    files.put("b.bin", os.urandom(2000))
    ctx = files.archive()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    body = bytearray(b"".join(ctx.store.read(ctx.archive_key, 0, manifest.archive.size)))
    body[manifest.member(f"files/{files.name}/b.bin").offset + 1999] ^= 1
    ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=ctx.archive_key, Body=bytes(body))
    with pytest.raises(ProofFailedError, match=rf"file files/{files.name}/b\.bin: its bytes differ"):
        restore_test.run(ctx)


# --- meanwhile -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "event"),
    [
        (100, "vanishes"),
        pytest.param(100, "changes", marks=pytest.mark.long),
        pytest.param(collect.SMALL_BYTES + 1, "vanishes", marks=pytest.mark.long),
        (collect.SMALL_BYTES + 1, "changes"),
    ],
)
def test_a_file_that_vanishes_or_changes_before_it_is_read_is_reported(
    files: FileSource, monkeypatch: pytest.MonkeyPatch, size: int, event: str
) -> None:
    files.put("a.bin", os.urandom(size))
    files.put("b.bin", os.urandom(50))
    real = FileBucket.list

    def then_something_happens(self: FileBucket) -> Any:
        found = real(self)
        if event == "vanishes":
            files.s3.delete_object(Bucket=files.name, Key="a.bin")
        else:
            files.s3.put_object(Bucket=files.name, Key="a.bin", Body=b"newer")
        return found

    monkeypatch.setattr(FileBucket, "list", then_something_happens)
    ctx = files.archive()

    facts = facts_of(ctx)
    (note,) = facts.troubled
    assert note.key == "a.bin"
    if event == "vanishes":
        assert "vanished" in note.detail
        assert names(facts.files) == ["b.bin"]
        assert [str(item) for item in facts.missing] == [f"{files.name}/a.bin: {note.detail}"]
    else:
        assert "changed while it was read; its newer content is archived" in note.detail
        assert names(facts.files) == ["a.bin", "b.bin"]
        assert names(facts.changed) == ["a.bin"]


def test_a_large_file_that_is_replaced_in_the_middle_leaves_a_whole_tar_with_the_newer_one(
    files: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("big.bin", os.urandom(3 << 20))
    newer = os.urandom(2 << 20)
    real = FileBucket._chunks
    calls = []

    def cut(self: FileBucket, listed: Any, answer: Any) -> Iterator[bytes]:
        for chunk in real(self, listed, answer):
            yield chunk
            if not calls:
                calls.append(files.s3.put_object(Bucket=files.name, Key="big.bin", Body=newer))
                yield from self._chunks(listed, self._get(listed, len(chunk)))

    monkeypatch.setattr(FileBucket, "_chunks", cut)
    ctx = files.archive()

    facts, manifest = facts_of(ctx), ctx.catalog.manifest(ctx.backup_id)
    (file,) = facts.files
    assert file.sha256 == hashlib.sha256(newer).hexdigest()
    assert "newer content is archived" in facts.troubled[0].detail
    with tar_of(ctx, manifest) as tar:
        assert [member.name for member in tar.getmembers()].count(file.member) == 2
        last = tar.extractfile(tar.getmembers()[-2])
        assert last is not None
        assert last.read() == newer


def test_a_listing_that_leaves_files_out_is_found_out(files: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        files.put(f"{number}.txt", str(number).encode())
    real = FileBucket.list
    monkeypatch.setattr(FileBucket, "list", lambda self: {key: item for key, item in real(self).items() if key < "3"})
    facts = facts_of(files.archive())
    assert len(facts.files) == 5
    assert facts.agrees
    assert names(facts.troubled) == ["3.txt", "4.txt"]
    assert "the listing left it out; it is archived" in str(facts.troubled[0])


@pytest.mark.long
def test_a_listing_that_names_what_is_not_there_is_found_out(
    files: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.put("real.txt")
    real = FileBucket.list

    def lying(self: FileBucket) -> Any:
        found = real(self)
        return {**found, "ghost.txt": replace(found["real.txt"], key="ghost.txt")}

    monkeypatch.setattr(FileBucket, "list", lying)
    facts = facts_of(files.archive())
    assert names(facts.files) == ["real.txt"]
    assert [str(note) for note in facts.troubled] == [f"{files.name}/ghost.txt: it vanished before it was read"]


def test_a_dump_without_that_table_is_archived_and_not_called_compared(files: FileSource) -> None:
    files.put("a.txt")
    source = replace(files.source, excluded_tables=("storage.objects",))
    facts = facts_of(files.archive(source=source))
    assert facts.reconciled_with is None
    assert not facts.agrees
    assert "not compared: the dump has no table storage.objects" in facts.summary()


@pytest.mark.long
def test_a_bucket_without_files_gives_an_archive_that_says_so(files: FileSource) -> None:
    facts = facts_of(files.archive())
    assert facts.agrees
    assert facts.summary() == "0 files (0 unchanged since an earlier archive), all as storage.objects says"


# --- bad input -------------------------------------------------------------------------------------


@pytest.fixture
def stored(files: FileSource) -> StepContext:
    """The database's backup is stored; its files are to be archived."""
    files.put("a.txt")
    full, ctx = files.contexts()
    run_chain(full, until=upload)
    return ctx


@pytest.mark.long
def test_an_endpoint_that_is_away(stored: StepContext, root_files: StoreConnection) -> None:
    stored.attachments_connection = replace(root_files, endpoint_url=f"https://localhost:{free_port_base()}")
    refused(stored, StoreUnreachableError, "check the endpoint and retry")


def test_wrong_keys(stored: StepContext, stack: Stack) -> None:
    stored.attachments_connection = replace(stack.store_connection(), secret_key=Secret("wrong"))
    refused(stored, StoreDeniedError, "check the access key")


def test_a_bucket_that_does_not_exist(stored: StepContext, files: FileSource) -> None:
    policy = replace(files.source.attachments, buckets=("no-such-bucket",))  # type: ignore[type-var]
    stored.source = replace(files.source, attachments=policy)
    refused(stored, BucketMissingError, "the bucket no-such-bucket does not exist at the attachments' endpoint")


@pytest.mark.long
def test_a_source_without_attachments(stored: StepContext, files: FileSource) -> None:
    stored.source = replace(files.source, attachments=None)
    refused(stored, ParameterError, "names no attachments")


def test_a_listing_that_goes_round_in_circles(stored: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FileBucket.connect

    def circling(connection: StoreConnection, *, bucket: str, concurrency: int) -> FileBucket:
        made = real(connection, bucket=bucket, concurrency=concurrency)
        s3 = made._store.s3
        page = s3._make_api_call  # type: ignore[attr-defined]

        def call(name: str, arguments: Any) -> Any:
            answer = page(name, arguments)
            return {**answer, "IsTruncated": True, "NextContinuationToken": "x"} if name == "ListObjectsV2" else answer

        s3._make_api_call = call  # type: ignore[attr-defined]
        return made

    monkeypatch.setattr(FileBucket, "connect", circling)
    refused(stored, StoreError, "cannot list")


def refused(ctx: StepContext, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        archive_attachments.run(ctx)
    assert not ctx.manifest_is_stored()
    assert ctx.store.head(ctx.archive_key) is None
    assert "Uploads" not in ctx.store.s3.list_multipart_uploads(Bucket=ctx.store.bucket, Prefix=ctx.archive_key)


# --- kills -----------------------------------------------------------------------------------------


def test_a_kill_between_archive_and_manifest_writes_only_the_manifest(
    stored: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put_if_absent", interrupted)
        with pytest.raises(KeyboardInterrupt):
            archive_attachments.run(stored)
    before = stored.store.head(stored.archive_key)
    assert before is not None

    archive_attachments.run(stored)

    assert stored.store.head(stored.archive_key) == before
    restore_test.run(stored)
    assert not stored.staging.exists()


@pytest.mark.long
def test_an_archive_without_manifest_whose_staging_is_lost_is_made_anew(
    stored: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put_if_absent", interrupted)
        with pytest.raises(KeyboardInterrupt):
            archive_attachments.run(stored)
    stored.staging.remove()

    archive_attachments.run(stored)

    versions = stored.store.s3.list_object_versions(Bucket=stored.store.bucket, Prefix=stored.archive_key)
    assert len(versions["Versions"]) == 1
    restore_test.run(stored)


@pytest.mark.parametrize(
    "at", [pytest.param("seal", marks=pytest.mark.long), "complete", pytest.param("add", marks=pytest.mark.long)]
)
def test_a_kill_while_the_tar_grows_leaves_nothing_that_a_retry_trips_over(
    stored: StepContext, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    from include.backup.attachments import tar_upload

    with monkeypatch.context() as patch:
        patch.setattr(tar_upload.TarUpload, at, interrupted)
        patch.setattr(tar_upload, "abort_unfinished", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            archive_attachments.run(stored)
    assert stored.store.head(stored.archive_key) is None

    archive_attachments.run(stored)

    restore_test.run(stored)
    assert "Uploads" not in stored.store.s3.list_multipart_uploads(
        Bucket=stored.store.bucket, Prefix=stored.archive_key
    )
    assert archive_attachments.run(stored).already_stored


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt
