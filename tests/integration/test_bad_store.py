"""What is wrong with the store gets a named error that says what to do; a retry finishes what was begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from include.aws.render import render
from include.backup import multipart
from include.backup.connection_spec import Secret
from include.backup.connections import StoreConnection
from include.backup.errors import (
    ArchiveError,
    ArchiveWithoutManifestError,
    BackupError,
    BackupMissingError,
    BucketMissingError,
    FormatVersionError,
    KmsKeyError,
    ManifestWithoutArchiveError,
    ObjectDiffersError,
    ObjectExistsError,
    ObjectShortError,
    StoreDeniedError,
    StoreUnreachableError,
)
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.steps import close_staging, compress, dump, preflight, upload, verify
from include.backup.steps.context import StepContext
from include.backup.store import Encryption
from include.local.ports import free_port_base
from include.local.s3 import BUCKET
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, run_chain
from tests.support.store_owner import clients_of, owner_of


def refused(ctx: StepContext, error: type[BackupError], *words: str) -> None:
    with pytest.raises(error) as caught:
        preflight.run(ctx)
    for word in words:
        assert word in str(caught.value)
    assert not ctx.staging.exists()


def with_store(source: SourcePolicy, **changes: Any) -> SourcePolicy:
    return replace(source, store=replace(source.store, **changes))


@pytest.fixture
def staged(make_context: ContextMaker) -> StepContext:
    """A backup that is dumped and compressed but not stored."""
    ctx = make_context()
    run_chain(ctx, until=compress)
    return ctx


@pytest.fixture
def root_client(stack: Stack) -> Any:
    """The store's owner, as an S3 client."""
    return owner_of(stack)


