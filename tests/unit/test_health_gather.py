"""What health gathers, from a store in memory and a project whose Management API answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from include.backup.base.stored import StoredBase, base_prefix
from include.backup.catalog import manifest_key
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.health.alerts import Acknowledgement, advance
from include.backup.health.board import Board, Heartbeat
from include.backup.health.facts import HealthFacts
from include.backup.health.finding import Finding, RowsBefore, Severity
from include.backup.health.gather import BUDGET, GatherContext, gather
from include.backup.health.look import find
from include.backup.health.use import Use
from include.backup.manifest import fingerprint
from include.backup.policy import SourcePolicy
from include.backup.proof.record import FAILED_ENDING, Result
from include.backup.store import ObjectStore
from include.backup.verification.log import check_log
from include.backup.wal.plan import base_points
from include.backup.wal.segments import Segment
from tests.support.aged_bucket import PLAIN, Bucket
from tests.support.at_scale import NOBODY, POLICY, with_log
from tests.support.audits import SOURCE, shipped
from tests.support.bases import make_stored_base
from tests.support.big_store import CLUSTER, KEYS, NOW, filled
from tests.support.builders import make_proof
from tests.support.memory_store import MemoryStore
from tests.support.supabase_api import RunningApi, running_api

HOSTED = DatabaseConnection(host="db.abcdefghij.supabase.co", port=5432, dbname="d", user="u", sslmode="require")


@pytest.fixture
def api() -> Iterator[RunningApi]:
    with running_api(pitr_enabled=True) as running:
        yield running


def gathered(
    store: ObjectStore, api: RunningApi, source: SourcePolicy, database: DatabaseConnection = HOSTED
) -> HealthFacts:
    return gather(
        GatherContext(
            policy=POLICY,
            source=source,
            store=store,
            store_connection=StoreConnection(region="us-east-1"),
            database=database,
            open_project=lambda: None if source.supabase is None else api.open(deadline_seconds=0.5),
            now=NOW,
        )
    )


def of_the_log(facts: HealthFacts, source: SourcePolicy) -> dict[str, Finding]:
    return {finding.key: finding for finding in find(facts, source) if finding.rule in ("rpo", "wal", "wal_gap")}


def test_where_the_provider_recovers_its_window_is_looked_at_and_no_wal_is_missed(api: RunningApi) -> None:
    source, store = shipped(), filled(10, 100)
    assert of_the_log(gathered(store, api, source), source) == {}
    # A window whose latest time is old: nobody wrote since.
    end = int(NOW.timestamp()) - 3 * 86400
    api.project.window = {
        "earliest_physical_backup_date_unix": end - 86400,
        "latest_physical_backup_date_unix": end,
    }
    assert of_the_log(gathered(store, api, source), source) == {}


def test_a_provider_that_cannot_recover_or_that_nobody_watches_is_told(api: RunningApi) -> None:
    store, source = filled(10, 100), shipped()
    api.project.pitr_enabled = False
    found = of_the_log(gathered(store, api, source), source)
    assert "its own PITR is not enabled" in found[f"wal:{SOURCE} cannot be recovered to a point in time"].evidence
    assert "rpo:wal" in found
    unwatched = replace(source, supabase=None)
    assert any(
        "add a supabase block" in one.evidence
        for one in of_the_log(gathered(store, api, unwatched), unwatched).values()
    )


def test_a_provider_that_does_not_answer_is_unreachable_and_nothing_is_said_of_its_recovery(api: RunningApi) -> None:
    source = shipped()
    api.fail(status=503, times=99)
    facts = gathered(filled(10, 100), api, source)
    assert facts.wal is None
    assert "Supabase's Management API" in facts.unreachable


def stored(base: StoredBase) -> dict[str, bytes]:
    """Return a base backup's objects."""
    name = f"{base_prefix(CLUSTER)}{base.backup_id}"
    return {f"{name}.tar": b"", f"{name}.manifest.json": base.manifest.to_json()}


def test_an_incremental_base_backup_is_known_to_build_on_another(api: RunningApi) -> None:
    store, base = filled(10, 100), make_stored_base(NOW, parent="the full one")
    facts = gathered(MemoryStore({**store.objects, **stored(base)}), api, shipped())
    assert [one.backup_id for one in facts.backups if one.builds_on_another] == [base.backup_id]


@pytest.mark.parametrize("later", [None, Result.PASSED])
def test_a_proof_of_an_old_backup_that_failed_is_told_until_a_later_one_passes(
    api: RunningApi, later: Result | None
) -> None:
    store = filled(10, 100)
    old = min(key.split("/")[1] for key in store.objects if key.startswith("proofs/") and "_hourly_" in key)
    manifest = fingerprint(store.objects[manifest_key("tables", old)])
    results = (Result.FAILED,) if later is None else (Result.FAILED, later)
    for hour, result in enumerate(results):
        at = NOW + timedelta(hours=hour)
        ending = FAILED_ENDING if result is Result.FAILED else ""
        proof = make_proof(backup_id=old, manifest_sha256=manifest, result=result, finished_at=at)
        store.objects[f"proofs/{old}/{at:%Y%m%dT%H%M%SZ}_abcdef{ending}.json"] = proof.to_json()
    source = shipped()
    found = {finding.key for finding in find(gathered(MemoryStore(store.objects), api, source), source)}
    assert (f"proof_failed:{old}" in found) is (later is None)


def proof_of(base: StoredBase, result: Result) -> dict[str, bytes]:
    """Return the object of a base backup's proof."""
    proof = make_proof(backup_id=base.backup_id, manifest_sha256=fingerprint(base.manifest.to_json()), result=result)
    return {f"proofs/{base.backup_id}/{NOW:%Y%m%dT%H%M%SZ}_abcdef.json": proof.to_json()}


