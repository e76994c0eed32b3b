"""Base backups and the log: as far back as any point in time is to be recovered, and not a segment too few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.base.stored import StoredBase, base_prefix
from include.backup.evidence.check import check_ledger
from include.backup.holds import add_hold
from include.backup.in_use import reading
from include.backup.manifest import fingerprint
from include.backup.proof.record import Result
from include.backup.retention.bases import Needed, plan_wal
from include.backup.retention.cleanup import plan_cleanup
from include.backup.retention.execute import dry_run, execute
from include.backup.retention.plan import Reason
from include.backup.wal.keys import ClusterKeys, run_key
from include.backup.wal.segments import Segment
from tests.support.aged_bucket import DAY, NOW, PLAIN, Bucket
from tests.support.bases import make_stored_base
from tests.support.builders import make_archive, make_manifest, make_proof
from tests.support.properties import given
from tests.unit.test_wal_assess import make_record

CLUSTER = "7401"
KEYS = ClusterKeys(system_identifier=CLUSTER)
SIZE = 16 << 20


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def base(bucket: Bucket, age: float, *, first: int, proven: bool = True, **facts: Any) -> str:
    """Store a base backup that needs the log from a segment on."""
    made = make_stored_base(
        NOW - age * DAY, start_lsn=f"0/{first * SIZE + 40:X}", stop_lsn=f"0/{first * SIZE + 400:X}", **facts
    )
    return store_base(bucket, made, proven=proven)


def store_base(bucket: Bucket, made: StoredBase, *, proven: bool) -> str:
    content = made.manifest.to_json()
    prefix = base_prefix(made.base.system_identifier)
    bucket.s3.add(f"{prefix}{made.backup_id}.tar", bytes(4096))
    bucket.s3.add(f"{prefix}{made.backup_id}.manifest.json", content)
    if proven:
        proof = make_proof(backup_id=made.backup_id, manifest_sha256=fingerprint(content), result=Result.PASSED)
        bucket.s3.add(f"proofs/{made.backup_id}/{proof.proof_id}.json", proof.to_json())
    return made.backup_id


def segments(bucket: Bucket, numbers: range, *, timeline: int = 1) -> None:
    for number in numbers:
        bucket.s3.add(KEYS.segment(Segment(timeline=timeline, number=number)), b"x")


def stored(bucket: Bucket, *, timeline: int = 1) -> list[int]:
    prefix = KEYS.timeline(timeline)
    names = (key.removeprefix(prefix)[:24] for key in sorted(bucket.s3.visible()) if key.startswith(prefix))
    return [Segment.parse(name, size=SIZE).number for name in names]


def test_a_base_backup_is_kept_for_every_point_up_to_the_next_one(bucket: Bucket) -> None:
    # Kept two weeks: 14 days ago can only be reached from the one of 20 days ago.
    ages = (30, 20, 10, 1)
    ids = {age: base(bucket, age, first=40 - age) for age in ages}
    decided = {one.backup.backup_id: one.reason for one in plan_cleanup(bucket.context()).decisions}
    assert decided == {
        ids[30]: Reason.EXPIRED,
        ids[20]: Reason.WITHIN,
        ids[10]: Reason.WITHIN,
        ids[1]: Reason.WITHIN,
    }


def test_an_unproven_next_one_does_not_count(bucket: Bucket) -> None:
    old = base(bucket, 30, first=10)
    base(bucket, 20, first=20, proven=False)
    base(bucket, 1, first=39)
    decided = {one.backup.backup_id: one.reason for one in plan_cleanup(bucket.context()).decisions}
    assert decided[old] is Reason.WITHIN


def test_the_parents_of_a_kept_incremental_one_are_kept(bucket: Bucket) -> None:
    full = base(bucket, 60, first=1)
    middle = base(bucket, 40, first=2, parent=full)
    leaf = base(bucket, 13, first=3, parent=middle)
    gone = base(bucket, 50, first=1, timeline=2)
    decided = {one.backup.backup_id: one.reason for one in plan_cleanup(bucket.context()).decisions}
    assert decided[leaf] is Reason.WITHIN
    assert decided[full] is Reason.NEEDED
    assert decided[middle] in (Reason.NEEDED, Reason.WITHIN)
    assert decided[gone] is Reason.EXPIRED


def test_a_base_backup_that_cannot_be_read_keeps_what_it_may_build_on(bucket: Bucket) -> None:
    full = base(bucket, 60, first=1)
    leaf = base(bucket, 40, first=2, parent=full)
    other = base(bucket, 50, first=1, system_identifier="7402")
    for age in (30, 1):
        base(bucket, age, first=3, system_identifier="7402")
    bucket.s3.add(f"{base_prefix(CLUSTER)}{leaf}.manifest.json", b'{"format_version": 99}', modified=NOW - 40 * DAY)
    decided = {one.backup.backup_id: one.reason for one in plan_cleanup(bucket.context()).decisions}
    assert (decided[full], decided[leaf], decided[other]) == (Reason.NEEDED, Reason.UNKNOWN, Reason.EXPIRED)


def test_the_log_before_the_oldest_kept_base_backup_goes_and_nothing_else(bucket: Bucket) -> None:
    base(bucket, 30, first=10)
    base(bucket, 20, first=20)
    base(bucket, 1, first=39)
    segments(bucket, range(5, 45))
    partials = {KEYS.partial(Segment(timeline=1, number=12), 12 * SIZE + end) for end in (5, 7, 9)}
    late = KEYS.partial(Segment(timeline=1, number=45), 45 * SIZE + 5)
    for key in (*partials, late, KEYS.history(2)):
        bucket.s3.add(key, b"1\t0/3000000\tno recovery target specified\n")
    ctx = bucket.context()
    plan = plan_cleanup(ctx)
    assert [one.objects for one in dry_run(ctx, plan).removed if one.what == "log"] == [18]
    assert stored(bucket) == list(range(5, 45))
    report = execute(ctx, plan)
    assert "removed 1 backup, 18 segments of WAL (" in report.line()
    assert report.failures == ()
    assert stored(bucket) == list(range(20, 45))
    assert {late, KEYS.history(2)} <= bucket.s3.visible()
    assert not partials & bucket.s3.visible()
    assert check_ledger(bucket.store, "pulse_messages").kinds == {"deletion": 2}
    assert plan_cleanup(bucket.context()).nothing_to_do


@pytest.mark.parametrize("way", ["no base", "damaged", "lost", "foreign"])
def test_the_log_of_a_cluster_whose_base_backups_are_not_all_known_is_kept(bucket: Bucket, way: str) -> None:
    segments(bucket, range(5, 45))
    if way != "no base":
        base(bucket, 30, first=10)
        base(bucket, 20, first=20)
        other = base(bucket, 1, first=39)
    if way == "damaged":
        bucket.s3.add(f"{base_prefix(CLUSTER)}{other}.manifest.json", b"{}")
    if way == "lost":
        bucket.s3.delete_object(Key=f"{base_prefix(CLUSTER)}{other}.manifest.json")
    if way == "foreign":
        made = make_stored_base(NOW, source="another", start_lsn=f"0/{6 * SIZE:X}")
        store_base(bucket, made, proven=False)
    execute(bucket.context(), plan_cleanup(bucket.context()))
    assert stored(bucket) == (list(range(6, 45)) if way == "foreign" else list(range(5, 45)))


def run_record(bucket: Bucket, age: float, cluster: str, *, source: str = "pulse_messages") -> None:
    """Store the record of a run that has found the source to be a cluster."""
    moment = NOW - age * DAY
    record = make_record(source=source, system_identifier=cluster, finished_at=moment, run_after=moment)
    bucket.s3.add(run_key(source, moment, cluster), record.to_json())


@pytest.mark.parametrize("way", ["left", "young", "present", "of another source", "with an archive", "unreadable"])
def test_the_log_of_a_cluster_that_a_source_has_left_goes_when_it_leads_nowhere(bucket: Bucket, way: str) -> None:
    age = 13 if way == "young" else 15
    for number in range(5, 9):
        key = KEYS.segment(Segment(timeline=1, number=number))
        bucket.s3.add(key, b"x", modified=NOW - (age + 8 - number) * DAY)
    bucket.s3.add(KEYS.partial(Segment(timeline=1, number=9), 9 * SIZE + 5), b"x", modified=NOW - age * DAY)
    run_record(bucket, age, CLUSTER, source="another" if way == "of another source" else "pulse_messages")
    run_record(bucket, 1, CLUSTER if way == "present" else "7402")
    base(bucket, 1, first=3, system_identifier="7402")
    if way == "of another source":
        run_record(bucket, 1, "7403", source="another")
        run_record(bucket, age, "7402")
    if way == "with an archive":
        bucket.s3.add(f"{base_prefix(CLUSTER)}somebody's", b"x")
    if way == "unreadable":
        bucket.s3.add(run_key("another", NOW, "x"), b"{}")
    other = ClusterKeys(system_identifier="7402").segment(Segment(timeline=1, number=3))
    bucket.s3.add(other, b"x")
    report = execute(bucket.context(), plan_cleanup(bucket.context()))
    assert stored(bucket) == ([] if way == "left" else list(range(5, 9)))
    assert [one.objects for one in report.removed if one.what == "log"] == ([5] if way == "left" else [])
    assert other in bucket.s3.visible()


def test_a_held_base_backup_keeps_its_log(bucket: Bucket) -> None:
    old = base(bucket, 90, first=10)
    base(bucket, 20, first=20)
    base(bucket, 1, first=39)
    segments(bucket, range(5, 45))
    ctx = bucket.context()
    add_hold(bucket.store, ctx.ledger, encryption=PLAIN, backup_id=old, reason="an audit", set_by="ann", now=NOW)
    execute(ctx, plan_cleanup(ctx))
    assert stored(bucket) == list(range(10, 45))


def test_a_base_backup_that_is_read_after_all_keeps_its_log(bucket: Bucket) -> None:
    old = base(bucket, 30, first=10)
    base(bucket, 20, first=20)
    base(bucket, 1, first=39)
    segments(bucket, range(5, 45))
    ctx = bucket.context()
    plan = plan_cleanup(ctx)
    manifest = replace(make_manifest(), backup_id=old, archive=make_archive(encryption="none"))
    with reading(bucket.store, manifest, what="a recovery", clock=lambda: NOW):
        execute(ctx, plan)
    assert stored(bucket) == list(range(5, 45))


def test_what_a_base_backup_builds_on_that_is_read_after_all_is_kept_with_it(bucket: Bucket) -> None:
    full = base(bucket, 60, first=10)
    leaf = base(bucket, 50, first=12, parent=full)
    base(bucket, 20, first=20)
    base(bucket, 1, first=39)
    segments(bucket, range(5, 45))
    ctx = bucket.context()
    plan = plan_cleanup(ctx)
    assert {one.backup.backup_id for one in plan.expiring} == {full, leaf}
    manifest = replace(make_manifest(), backup_id=leaf, archive=make_archive(encryption="none"))
    with reading(bucket.store, manifest, what="a recovery", clock=lambda: NOW):
        report = execute(ctx, plan)
    assert {full, leaf} <= bucket.archives()
    assert report.skipped == (
        f"{full} is kept after all: needed by {leaf}, being read by a recovery",
        f"{leaf} is kept after all: being read by a recovery",
    )
    assert stored(bucket) == list(range(5, 45))


POINTS = st.lists(
    st.builds(
        Needed,
        backup_id=st.just("b"),
        timeline=st.integers(min_value=1, max_value=4),
        first=st.integers(min_value=0, max_value=30),
        size=st.just(SIZE),
    ),
    max_size=5,
)


@given(points=POINTS, timelines=st.lists(st.integers(min_value=1, max_value=5), max_size=5))
def test_no_segment_that_any_kept_base_backup_could_read_has_expired(
    points: list[Needed], timelines: list[int]
) -> None:
    for expiry in plan_wal(points, timelines, cluster=CLUSTER):
        for number in range(32):
            segment = Segment(timeline=expiry.timeline, number=number)
            needed = any(point.timeline <= expiry.timeline and number >= point.first for point in points)
            assert expiry.covers(segment) is not needed
    if not points:
        assert plan_wal(points, timelines, cluster=CLUSTER) == ()


def test_clusters_with_segments_of_two_sizes_are_not_judged() -> None:
    one = Needed(backup_id="a", timeline=1, first=1, size=SIZE)
    other = Needed(backup_id="b", timeline=1, first=9, size=SIZE * 4)
    assert plan_wal([one, other], [1], cluster=CLUSTER) == ()
