"""Archives that are kept for long, in a real store: copies for the year, another class, and kills anywhere between."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.backup import multipart_copy, storage_class
from include.backup.archive.tar import FileMember, TarLayout
from include.backup.backup_id import make_backup_id
from include.backup.catalog import proof_prefix
from include.backup.errors import (
    CopyRefusedError,
    ObjectColdError,
    ObjectDiffersError,
    ObjectExistsError,
    ParameterError,
    StoreDeniedError,
)
from include.backup.inventory import Standing, read_standing
from include.backup.manifest import Manifest, fingerprint
from include.backup.multipart import UploadPlan, upload
from include.backup.proof.record import Result
from include.backup.steps import change_class, copy_yearly, verify
from include.backup.steps.context import StepContext
from include.backup.store import ObjectStore
from include.backup.versions import current_version, older_versions
from tests.support.airflow_runs import until
from tests.support.builders import make_archive, make_manifest, make_member, make_proof
from tests.support.contexts import ContextMaker, make_run

JANUARY = datetime(2026, 1, 1, 4, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, 4, tzinfo=UTC)
PART = 1 << 16  # this store takes small parts
SIZE = 150_000

Archived = Callable[..., StepContext]


@pytest.fixture
def archived(make_context: ContextMaker, tmp_path: Path) -> Archived:
    """Return a maker of backups in the monthly tier: an archive of three parts, a manifest, a proof."""

    def make(*, proven: bool = True, due: datetime = JANUARY, **changes: Any) -> StepContext:
        ctx = make_context(tier="monthly", run=make_run(run_after=due))
        path = tmp_path / "content"
        path.write_bytes(os.urandom(SIZE))
        layout = TarLayout([FileMember(name="content", path=path, length=SIZE)], modified_at=0)
        plan = UploadPlan(
            key=ctx.archive_key,
            layout=layout,
            part_size=PART,
            concurrency=2,
            encryption=ctx.encryption,
            storage_class="STANDARD",
            tags={"tier": "monthly"},
        )
        archive = make_archive(
            key=ctx.archive_key,
            size=layout.size,
            part_size=PART,
            checksum=upload(ctx.store, plan, progress=lambda _: None).checksum,
            storage_class="GLACIER",
            first_class="STANDARD",
            kms_key_arn=ctx.encryption.kms_key_arn,
        )
        members = (make_member("content", offset=layout.members[0].offset, stored_length=SIZE, length=SIZE),)
        manifest = make_manifest(backup_id=ctx.backup_id, tier="monthly", archive=archive, members=members, **changes)
        content = manifest.to_json()
        ctx.store.put_if_absent(ctx.manifest_key, content, encryption=ctx.encryption)
        result = Result.PASSED if proven else Result.FAILED
        proof = make_proof(backup_id=ctx.backup_id, manifest_sha256=fingerprint(content), result=result, differences=())
        key = f"{proof_prefix(ctx.backup_id)}{proof.proof_id}.json"
        ctx.store.put_if_absent(key, proof.to_json(), encryption=ctx.encryption)
        return ctx

    return make


def yearly_id(ctx: StepContext) -> str:
    return make_backup_id(
        source=ctx.source.name,
        tier="yearly",
        kind="full",
        run_after=ctx.run.run_after,
        dag_id=ctx.run.dag_id,
        run_id=ctx.run.run_id,
    )


def versions_of(ctx: StepContext) -> list[tuple[str, bool]]:
    """Return class and whether it is the newest of each version of the archive."""
    found = ctx.store.s3.list_object_versions(Bucket=ctx.store.bucket, Prefix=ctx.archive_key)
    assert "DeleteMarkers" not in found
    return [(item["StorageClass"], item["IsLatest"]) for item in found["Versions"]]


def content_of(ctx: StepContext, manifest: Manifest) -> bytes:
    return b"".join(ctx.store.read(manifest.archive.key, 0, manifest.archive.size))


def unfinished(store: ObjectStore) -> list[Any]:
    return list(store.s3.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []))


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


# --- the storage class -----------------------------------------------------------------------------


def test_a_proven_archive_moves_to_its_class_and_no_old_version_is_left_to_pay_for(archived: Archived) -> None:
    ctx = archived()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    before = content_of(ctx, manifest)
    verify.run(ctx)

    report = change_class.run(ctx)

    assert (report.changed, report.left, report.removed_bytes) == (1, 0, manifest.archive.size)
    assert versions_of(ctx) == [("GLACIER", True)]
    with pytest.raises(ObjectColdError, match="have it thawed"):
        content_of(ctx, manifest)
    assert verify.run(ctx).storage_class == "GLACIER"
    assert read_standing(ctx.catalog, ctx.backup_id) is Standing.PROVEN
    ctx.store.s3.restore_object(
        Bucket=ctx.store.bucket,
        Key=ctx.archive_key,
        RestoreRequest={"Days": 1, "GlacierJobParameters": {"Tier": "Bulk"}},
    )
    head = ctx.store.s3.head_object
    until(
        lambda: 'ongoing-request="false"' in str(head(Bucket=ctx.store.bucket, Key=ctx.archive_key).get("Restore")),
        seconds=60,
        what="a thawed archive",
    )
    assert content_of(ctx, manifest) == before


def test_a_second_call_finds_the_archive_in_its_class_and_changes_nothing(archived: Archived) -> None:
    ctx = archived()
    change_class.run(ctx)
    before = current_version(ctx.store, ctx.archive_key)

    report = change_class.run(ctx)

    assert (report.changed, report.removed_bytes) == (0, 0)
    assert current_version(ctx.store, ctx.archive_key) == before


def test_an_archive_that_is_not_proven_stays_where_it_can_be_read(archived: Archived) -> None:
    ctx = archived(proven=False)
    with pytest.raises(CopyRefusedError, match="is failed, not proven: it stays where it can be read back"):
        change_class.run(ctx)
    assert versions_of(ctx) == [("STANDARD", True)]


@pytest.mark.parametrize("at", ["_copy_part", "complete"])
def test_a_kill_before_the_copy_is_complete_leaves_the_old_version_whole(
    archived: Archived, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    ctx = archived()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    with monkeypatch.context() as patch:
        patch.setattr(multipart_copy, at, interrupted)
        patch.setattr(multipart_copy, "abort_unfinished", lambda *_: None)  # a killed process cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            change_class.run(ctx)
    assert versions_of(ctx) == [("STANDARD", True)]
    assert len(content_of(ctx, manifest)) == manifest.archive.size
    assert len(unfinished(ctx.store)) == 1

    assert change_class.run(ctx).changed == 1

    assert versions_of(ctx) == [("GLACIER", True)]
    assert unfinished(ctx.store) == []


def test_a_kill_after_the_copy_leaves_both_and_the_next_try_deletes_the_old_one(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = archived()
    with monkeypatch.context() as patch:
        patch.setattr(storage_class, "_remove_older", interrupted)
        with pytest.raises(KeyboardInterrupt):
            change_class.run(ctx)
    assert versions_of(ctx) == [("GLACIER", True), ("STANDARD", False)]

    report = change_class.run(ctx)

    assert (report.changed, report.left) == (0, 0)
    assert versions_of(ctx) == [("GLACIER", True)]


def test_an_archive_that_was_damaged_meanwhile_is_not_moved(archived: Archived) -> None:
    ctx = archived()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    body = bytearray(content_of(ctx, manifest))
    body[PART + 7] ^= 1
    ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=ctx.archive_key, Body=bytes(body))
    with pytest.raises(ObjectDiffersError, match="it was not completed; the original is damaged"):
        change_class.run(ctx)
    assert versions_of(ctx) == [("STANDARD", True), ("STANDARD", False)]
    assert unfinished(ctx.store) == []


def test_an_old_version_with_other_content_is_left_and_named(
    archived: Archived, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = archived()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    body = content_of(ctx, manifest)
    ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=ctx.archive_key, Body=b"somebody else's")
    foreign = current_version(ctx.store, ctx.archive_key)
    ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=ctx.archive_key, Body=body)

    report = change_class.run(ctx)

    assert (report.changed, report.left) == (1, 2)
    assert foreign in older_versions(ctx.store, ctx.archive_key)
    assert f"version {foreign.version_id} of" in caplog.text


def test_a_copy_replaces_only_the_version_that_it_was_made_of(archived: Archived) -> None:
    ctx = archived()
    manifest = ctx.catalog.manifest(ctx.backup_id)
    plan = multipart_copy.CopyPlan(
        source=current_version(ctx.store, ctx.archive_key),
        key=ctx.archive_key,
        part_size=PART,
        checksum=manifest.archive.checksum,
        storage_class="GLACIER",
        encryption=ctx.encryption,
        tags={},
        concurrency=2,
    )
    complete = multipart_copy.complete

    def after_somebody_wrote(*arguments: Any, **options: Any) -> None:
        ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=ctx.archive_key, Body=b"somebody else's")
        complete(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multipart_copy, "complete", after_somebody_wrote)
        with pytest.raises(ObjectExistsError, match="left as it is"):
            multipart_copy.copy(ctx.store, plan, progress=lambda _: None)
    assert ctx.store.get(ctx.archive_key) == b"somebody else's"


def test_a_store_that_forbids_deleting_versions_is_warned_of_and_told(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = archived()

    def denied(*_: Any) -> None:
        raise StoreDeniedError("the store refused to delete an older version")

    monkeypatch.setattr(storage_class, "delete_version", denied)
    report = change_class.run(ctx)
    assert (report.changed, report.left) == (1, 1)
    assert report.note == "GLACIER, 1 old versions are left and paid for"
    assert versions_of(ctx) == [("GLACIER", True), ("STANDARD", False)]


# --- January's copies ------------------------------------------------------------------------------


def test_januarys_archive_is_copied_with_its_checksum_and_its_proof_and_not_dumped_again(archived: Archived) -> None:
    ctx = archived()
    original, content = ctx.catalog.read(ctx.backup_id)

    report = copy_yearly.run(ctx)

    assert report.copies == (yearly_id(ctx),)
    made = ctx.catalog.manifest(yearly_id(ctx))
    assert made.archive.key == f"yearly/{yearly_id(ctx)}.tar"
    assert (made.archive.checksum, made.archive.size) == (original.archive.checksum, original.archive.size)
    assert (made.tier, made.archive.storage_class) == ("yearly", "DEEP_ARCHIVE")
    assert made.copy_of is not None
    assert (made.copy_of.backup_id, made.copy_of.manifest_sha256) == (ctx.backup_id, fingerprint(content))
    assert made.dump.snapshot == original.dump.snapshot
    assert ctx.store.head(made.archive.key).storage_class == "DEEP_ARCHIVE"  # type: ignore[union-attr]
    (proof,) = ctx.catalog.proofs(made.backup_id)
    assert proof.inherited_from is not None
    assert (proof.inherited_from.backup_id, proof.inherited_from.archive_checksum) == (
        ctx.backup_id,
        made.archive.checksum,
    )
    assert read_standing(ctx.catalog, made.backup_id) is Standing.PROVEN
    verify.verify_archive(ctx.store, made)
    assert versions_of(ctx) == [("STANDARD", True)]


def test_the_original_moves_after_the_copy_and_both_stay_whole(archived: Archived) -> None:
    ctx = archived()
    copy_yearly.run(ctx)
    change_class.run(ctx)
    again = copy_yearly.run(ctx)  # what a cleared run does: the copy is there, though the original is cold by now
    assert again.copies == (yearly_id(ctx),)
    assert versions_of(ctx) == [("GLACIER", True)]


@pytest.mark.parametrize(
    ("due", "wanted", "copies"),
    [(OCTOBER, "by month", 0), (OCTOBER, "yes", 1), (JANUARY, "no", 0), (JANUARY, "by month", 1)],
)
def test_the_month_or_the_parameter_decides(archived: Archived, due: datetime, wanted: str, copies: int) -> None:
    report = copy_yearly.run(archived(due=due), wanted=wanted)
    assert len(report.copies) == copies
    assert bool(report.why) == (copies == 0)


def test_another_parameter_is_refused(archived: Archived) -> None:
    with pytest.raises(ParameterError, match="yearly is 'maybe'; allowed: by month, yes, no"):
        copy_yearly.run(archived(), wanted="maybe")


@pytest.mark.parametrize("at", ["put_if_absent", "_inherit_proof"])
def test_a_kill_between_copy_manifest_and_proof_is_gone_on_with(
    archived: Archived, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    ctx = archived()
    with monkeypatch.context() as patch:
        owner = ObjectStore if at == "put_if_absent" else copy_yearly
        patch.setattr(owner, at, interrupted)
        with pytest.raises(KeyboardInterrupt):
            copy_yearly.run(ctx)
    key = f"yearly/{yearly_id(ctx)}.tar"
    before = current_version(ctx.store, key)
    assert read_standing_or_none(ctx) is not Standing.PROVEN

    copy_yearly.run(ctx)

    assert current_version(ctx.store, key) == before
    assert older_versions(ctx.store, key) == ()
    assert read_standing(ctx.catalog, yearly_id(ctx)) is Standing.PROVEN


def read_standing_or_none(ctx: StepContext) -> Standing | None:
    listed = {item.backup_id: item for item in ctx.catalog.list()}[yearly_id(ctx)]
    return None if listed.manifest is None else read_standing(ctx.catalog, yearly_id(ctx))


def test_a_copy_that_is_there_with_other_content_is_left_and_named(archived: Archived) -> None:
    ctx = archived()
    key = f"yearly/{yearly_id(ctx)}.tar"
    ctx.store.s3.put_object(Bucket=ctx.store.bucket, Key=key, Body=b"somebody else's")
    with pytest.raises(ObjectDiffersError, match="it was left as it is, look who wrote it"):
        copy_yearly.run(ctx)
    assert ctx.store.get(key) == b"somebody else's"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"proven": False}, "not proven"), ({"depends_on": ("another",)}, "needs 1 other archives")],
)
def test_what_would_not_stand_alone_for_years_is_not_copied(
    archived: Archived, changes: dict[str, Any], words: str
) -> None:
    ctx = archived(**changes)
    with pytest.raises(CopyRefusedError, match=words):
        copy_yearly.run(ctx)
    assert ctx.store.head(f"yearly/{yearly_id(ctx)}.tar") is None


def test_a_copy_whose_parts_the_store_hashes_itself_is_compared_by_that(
    archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS tells the SHA-256 of a copied part; one that differs must never be completed."""
    ctx = archived()
    s3 = ctx.store.s3
    real = s3.upload_part_copy

    def telling(**arguments: Any) -> Any:
        answer = real(**arguments)
        answer["CopyPartResult"]["ChecksumSHA256"] = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        return answer

    monkeypatch.setattr(s3, "upload_part_copy", telling)
    with pytest.raises(ObjectDiffersError, match="it was not completed"):
        copy_yearly.run(ctx)
    assert ctx.store.head(f"yearly/{yearly_id(ctx)}.tar") is None
    assert unfinished(ctx.store) == []
