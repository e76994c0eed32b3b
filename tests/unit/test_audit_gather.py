"""What an audit gathers from a store: held against the catalogue, the cleanup's plan and the ledger, and kept once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.backup.audit.build import build_report
from include.backup.audit.facts import AuditFacts, BackupFact
from include.backup.audit.gather import LOOK_BACK, gather
from include.backup.audit.keep import earlier_trend, keep_report, report_prefix
from include.backup.audit.live_test import newest_readable
from include.backup.audit.month import Month
from include.backup.audit.report import Report, Shown
from include.backup.catalog import archive_key, manifest_key
from include.backup.errors import BackupMissingError
from include.backup.evidence import EventKind, Ledger
from include.backup.evidence.policy_record import record_policy
from include.backup.evidence.record import record_key
from include.backup.inventory import Standing, read_standing
from include.backup.policy.evidence import EvidencePolicy
from include.backup.proof.record import Result
from include.backup.records import from_json
from include.backup.retention.cleanup import plan_cleanup
from include.backup.steps.context import open_catalog
from include.backup.wal.record import RunRecord, State
from tests.support.aged_bucket import DAY, NOW, PLAIN, Bucket
from tests.support.audits import MONTH, SOURCE, audit_context, shipped
from tests.support.builders import make_proof


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def facts_of(bucket: Bucket, *, now: datetime = NOW, month: Month = MONTH) -> AuditFacts:
    return gather(audit_context(bucket.store, now=now, month=month))


def report_of(bucket: Bucket, *, now: datetime = NOW, month: Month = MONTH) -> Report:
    return build_report(facts_of(bucket, now=now, month=month), shipped())


def fact(facts: AuditFacts, backup_id: str) -> BackupFact:
    (found,) = [one for one in facts.backups if one.backup_id == backup_id]
    return found


def record_expired(bucket: Bucket, moment: datetime) -> None:
    """Record a daily backup that was made, proven, and has expired since."""
    name = f"{SOURCE}_daily_full_{moment:%Y%m%dT%H%M%SZ}_0123ab"
    facts = {"storage_class": "STANDARD", "bytes": 1, "snapshot_time": moment.isoformat()}
    ledger = ledger_at(bucket, moment + timedelta(minutes=20))
    ledger.append(EventKind.BACKUP, subject=name, actor="d", facts=facts)
    ledger.append(EventKind.PROOF, subject=name, actor="d", facts={"result": "passed", "seconds": 60})


def ledger_at(bucket: Bucket, moment: datetime) -> Ledger:
    return Ledger(bucket.store, source=SOURCE, encryption=PLAIN, policy=EvidencePolicy(), clock=lambda: moment)


def prove(bucket: Bucket, backup_id: str, *, result: Result, at: datetime, manifest: str | None = None) -> None:
    content = bucket.store.get(manifest_key("daily", backup_id))
    digest = manifest or hashlib.sha256(content).hexdigest()
    proof = make_proof(
        proof_id=f"{at:%Y%m%dT%H%M%SZ}_abcdef",
        backup_id=backup_id,
        manifest_sha256=digest,
        result=result,
        started_at=at - timedelta(seconds=90),
        finished_at=at,
    )
    bucket.s3.add(f"proofs/{backup_id}/{proof.proof_id}.json", proof.to_json(), modified=at)


# --- the policy --------------------------------------------------------------------------------------


def test_the_policy_of_the_months_begin_is_found_and_what_changed_since(bucket: Bucket) -> None:
    for moment, jobs in ((MONTH.begin - 40 * DAY, 1), (MONTH.begin - DAY, 2), (MONTH.begin + DAY, 3), (MONTH.end, 4)):
        record_policy(ledger_at(bucket, moment), replace(bucket.source, settings={"jobs": jobs}), actor="r")
    before = bucket.s3.visible()
    report = report_of(bucket, now=MONTH.end + DAY)
    assert [(row.subject, row.detail.partition(";")[0]) for row in report.changes] == [("jobs", "2 → 3")]
    assert report.policy is not None
    assert (report.policy.since, report.policy.on_record_from) == (MONTH.begin + DAY, MONTH.begin - DAY)
    assert bucket.s3.visible() == before


# --- backups -----------------------------------------------------------------------------------------


def test_each_backup_stands_as_the_catalogue_says(bucket: Bucket) -> None:
    names = {
        name: bucket.backup(age, proven=False) for age, name in enumerate(("good", "failed", "other", "none", "bad"), 1)
    }
    prove(bucket, names["good"], result=Result.FAILED, at=NOW - 2 * DAY)
    prove(bucket, names["good"], result=Result.PASSED, at=NOW - DAY)
    prove(bucket, names["failed"], result=Result.PASSED, at=NOW - 2 * DAY)
    prove(bucket, names["failed"], result=Result.FAILED, at=NOW - DAY)
    prove(bucket, names["other"], result=Result.PASSED, at=NOW - DAY, manifest="0" * 64)
    bucket.s3.add(f"proofs/{names['bad']}/20260531T000000Z_abcdef.json", b"{}")
    facts = facts_of(bucket)
    catalog = open_catalog(bucket.source, bucket.store)
    found = {name: fact(facts, backup_id).standing for name, backup_id in names.items()}
    assert found == {
        "good": Standing.PROVEN,
        "failed": Standing.FAILED,
        "other": Standing.UNPROVEN,
        "none": Standing.UNPROVEN,
        "bad": Standing.UNREADABLE,
    }
    assert found == {name: read_standing(catalog, backup_id) for name, backup_id in names.items()}
    good = fact(facts, names["good"])
    assert (good.rows, good.proof_seconds, good.proofs) == (2, 90.0, 2)


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b'{"format_version": 2}',
        b'{"format_version": 1}',
        b'{"format_version": 1, "backup_id": "another"}',
        None,
    ],
)
def test_a_manifest_that_cannot_be_read_is_a_finding_and_hides_no_other(bucket: Bucket, damage: bytes | None) -> None:
    good, bad = bucket.backup(1), bucket.backup(2)
    content = bucket.store.get(manifest_key("daily", bad))
    if damage is None:
        content = content.replace(b'"dump": {', b'"dump_": {', 1)
    bucket.s3.add(manifest_key("daily", bad), content if damage is None else damage)
    report = report_of(bucket)
    rows = {row.backup_id: row for row in report.backups}
    assert (rows[good].standing, rows[bad].standing) == ("proven", "unreadable")
    assert "its manifest cannot be read" in str(rows[bad].problem)
    assert rows[bad].decision == "cannot be judged"
    assert any(bad in text for text in report.problems)


def test_an_archive_of_another_size_or_without_manifest_is_said_to_be_so(bucket: Bucket) -> None:
    short, orphan = bucket.backup(1), bucket.backup(2)
    bucket.s3.add(archive_key("daily", short), b"short")
    bucket.s3.keys.pop(manifest_key("daily", orphan))
    report = report_of(bucket)
    assert "the archive has 5 bytes, and its manifest says 4096" in str(report.backups[0].problem)
    assert report.incomplete == (f"{orphan} (no manifest)",)
    assert [row.backup_id for row in report.backups] == [short]


def test_what_the_store_says_of_the_newest_is_compared_with_its_manifest(bucket: Bucket) -> None:
    """The store in memory encrypts nothing, and the manifests say aws:kms: exactly that must be seen."""
    backup_id = bucket.backup(1)
    asked = fact(facts_of(bucket), backup_id).asked
    assert asked is not None
    assert asked.differences == ("the store says that it is encrypted with nothing",)


def test_retention_is_decided_as_the_cleanup_decides_it(bucket: Bucket) -> None:
    for age in (0.5, 1, 3, 6, 8, 9, 20):
        bucket.backup(age, proven=age not in (0.5, 9))
    for age in (1, 20, 40):
        bucket.backup(age, tier="weekly", proven=age != 1)
    held = bucket.backup(30)
    bucket.s3.object_lock = True
    bucket.s3.locks[archive_key("daily", bucket.backup(12))] = NOW + 900 * DAY
    from include.backup.holds import add_hold

    ctx = bucket.context()
    add_hold(bucket.store, ctx.ledger, encryption=PLAIN, backup_id=held, reason="a court order", set_by="ann", now=NOW)
    expected = {decision.backup.backup_id: decision.line() for decision in plan_cleanup(ctx).decisions}
    found = {decision.backup.backup_id: decision.line() for decision in facts_of(bucket).decisions}
    assert found == expected
    assert len({text.split(": ")[1].split(" (")[0] for text in expected.values()}) >= 4


# --- the ledger --------------------------------------------------------------------------------------


def test_only_the_last_months_of_the_ledger_are_read_and_a_change_in_them_is_seen(bucket: Bucket) -> None:
    for number in range(40):
        ledger_at(bucket, NOW - 400 * DAY).append(EventKind.ALERT, subject=f"old {number}", actor="a")
    for number in range(5):
        ledger_at(bucket, NOW - 5 * DAY).append(EventKind.ALERT, subject=f"new {number}", actor="a")
    # A report of last month knows the trend, so that nothing older than the month before is read.
    keep(bucket, report_of(bucket, now=NOW - 25 * DAY, month=MONTH.plus(-1)), MONTH.plus(-1))
    ledger = facts_of(bucket).ledger
    assert [one.subject for one in ledger.events if one.kind is EventKind.ALERT] == [f"new {n}" for n in range(5)]
    assert (ledger.records, ledger.checked, ledger.findings) == (46, 6, ())
    key = record_key(SOURCE, 43)
    bucket.s3.add(key, bucket.store.get(key).replace(b"new 2", b"NEW 2"))
    (finding,) = facts_of(bucket).ledger.findings
    assert "record 44: does not follow record 43" in finding
    assert any("record 44" in text for text in report_of(bucket).problems)


def test_what_could_be_restored_when_the_month_began_is_known_after_it_has_expired(bucket: Bucket) -> None:
    bucket.backup(61, tier="monthly")
    keep(bucket, report_of(bucket, now=NOW - 31 * DAY, month=MONTH.plus(-1)), MONTH.plus(-1))
    for day in range(40, -1, -1):
        record_expired(bucket, NOW - day * DAY - timedelta(hours=2))
    facts = facts_of(bucket)
    assert min(one.recorded_at for one in facts.ledger.events) >= MONTH.begin - LOOK_BACK
    (backups, *_) = build_report(facts, shipped()).objectives
    assert (backups.state, backups.worst) == (Shown.SHOWN, (DAY + timedelta(minutes=20)).total_seconds())


@pytest.mark.parametrize("sequence", [1, 3, 41])
def test_a_record_that_was_removed_is_seen_where_the_month_begins_and_in_it(bucket: Bucket, sequence: int) -> None:
    for number in range(40):
        ledger_at(bucket, NOW - 400 * DAY).append(EventKind.ALERT, subject=f"old {number}", actor="a")
    for number in range(5):
        ledger_at(bucket, NOW - 5 * DAY).append(EventKind.ALERT, subject=f"new {number}", actor="a")
    keep(bucket, report_of(bucket, now=NOW - 25 * DAY, month=MONTH.plus(-1)), MONTH.plus(-1))
    bucket.s3.keys.pop(record_key(SOURCE, sequence))
    ledger = facts_of(bucket).ledger
    # What lies before the month is the whole check's matter.
    assert bool(ledger.findings) is (sequence == 41)
    assert len([one for one in ledger.events if one.kind is EventKind.ALERT]) == (4 if sequence == 41 else 5)


# --- the log -----------------------------------------------------------------------------------------


def wal_run(at: datetime, *, state: State = State.OK) -> RunRecord:
    return RunRecord(
        source=SOURCE,
        run_id="r",
        run_after=at,
        finished_at=at,
        system_identifier="7401",
        timeline=1,
        segment_size=16 << 20,
        server_version="17.4",
        state=state,
        chain_start="0/1",
        start_lsn="0/1",
        end_lsn="0/2",
        partial_lsn=None,
        mark_lsn="0/2",
        mark_time=at - timedelta(minutes=1),
        segments=1,
        content_bytes=1,
        stored_bytes=1,
        slot_lag_bytes=0,
        hold_slot="h",
        run_slot="r",
        connection="c",
        base_wanted=None,
    )


def test_the_log_is_measured_from_the_runs_of_the_month_and_the_last_one_before(bucket: Bucket) -> None:
    moments = [MONTH.begin - timedelta(minutes=9), *(MONTH.begin + timedelta(minutes=15 * n) for n in range(1, 9))]
    for moment in [MONTH.begin - timedelta(days=2), *moments]:
        key = f"incremental/runs/{SOURCE}/{moment:%Y/%m/%d}/{moment:%Y%m%dT%H%M%SZ}_x.json"
        bucket.s3.add(key, wal_run(moment).to_json())
    bucket.s3.add(f"incremental/runs/{SOURCE}/2026/05/01/20260501T990000Z_x.json", b"{")
    runs = facts_of(bucket).wal_runs
    assert [run.finished_at for run in runs] == moments
    until = moments[-1] + timedelta(minutes=5)
    log = report_of(bucket, now=until).objectives[1]
    assert log.worst == pytest.approx((15 + 10) * 60)


# --- keeping -----------------------------------------------------------------------------------------


def keep(bucket: Bucket, report: Report, month: Month = MONTH) -> Any:
    ledger = ledger_at(bucket, report.made_at)
    return keep_report(bucket.store, ledger, report, month=month, encryption=PLAIN, actor="me")


def test_a_report_is_kept_once_with_its_hashes_in_the_ledger(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.backup(1)
    put, types = bucket.s3.put_object, {}

    def noting(**arguments: Any) -> Any:
        types[arguments["Key"]] = (arguments["ContentType"], arguments.get("ServerSideEncryption"))
        return put(**arguments)

    monkeypatch.setattr(bucket.s3, "put_object", noting)
    report = report_of(bucket)
    sse = replace(PLAIN, algorithm="AES256")
    kept = keep_report(bucket.store, ledger_at(bucket, NOW), report, month=MONTH, encryption=sse, actor="me")
    assert types[kept.html_key] == ("text/html; charset=utf-8", "AES256")
    assert types[kept.json_key] == ("application/json", "AES256")
    assert kept.json_key == f"{report_prefix(SOURCE, MONTH)}20260601T040000_000000.json"
    content = bucket.store.get(kept.json_key)
    assert from_json(Report, content, format_version=1, name="r") == report
    (event,) = [one for one in facts_of(bucket, now=NOW + DAY).ledger.events if one.kind is EventKind.AUDIT]
    assert event.facts["json_sha256"] == hashlib.sha256(content).hexdigest()
    assert event.facts["html_sha256"] == hashlib.sha256(bucket.store.get(kept.html_key)).hexdigest()
    with pytest.raises(Exception, match="already there with other content"):
        keep(bucket, replace(report, made_by="somebody else"))


def test_the_trend_goes_on_from_what_the_last_report_had(bucket: Bucket) -> None:
    bucket.backup(70, tier="monthly")
    first = report_of(bucket, now=NOW - 28 * DAY, month=MONTH.plus(-1))
    # Without an earlier report manifests say what lay there since; of the log nothing is known.
    assert [(point.month, point.wal_known) for point in first.trend] == [("2026-03", False), ("2026-04", True)]
    keep(bucket, first, MONTH.plus(-1))
    bucket.backup(2)
    second = report_of(bucket)
    assert [(point.month, point.from_report) for point in second.trend] == [
        ("2026-03", True),
        ("2026-04", True),
        ("2026-05", False),
    ]
    assert [sum(use.size for use in point.uses) for point in second.trend] == [4096, 4096, 8192]


def test_an_earlier_report_that_cannot_be_read_is_passed_over(bucket: Bucket) -> None:
    bucket.backup(70, tier="monthly")
    keep(bucket, report_of(bucket, now=NOW - 58 * DAY, month=MONTH.plus(-2)), MONTH.plus(-2))
    bucket.s3.add(f"{report_prefix(SOURCE, MONTH.plus(-1))}x.json", json.dumps({"trend": 3}).encode())
    assert [point.month for point in earlier_trend(bucket.store, SOURCE, MONTH)] == ["2026-03"]


# --- the live test -----------------------------------------------------------------------------------


def test_the_newest_full_backup_that_can_be_read_at_once_is_tested(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackupMissingError, match="start a daily backup"):
        newest_readable(bucket.source, bucket.store)
    cold, listed = bucket.backup(1, tier="monthly"), bucket.s3._listed
    wanted = bucket.backup(2)
    bucket.backup(1.5, tier="weekly", kind="schema")
    bucket.backup(3)

    def classed(key: str) -> dict[str, Any]:
        return listed(key) | ({"StorageClass": "GLACIER"} if cold in key else {})

    monkeypatch.setattr(bucket.s3, "_listed", classed)
    assert newest_readable(bucket.source, bucket.store) == wanted