def log_without(*missing: int) -> dict[str, bytes]:
    """Return the log of a source without some segments and without base backups, and the record of its last run."""
    segments = [Segment(timeline=1, number=number) for number in range(1, 30) if number not in missing]
    record = {key: content for key, content in with_log(1, 29).objects.items() if key.startswith("incremental/runs/")}
    return {**record, **{KEYS.segment(segment): b"" for segment in segments}}


BASE = make_stored_base(NOW, start_lsn="0/5000028", stop_lsn="0/6000000")


def test_each_gap_behind_the_oldest_base_backup_is_told_for_itself_and_no_older_one(api: RunningApi) -> None:
    source, store = shipped(), MemoryStore({**log_without(3, 12, 20), **stored(BASE)})
    found = of_the_log(gathered(store, api, source, NOBODY), source)
    assert {key for key in found if key.startswith("wal_gap")} == {
        f"wal_gap:{Segment(timeline=1, number=number).name}" for number in (12, 20)
    }
    looked = check_log(source, store, NOBODY, read=0, seed="run", now=NOW)
    assert (looked.gaps, len(looked.lost)) == (3, 2)
    assert any("a base backup has to be taken" in problem for problem in looked.problems)


def test_a_gap_that_a_newer_base_backup_has_mended_is_named_by_the_verification_and_no_problem_any_more() -> None:
    mending = make_stored_base(NOW + timedelta(days=1), start_lsn="0/15000028", stop_lsn="0/16000000")
    bases = {**stored(BASE), **stored(mending), **proof_of(mending, Result.PASSED)}
    looked = check_log(shipped(), MemoryStore({**log_without(12, 20), **bases}), NOBODY, read=0, seed="run", now=NOW)
    assert [problem.split(",")[0] for problem in looked.problems] == ["the source does not answer"]
    for report in (looked, replace(looked, problems=())):
        assert all(Segment(timeline=1, number=number).name in report.line() for number in (12, 20))
        assert "no gap" not in report.line()
        assert "older than any" not in report.line()


@pytest.mark.parametrize("result", Result)
def test_from_a_base_backup_whose_proof_failed_nothing_can_be_recovered_and_another_is_wanted(
    api: RunningApi, result: Result
) -> None:
    source, store = shipped(), MemoryStore({**log_without(), **stored(BASE), **proof_of(BASE, result)})
    failed = result is Result.FAILED
    assert ("rpo:wal" in of_the_log(gathered(store, api, source, NOBODY), source)) is failed
    run: Any = SimpleNamespace(source=source, store=store, clock=lambda: NOW)
    assert [point.backup_id for point in base_points(run, CLUSTER)] == ([] if failed else [BASE.backup_id])


def test_lost_rows_are_told_until_somebody_acknowledges_them(api: RunningApi, tmp_path: Path) -> None:
    store, before = Bucket(tmp_path).store, RowsBefore(backup_id="b", rows=100)
    board = Board(store, source=SOURCE, encryption=PLAIN)
    lost = Finding(
        rule="rows_lost",
        subject="hourly:t",
        severity=Severity.CRITICAL,
        evidence="e",
        next_step="n",
        rows_before=before,
    )
    gone = replace(lost, rule="tables_gone", subject="hourly", rows_before=None, gone={"u": before, "v": before})
    alerts = advance((), [lost, gone], (), now=NOW, resend_after=timedelta(days=1)).open
    board.replace_open(alerts, at=NOW)
    every = {"hourly:t": before, "hourly:u": before, "hourly:v": before}
    assert gathered(store, api, shipped()).rows_before == every
    for alert in alerts:
        said = Acknowledgement(key=alert.key, since=alert.since, by="ann", at=NOW, note="on purpose")
        board.add_acknowledgement(alert, said)
    assert gathered(store, api, shipped()).rows_before == {}
    # What was said before it became worse counts no more.
    board.replace_open(tuple(replace(alert, worse_at=NOW + timedelta(days=1)) for alert in alerts), at=NOW)
    assert gathered(store, api, shipped()).rows_before == every


def test_the_newest_backup_of_the_last_look_is_read_however_many_have_followed(api: RunningApi, tmp_path: Path) -> None:
    bucket = Bucket(tmp_path)
    taken = [bucket.backup(age) for age in (5, 4, 3, 2, 1)]
    board = Board(bucket.store, source=SOURCE, encryption=PLAIN)
    for days, read in ((0, taken[3:]), (3.5, [taken[1], *taken[3:]])):
        board.beat(Heartbeat(source=SOURCE, at=NOW - timedelta(days=days), alerts=0, run_id="r"))
        facts = gathered(bucket.store, api, shipped())
        assert [one.backup_id for one in facts.backups if one.rows is not None] == read


def test_what_expired_is_no_growth_and_of_the_first_day_none_is_known(api: RunningApi, tmp_path: Path) -> None:
    bucket = Bucket(tmp_path)
    for age in (6, 5, 4, 3, 2, 1):
        bucket.backup(age)
    assert {disk.grows_per_day for disk in gathered(bucket.store, api, shipped()).disks} == {None}
    now = {disk.name: disk.used for disk in gathered(bucket.store, api, shipped()).disks}
    assert now == {BUDGET: 6 * 4096, "the source's disk": api.project.disk_used_bytes}
    board = Board(bucket.store, source=SOURCE, encryption=PLAIN)
    board.add_use(Use(at=NOW - timedelta(days=4), disks={**now, "the source's disk": now["the source's disk"] - 4000}))
    found = {disk.name: disk.grows_per_day for disk in gathered(bucket.store, api, shipped()).disks}
    assert found == {BUDGET: 0, "the source's disk": 1000}
