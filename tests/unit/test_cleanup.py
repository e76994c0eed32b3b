"""Cleanup of a store in memory: what goes, in which order, with which evidence, and what is left alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.backup.catalog import archive_key, manifest_key
from include.backup.evidence import EventKind
from include.backup.evidence.check import check_ledger
from include.backup.holds import add_hold
from include.backup.in_use import reading
from include.backup.proof.scratch_lease import Lease
from include.backup.retention.cleanup import CleanupPlan, plan_cleanup
from include.backup.retention.execute import CleanupReport, dry_run, execute
from include.backup.retention.plan import Reason
from tests.support.aged_bucket import DAY, NOW, PLAIN, Bucket
from tests.support.builders import make_archive, make_manifest


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.deletion.BACKOFF_SECONDS", 0.0)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def clean(bucket: Bucket, now: datetime = NOW) -> CleanupReport:
    ctx = bucket.context(now)
    return execute(ctx, plan_cleanup(ctx))


def reasons(plan: CleanupPlan) -> dict[str, Reason]:
    return {decision.backup.backup_id: decision.reason for decision in plan.decisions}


def test_expired_backups_go_with_their_manifests_and_their_proofs_stay(bucket: Bucket) -> None:
    old, new = bucket.backup(8), bucket.backup(1)
    report = clean(bucket)
    assert bucket.archives() == bucket.manifests() == {new}
    assert [one.name for one in report.removed] == [old]
    assert report.failures == ()
    assert any(key.startswith(f"proofs/{old}/") for key in bucket.s3.visible())
    check = check_ledger(bucket.store, "pulse_messages")
    assert check.intact
    assert check.once == {f"deletion:{old}"}
    assert "removed 1 backup (4096 bytes), kept 1 backups" in report.line()


def test_the_report_is_kept_for_the_audit(bucket: Bucket) -> None:
    old = bucket.backup(8)
    bucket.backup(1)
    clean(bucket)
    (key,) = (key for key in bucket.s3.visible() if key.startswith("audit/pulse_messages/cleanup/2026/06/01/"))
    kept = json.loads(bucket.store.get(key))
    assert any(line.startswith(f"{old} expires: expired") for line in kept["decisions"])


def test_a_plan_and_a_dry_run_change_nothing(bucket: Bucket) -> None:
    for age in (1, 8, 9):
        bucket.backup(age)
    before = json.dumps(sorted(bucket.s3.keys))
    ctx = bucket.context()
    report = dry_run(ctx, plan_cleanup(ctx))
    assert "would remove 2 backup" in report.line()
    assert json.dumps(sorted(bucket.s3.keys)) == before


def test_a_second_cleanup_finds_nothing_to_do(bucket: Bucket) -> None:
    for age in (1, 8, 9, 30):
        bucket.backup(age)
    clean(bucket)
    assert plan_cleanup(bucket.context()).nothing_to_do


def test_expired_backups_are_kept_while_no_newer_one_is_proven(bucket: Bucket) -> None:
    old = [bucket.backup(age) for age in (8, 9)]
    new = bucket.backup(1, proven=False)
    plan = plan_cleanup(bucket.context())
    assert reasons(plan) == {old[0]: Reason.NEWEST_PROVEN, old[1]: Reason.EXPIRED, new: Reason.WITHIN}


def test_a_failed_proof_proves_nothing(bucket: Bucket) -> None:
    old, new = bucket.backup(8), bucket.backup(1)
    key = next(key for key in bucket.s3.visible() if key.startswith(f"proofs/{new}/"))
    content = json.loads(bucket.store.get(key))
    bucket.s3.add(key, json.dumps({**content, "result": "failed"}).encode())
    assert reasons(plan_cleanup(bucket.context()))[old] is Reason.NEWEST_PROVEN


def test_attachments_that_a_kept_archive_refers_to_are_kept_until_none_does(bucket: Bucket) -> None:
    first = bucket.backup(400, tier="monthly", kind="attachments")
    second = bucket.backup(380, tier="monthly", kind="attachments", depends_on=(first,))
    third = bucket.backup(10, tier="monthly", kind="attachments", depends_on=(first,))
    found = reasons(plan_cleanup(bucket.context()))
    assert (found[first], found[second], found[third]) == (Reason.NEEDED, Reason.EXPIRED, Reason.WITHIN)
    clean(bucket)
    assert bucket.archives() == {first, third}
    later = NOW + timedelta(days=400)
    newest = bucket.backup(-395, tier="monthly", kind="attachments")
    clean(bucket, later)
    assert bucket.archives() == {newest}


def test_a_scratch_server_goes_once_its_holder_is_dead_or_its_lease_is_old(bucket: Bucket, tmp_path: Path) -> None:
    mine = Lease.of_this_process(now=NOW)
    for name, lease in (
        ("scratch-00000001", mine),
        ("scratch-00000002", replace(mine, process_started=1)),
        ("scratch-00000003", replace(mine, created=(NOW - timedelta(hours=13)).isoformat())),
    ):
        (tmp_path / name).mkdir()
        lease.write(tmp_path / name)
    ctx = replace(bucket.context(), scratch_root=tmp_path)
    plan = plan_cleanup(ctx)
    dry_run(ctx, plan)
    assert len(list(tmp_path.glob("scratch-*"))) == 3
    report = execute(ctx, plan)
    assert [one.name for one in report.removed] == ["scratch-00000002", "scratch-00000003"]
    assert [path.name for path in tmp_path.glob("scratch-*")] == ["scratch-00000001"]


def test_a_manifest_that_cannot_be_read_keeps_its_backup(bucket: Bucket) -> None:
    old = bucket.backup(8)
    bucket.backup(1)
    bucket.s3.add(manifest_key("daily", old), b"{}")
    assert reasons(plan_cleanup(bucket.context()))[old] is Reason.UNKNOWN


def test_a_manifest_that_cannot_be_read_keeps_what_it_may_need(bucket: Bucket) -> None:
    needed, other = (bucket.backup(age, tier="monthly", kind="attachments") for age in (1100, 1050))
    newer = bucket.backup(1000, tier="monthly", kind="attachments", depends_on=(needed,))
    later = bucket.backup(999, tier="monthly", kind="attachments")
    bucket.backup(1, tier="monthly", kind="attachments")
    bucket.s3.add(manifest_key("monthly", newer), b'{"format_version": 99}', modified=NOW - 1000 * DAY)
    found = reasons(plan_cleanup(bucket.context()))
    assert [found[one] for one in (needed, other, newer, later)] == [
        Reason.NEEDED,
        Reason.NEEDED,
        Reason.UNKNOWN,
        Reason.EXPIRED,
    ]


def test_what_is_held_or_read_is_kept(bucket: Bucket) -> None:
    held, read, gone = (bucket.backup(age) for age in (8, 9, 10))
    bucket.backup(1)
    ctx = bucket.context()
    add_hold(bucket.store, ctx.ledger, encryption=PLAIN, backup_id=held, reason="court order", set_by="ann", now=NOW)
    manifest = replace(make_manifest(), backup_id=read, archive=make_archive(encryption="none"))
    with reading(bucket.store, manifest, what="a restore", clock=lambda: NOW):
        assert {held, read} <= bucket.archives()
        clean(bucket)
        assert {held, read} <= bucket.archives()
        assert gone not in bucket.archives()


def test_a_restore_that_begins_after_the_plan_keeps_what_it_uses(bucket: Bucket) -> None:
    old = bucket.backup(8)
    bucket.backup(1)
    ctx = bucket.context()
    plan = plan_cleanup(ctx)
    manifest = replace(make_manifest(), backup_id=old, archive=make_archive(encryption="none"))
    with reading(bucket.store, manifest, what="a restore into x", clock=lambda: NOW):
        report = execute(ctx, plan)
    assert old in bucket.archives()
    assert report.skipped == (f"{old} is kept after all: being read by a restore into x",)


def test_what_is_under_object_lock_is_kept_until_the_lock_ends(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path, object_lock=True)
    old = bucket.backup(8)
    bucket.backup(1)
    bucket.s3.locks[archive_key("daily", old)] = datetime(2099, 1, 1, tzinfo=UTC)
    plan = plan_cleanup(bucket.context())
    assert reasons(plan)[old] is Reason.LOCKED
    bucket.s3.locks.clear()
    assert reasons(plan_cleanup(bucket.context()))[old] is Reason.EXPIRED


def test_an_archive_that_stays_keeps_its_manifest_and_the_next_run_finishes(bucket: Bucket) -> None:
    old, other = bucket.backup(8), bucket.backup(9)
    bucket.backup(1)
    bucket.s3.fault = lambda key, attempt: "silent" if key.endswith(f"{old}.tar") else None
    report = clean(bucket)
    assert len(report.failures) == 1
    assert "could NOT be removed" in report.line()
    assert old in bucket.manifests()
    assert other not in bucket.manifests()
    bucket.s3.fault = lambda key, attempt: None
    assert clean(bucket, NOW + timedelta(minutes=1)).failures == ()
    assert old not in bucket.manifests()


def test_a_cleanup_that_was_killed_between_archive_and_manifest_is_finished(bucket: Bucket) -> None:
    old = bucket.backup(8)
    bucket.backup(1)
    bucket.s3.fault = lambda key, attempt: "InternalError" if "manifest" in key else None
    clean(bucket)
    bucket.s3.fault = lambda key, attempt: None
    plan = plan_cleanup(bucket.context())
    assert (plan.half_deleted, plan.lost) == ((old,), ())
    clean(bucket, NOW + timedelta(minutes=1))
    assert old not in bucket.manifests()


def test_an_archive_that_was_lost_is_told_and_its_manifest_stays(bucket: Bucket) -> None:
    lost = bucket.backup(8)
    bucket.backup(1)
    del bucket.s3.keys[archive_key("daily", lost)]
    report = clean(bucket)
    assert report.lost == (lost,)
    assert f"archive or manifest of {lost} is LOST" in report.line()
    assert lost in bucket.manifests()


@pytest.mark.parametrize("known_by", ["proof", "evidence"])
def test_an_archive_whose_manifest_was_lost_is_told_and_stays(bucket: Bucket, known_by: str) -> None:
    needed = bucket.backup(1100, tier="monthly", kind="attachments")
    lost = bucket.backup(1000, tier="monthly", kind="attachments", depends_on=(needed,), proven=known_by == "proof")
    newer = bucket.backup(1, tier="monthly", kind="attachments")
    if known_by == "evidence":
        bucket.context().ledger.append(EventKind.BACKUP, subject=lost, actor="a", once=f"backup:{lost}")
    bucket.s3.delete_object(Key=manifest_key("monthly", lost))
    report = clean(bucket)
    assert report.lost == (lost,)
    assert bucket.archives() == {needed, lost, newer}
    assert report.decisions[1] == f"{lost} kept: cannot be judged (its manifest is lost)"
    # Undoing the deletion brings the backup back, and then it goes as any other.
    del bucket.s3.keys[manifest_key("monthly", lost)][-1]
    assert clean(bucket, NOW + timedelta(minutes=1)).lost == ()
    assert bucket.archives() == {newer}


def test_an_archive_that_has_a_manifest_again_since_the_plan_is_kept(bucket: Bucket) -> None:
    late = bucket.backup(8, proven=False)
    bucket.s3.delete_object(Key=manifest_key("daily", late))
    ctx = bucket.context()
    plan = plan_cleanup(ctx)
    assert [one.backup_id for one in plan.orphans] == [late]
    del bucket.s3.keys[manifest_key("daily", late)][-1]
    assert execute(ctx, plan).skipped == (f"{late} is kept after all: it has a manifest now",)
    assert bucket.archives() == {late}


def test_archives_without_manifest_go_only_after_their_grace(bucket: Bucket) -> None:
    young, old = (bucket.backup(age, tier="pre_deployment", proven=False) for age in (6, 8))
    for backup_id in (young, old):
        del bucket.s3.keys[manifest_key("pre_deployment", backup_id)]
    clean(bucket)
    assert bucket.archives() == {young}


def test_unfinished_uploads_go_only_after_their_grace(bucket: Bucket) -> None:
    name = bucket.backup(1)
    bucket.s3.uploads = {
        "old": (archive_key("daily", name), NOW - 8 * DAY),
        "young": (archive_key("daily", name), NOW - 6 * DAY),
        "foreign": ("daily/pulse_messages_notes.bin", NOW - 99 * DAY),
        "other": (archive_key("daily", name.replace("pulse_messages", "pulse_messages_two")), NOW - 99 * DAY),
    }
    clean(bucket)
    assert set(bucket.s3.uploads) == {"young", "foreign", "other"}


def test_an_abort_that_did_nothing_is_a_failure(bucket: Bucket) -> None:
    name = bucket.backup(1)
    bucket.s3.uploads = {"old": (archive_key("daily", name), NOW - 8 * DAY)}
    bucket.s3.fault = lambda key, attempt: "silent"
    assert "was aborted, and it is there" in clean(bucket).failures[0]


def test_proofs_outlive_their_backups_for_as_long_as_the_policy_says(bucket: Bucket) -> None:
    gone = bucket.backup(8 * 365)
    bucket.backup(1)
    clean(bucket)
    assert any(key.startswith(f"proofs/{gone}/") for key in bucket.s3.visible())
    clean(bucket, NOW + timedelta(minutes=1))
    assert not any(key.startswith(f"proofs/{gone}/") for key in bucket.s3.visible())


def test_hourly_backups_are_thinned(bucket: Bucket) -> None:
    for hours in range(1, 24 * 4):
        bucket.backup(hours / 24, tier="hourly", kind="tables")
    clean(bucket)
    assert len(bucket.archives()) in (50, 51)


def test_staging_of_dead_runs_goes_and_that_of_running_ones_stays(bucket: Bucket) -> None:
    dead, young, foreign = (bucket.staging / name for name in (bucket.backup(1), bucket.backup(2), "notes"))
    for folder in (dead, young, foreign):
        folder.mkdir()
        (folder / "toc.dat").touch()
    long_ago = (NOW - 4 * DAY).timestamp()
    recent = (NOW - 2 * DAY).timestamp()
    for path, time in ((dead, long_ago), (foreign, long_ago), (young, recent)):
        for inside in (path / "toc.dat", path):
            os.utime(inside, (time, time))
    clean(bucket)
    assert sorted(path.name for path in bucket.staging.iterdir()) == sorted([young.name, "notes"])


def test_staging_that_a_process_works_in_stays_however_old(bucket: Bucket) -> None:
    from include.backup.staging import Staging

    staging = Staging(bucket.staging, bucket.backup(1))
    staging.make()
    with staging.locked():
        for path in (staging.path / "lock", staging.path):
            os.utime(path, ((NOW - 9 * DAY).timestamp(),) * 2)
        clean(bucket)
        assert staging.path.is_dir()


def test_staging_that_cannot_be_removed_is_told_and_ends_nothing_else(bucket: Bucket) -> None:
    folder = bucket.staging / bucket.backup(1)
    (folder / "lock").mkdir(parents=True)
    for path in (folder / "lock", folder):
        os.utime(path, ((NOW - 9 * DAY).timestamp(),) * 2)
    bucket.backup(8)
    report = clean(bucket)
    assert (len(bucket.archives()), report.to_dict()["removed"]) == (1, {"backup": 1})
    assert report.failures == (f"{folder}: Is a directory",)


def test_other_sources_and_foreign_objects_are_left_alone(bucket: Bucket) -> None:
    bucket.backup(8)
    bucket.backup(1)
    other = bucket.backup(9).replace("pulse_messages", "pulse_messages_two")
    for key in (f"daily/{other}.tar", "daily/README", f"proofs/{other}/20100101T000000Z_x.json", "elsewhere/x.tar"):
        bucket.s3.add(key, b"x", modified=NOW - 999 * DAY)
    clean(bucket)
    assert {f"daily/{other}.tar", "daily/README", f"proofs/{other}/20100101T000000Z_x.json"} <= bucket.s3.visible()


def test_only_what_may_have_expired_is_read(bucket: Bucket) -> None:
    for age in range(7):
        bucket.backup(age + 0.5)
    bucket.s3.calls.clear()
    plan_cleanup(bucket.context())
    assert bucket.s3.calls.count("get") == 0
    assert bucket.s3.calls.count("head") == 0