@pytest.fixture
def reader(stack: Stack, make_context: ContextMaker) -> Iterator[StoreConnection]:
    """A user who may read the bucket and write nothing."""
    iam = clients_of(stack)("iam")
    iam.create_user(UserName="reader")
    bucket = "arn:aws:s3:::pulse-backups"
    statement = [
        {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*", "s3:Head*"], "Resource": [bucket, f"{bucket}/*"]},
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=document)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    yield replace(make_context.store, access_key=key["AccessKeyId"], secret_key=Secret(key["SecretAccessKey"]))
    iam.delete_access_key(UserName="reader", AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName="reader", PolicyName="read")
    iam.delete_user(UserName="reader")


def test_a_store_that_does_not_answer(make_context: ContextMaker) -> None:
    store = replace(make_context.store, endpoint_url=f"https://localhost:{free_port_base()}")
    refused(make_context(store=store), StoreUnreachableError, "check the endpoint")


def test_a_bucket_that_does_not_exist(make_context: ContextMaker, policy_source: SourcePolicy) -> None:
    source = with_store(policy_source, bucket="no-such-bucket")
    refused(make_context(source=source), BucketMissingError, "no-such-bucket", "store.bucket")


def test_a_wrong_secret_key(make_context: ContextMaker) -> None:
    store = replace(make_context.store, secret_key=Secret("wrong"))
    refused(make_context(store=store), StoreDeniedError, "check the access key")


def test_no_permission_to_put(make_context: ContextMaker, reader: StoreConnection) -> None:
    refused(make_context(store=reader), StoreDeniedError, "refused to write", "daily/")


def test_a_kms_key_that_does_not_exist(make_context: ContextMaker, policy_source: SourcePolicy) -> None:
    encryption = replace(policy_source.store.encryption, kms_key_id="alias/no-such-key")
    source = with_store(policy_source, encryption=encryption)
    refused(make_context(source=source), (KmsKeyError, StoreDeniedError), "alias/no-such-key")


def test_a_kms_key_that_is_disabled(make_context: ContextMaker, stack: Stack, policy_source: SourcePolicy) -> None:
    kms = clients_of(stack)("kms")
    key = kms.describe_key(KeyId="alias/pulse-backups")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    try:
        refused(make_context(), KmsKeyError, "Disabled", "alias/pulse-backups")
    finally:
        kms.enable_key(KeyId=key)


@pytest.fixture
def shipped_bucket_policy(stack: Stack, root_client: Any) -> Iterator[None]:
    """The bucket with the policy of include/aws, and with another user as the one who may delete."""
    key = clients_of(stack)("kms").describe_key(KeyId="alias/pulse-backups")["KeyMetadata"]["Arn"]
    somebody = "arn:aws:iam::000000000000:user/somebody"
    values = {"BUCKET": BUCKET, "KEY_ARN": key, "CLEANER_ROLE_ARN": somebody, "ADMIN_ROLE_ARN": somebody}
    root_client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(render("bucket-policy", values)))
    yield
    root_client.delete_bucket_policy(Bucket=BUCKET)


def test_the_shipped_bucket_policy_takes_a_backup_and_lets_its_writer_delete_none(
    make_context: ContextMaker, shipped_bucket_policy: None
) -> None:
    ctx = make_context()
    run_chain(ctx, until=verify)
    for key in (ctx.archive_key, ctx.manifest_key):
        with pytest.raises(StoreDeniedError):
            ctx.store.remove(key)
    plain = Encryption(algorithm="AES256")
    with pytest.raises(StoreDeniedError):
        ctx.store.put_if_absent(f"{ctx.archive_key}.plain", b"x", encryption=plain)
    mark = f"in_use/{ctx.backup_id}/mark.json"
    assert ctx.store.put_if_absent(mark, b"x", encryption=ctx.encryption)
    ctx.store.remove(mark)
    assert ctx.store.head(mark) is None


def test_an_archive_that_is_there_with_other_content(staged: StepContext) -> None:
    staged.store.s3.put_object(Bucket=staged.store.bucket, Key=staged.archive_key, Body=b"somebody else's")
    with pytest.raises(ObjectExistsError, match="already there with other content"):
        upload.run(staged)
    assert staged.store.get(staged.archive_key) == b"somebody else's"
    assert not staged.manifest_is_stored()


def test_a_manifest_that_is_there_with_other_content(staged: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepContext, "manifest_is_stored", lambda _: False)
    staged.store.s3.put_object(Bucket=staged.store.bucket, Key=staged.manifest_key, Body=b"{}")
    with pytest.raises(ObjectExistsError, match="left as it is"):
        upload.run(staged)
    assert staged.store.get(staged.manifest_key) == b"{}"


def trial_of(ctx: StepContext) -> str:
    """Leave what a preflight leaves that is killed while it tries whether the archive's key may be written."""
    before = unfinished(ctx)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ctx.store.s3, "abort_multipart_upload", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            ctx.store.check_put(ctx.archive_key, ctx.encryption)
    (upload_id,) = unfinished(ctx) - before
    return upload_id


def unfinished(ctx: StepContext) -> set[str]:
    return {upload_id for _, upload_id, _ in ctx.store.unfinished(ctx.archive_key)}


def test_an_upload_that_was_killed_goes_on_where_it_stopped(
    staged: StepContext, policy_source: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of 5 MiB; the first try dies after two, and finds what a preflight began that was killed before it."""
    small = with_store(policy_source, part_size_mib=5, concurrency=1)
    monkeypatch.setattr(staged, "source", small)
    monkeypatch.setattr(upload, "MEBIBYTE", 80_000)
    trial = trial_of(staged)
    real = multipart._Sender.send

    def dying(self: multipart._Sender, number: int) -> dict[str, Any]:
        if number == 3:
            raise KeyboardInterrupt
        return real(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(multipart._Sender, "send", dying)
        with pytest.raises(KeyboardInterrupt):
            upload.run(staged)
    assert not staged.manifest_is_stored()
    assert trial not in unfinished(staged)
    trial_of(staged)

    report = upload.run(staged)

    assert report.resumed_parts == 2
    assert report.parts == 3
    verify.run(staged)
    assert "Uploads" not in staged.store.s3.list_multipart_uploads(Bucket=staged.store.bucket)


def test_an_upload_that_was_killed_before_its_manifest_writes_only_that(
    staged: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(staged.store), "put_if_absent", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            upload.run(staged)
    before = staged.store.head(staged.archive_key)

    report = upload.run(staged)

    assert before == staged.store.head(staged.archive_key)
    assert report.resumed_parts == report.parts
    verify.run(staged)


def test_a_manifest_that_nobody_could_read_is_not_stored(staged: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    real = upload._manifest

    def doubled(*arguments: Any) -> Manifest:
        manifest = real(*arguments)
        return replace(manifest, members=(*manifest.members, manifest.members[-1]))

    with monkeypatch.context() as patch:
        patch.setattr(upload, "_manifest", doubled)
        with pytest.raises(ArchiveError, match="is there twice"):
            upload.run(staged)
    assert not staged.manifest_is_stored()
    upload.run(staged)
    verify.run(staged)


def test_an_upload_whose_answer_was_lost_is_the_one_that_is_found(
    staged: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again by itself, and then the object is there: by this very upload."""
    s3 = staged.store.s3
    real = s3.complete_multipart_upload

    def twice(**arguments: Any) -> Any:
        real(**arguments)
        raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "CompleteMultipartUpload")

    with monkeypatch.context() as patch:
        patch.setattr(s3, "complete_multipart_upload", twice)
        assert upload.run(staged).already_stored is False
    verify.run(staged)
    assert unfinished(staged) == set()


def test_staging_is_kept_while_nothing_is_stored(staged: StepContext) -> None:
    with pytest.raises(BackupError, match="is not stored"):
        close_staging.run(staged)
    assert staged.staging.dump.is_dir()


def test_an_archive_without_a_manifest_is_no_backup(staged: StepContext) -> None:
    staged.store.s3.put_object(Bucket=staged.store.bucket, Key=staged.archive_key, Body=b"x")
    with pytest.raises(ArchiveWithoutManifestError, match="upload never finished"):
        staged.catalog.manifest(staged.backup_id)


def test_a_backup_that_does_not_exist(make_context: ContextMaker) -> None:
    ctx = make_context()
    with pytest.raises(BackupMissingError, match=r"python -m include\.backup list"):
        ctx.catalog.manifest(ctx.backup_id)


@pytest.fixture
def stored(make_context: ContextMaker) -> StepContext:
    """A backup in the store that a test may damage."""
    ctx = make_context()
    run_chain(ctx, until=upload)
    return ctx


def test_a_manifest_whose_archive_is_gone(stored: StepContext) -> None:
    stored.store.s3.delete_object(Bucket=stored.store.bucket, Key=stored.archive_key)
    with pytest.raises(ManifestWithoutArchiveError, match="look for another version"):
        verify.run(stored)


def test_an_archive_that_became_shorter(stored: StepContext) -> None:
    content = stored.store.get(stored.archive_key)
    stored.store.s3.put_object(Bucket=stored.store.bucket, Key=stored.archive_key, Body=content[:-512])
    with pytest.raises(ObjectShortError, match=r"has \d+ bytes and its manifest says \d+"):
        verify.run(stored)


def test_an_archive_of_the_same_size_with_another_byte(stored: StepContext) -> None:
    content = bytearray(stored.store.get(stored.archive_key))
    content[len(content) // 2] ^= 1
    stored.store.s3.put_object(Bucket=stored.store.bucket, Key=stored.archive_key, Body=bytes(content))
    with pytest.raises(ObjectDiffersError, match="differs from its manifest: checksum"):
        verify.run(stored)


def test_an_archive_that_is_stored_without_its_key(stored: StepContext) -> None:
    content = stored.store.get(stored.archive_key)
    manifest = stored.catalog.manifest(stored.backup_id)
    upload_id = stored.store.s3.create_multipart_upload(
        Bucket=stored.store.bucket, Key=stored.archive_key, ChecksumAlgorithm="SHA256"
    )["UploadId"]
    part = stored.store.s3.upload_part(
        Bucket=stored.store.bucket,
        Key=stored.archive_key,
        UploadId=upload_id,
        PartNumber=1,
        Body=content,
        ChecksumAlgorithm="SHA256",
    )
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    stored.store.s3.complete_multipart_upload(
        Bucket=stored.store.bucket,
        Key=stored.archive_key,
        UploadId=upload_id,
        MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
    )
    assert stored.store.head(stored.archive_key).checksum == manifest.archive.checksum  # type: ignore[union-attr]
    with pytest.raises(ObjectDiffersError, match="encryption none"):
        verify.run(stored)


def test_a_manifest_of_an_unknown_version(stored: StepContext) -> None:
    content = json.loads(stored.store.get(stored.manifest_key))
    content["format_version"] = 99
    body = json.dumps(content).encode()
    stored.store.s3.put_object(Bucket=stored.store.bucket, Key=stored.manifest_key, Body=body)
    with pytest.raises(FormatVersionError, match="format_version 99"):
        verify.run(stored)


def test_a_store_without_checksums_is_read_back(stored: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    store = type(stored.store)
    real = store.head

    def forgetful(self: Any, key: str) -> Any:
        found = real(self, key)
        return found if found is None else replace(found, checksum=None)

    monkeypatch.setattr(store, "head", forgetful)
    assert "read back" in verify.run(stored).method


def test_dump_again_after_staging_was_lost_needs_no_person(make_context: ContextMaker) -> None:
    ctx = make_context()
    run_chain(ctx, until=dump)
    ctx.staging.remove()
    with pytest.raises(BackupError, match="clear the run from `preflight`"):
        compress.run(ctx)
    run_chain(ctx)
    assert ctx.manifest_is_stored()


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt
