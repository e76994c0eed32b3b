"""What an audit's report says of given facts: tiers, objectives, costs, people, controls, and what it does not show."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.backup.audit.build import build_report
from include.backup.audit.controls import CONTROLS
from include.backup.audit.facts import Asked, CopiesFacts, LedgerFacts, SourceFact, Use, WalRun
from include.backup.audit.fleet import FRESH, SharedStores, fleet_lines, fleet_rows
from include.backup.audit.gather import policy_key
from include.backup.audit.month import Month, month_to_report
from include.backup.audit.objectives import Point, daily_exposure, worst_losses
from include.backup.audit.report import Report, Shown
from include.backup.audit.storage import cost_of, held_at
from include.backup.connections import StoreConnection
from include.backup.errors import KmsKeyError, ParameterError
from include.backup.evidence.record import EventKind
from include.backup.health.alerts import Alert
from include.backup.health.board import Heartbeat
from include.backup.health.finding import Severity
from include.backup.inventory import Standing
from include.backup.policy import SourcePolicy
from include.backup.policy.audit import AuditPolicy, Prices
from include.backup.records import from_json
from include.backup.retention.plan import Candidate, Decision, Reason
from tests.support.audits import (
    MADE_AT,
    MONTH,
    SOURCE,
    at,
    audit_report,
    backup,
    backup_id,
    busy_month,
    event,
    shipped,
)

GIB = 1 << 30


def control(report: Report, name: str) -> tuple[Shown, str]:
    (row,) = [row for row in report.controls if f"{row.control} {row.asks}".startswith(name)]
    return row.state, row.evidence


# --- the month ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "expected"), [(None, "2026-05"), ("2026-06", "2026-06"), ("2025-12", "2025-12")])
def test_the_last_month_that_is_over_is_reported_unless_a_person_names_another(text: str, expected: str) -> None:
    assert str(month_to_report(text, now=MADE_AT)) == expected


@pytest.mark.parametrize("text", ["2026-07", "2026-13", "26-05", "x", "2026-5"])
def test_a_month_that_is_none_or_has_not_begun_is_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        month_to_report(text, now=MADE_AT)


# --- tiers -------------------------------------------------------------------------------------------


def test_what_was_due_and_not_made_is_named_and_deleted_backups_count_as_made() -> None:
    events = [
        *(event(EventKind.BACKUP, at(day, 3), subject=backup_id(day)) for day in range(1, 25) if day != 7),
        *(
            event(EventKind.PROOF, at(day, 3), subject=backup_id(day), facts={"result": "passed"})
            for day in range(1, 25)
            if day != 9
        ),
    ]
    report = audit_report(events=events, backups=tuple(backup(day) for day in range(25, 32)))
    (daily,) = [row for row in report.tiers if row.tier == "daily"]
    assert (daily.due, daily.made, daily.proven, daily.missed) == (31, 30, 29, ("2026-05-07 02:00",))
    assert (daily.held, daily.held_proven) == (7, 7)
    assert any("1 of 31 daily backups were due and not made: 2026-05-07 02:00" in text for text in report.problems)
    assert any("1 of the 30 daily backups of the month are not proven" in text for text in report.problems)


def test_nothing_is_due_before_the_source_is_known_nor_while_it_may_still_be_on_its_way() -> None:
    made_at = at(20, 2, 30)
    ledger = LedgerFacts(began_at=at(18, 12))
    report = audit_report(made_at=made_at, ledger=ledger, backups=(backup(19),))
    (daily,) = [row for row in report.tiers if row.tier == "daily"]
    assert (daily.due, daily.made, daily.missed) == (1, 1, ())
    later = audit_report(made_at=made_at + timedelta(hours=2), ledger=ledger, backups=(backup(19),))
    (daily,) = [row for row in later.tiers if row.tier == "daily"]
    assert daily.missed == ("2026-05-20 02:00",)


# --- objectives --------------------------------------------------------------------------------------


def test_the_worst_loss_lies_right_before_the_next_recoverable_point_or_the_months_end() -> None:
    points = [Point(available_at=at(day, 2, 20), data_of=at(day, 2)) for day in (1, 2, 4)]
    losses = worst_losses(points, begin=at(1), until=at(5), known=at(1, 2, 20))
    assert [seconds / 3600 for seconds in losses] == pytest.approx([24 + 1 / 3, 48 + 1 / 3, 22])
    days = daily_exposure(points[1:], begin=at(1), until=at(5))
    assert [day.seconds for day in days] == [None, 22 * 3600, 46 * 3600, pytest.approx(48 * 3600 + 1200)]


def test_an_older_point_that_becomes_available_late_changes_nothing() -> None:
    points = [Point(available_at=at(2), data_of=at(1)), Point(available_at=at(3), data_of=at(1) - timedelta(hours=9))]
    assert worst_losses(points, begin=at(2), until=at(4), known=None) == (3 * 86400.0,)


@pytest.mark.parametrize(
    ("began", "state", "hours"),
    [
        (at(1), Shown.CONTRADICTED, 19 * 24 + 2 + 20 / 60),
        # Its first backup was proven within the promise: from then on a day counts as always.
        (at(19, 12), Shown.SHOWN, 24 + 19 / 60),
        # Nothing is known of it in this month.
        (MADE_AT, Shown.NOT_SHOWN, None),
    ],
)
def test_while_nothing_could_be_recovered_all_since_the_source_is_known_counts_as_lost(
    began: datetime, state: Shown, hours: float | None
) -> None:
    days = () if hours is None else tuple(backup(day) for day in range(20, 32))
    row = audit_report(ledger=LedgerFacts(began_at=began), backups=days).objectives[0]
    assert (row.state, row.worst) == (state, None if hours is None else pytest.approx(hours * 3600))
    assert (f"nothing could be recovered before {at(20, 2, 20):%Y-%m-%d %H:%M} UTC" in row.detail) is bool(days)


def test_an_unproven_backup_and_a_broken_log_recover_nothing() -> None:
    runs = (
        WalRun(finished_at=at(1, 0, 16), mark_time=at(1, 0, 15), state="ok"),
        WalRun(finished_at=at(30), mark_time=at(30), state="broken"),
    )
    report = audit_report(backups=(backup(30, standing=Standing.UNPROVEN),), wal_runs=runs)
    backups, log, restores = report.objectives
    assert (backups.state, backups.worst) == (Shown.CONTRADICTED, 31 * 86400)
    assert backups.detail.endswith("; nothing could be recovered before 2026-06-01 00:00 UTC")
    assert log.state is Shown.CONTRADICTED
    assert log.worst == pytest.approx(31 * 86400 - 900)
    assert (restores.state, restores.count) == (Shown.NOT_SHOWN, 0)


@pytest.mark.parametrize(("seconds", "state"), [(3600, Shown.SHOWN), (3601, Shown.CONTRADICTED)])
def test_the_time_to_restore_is_what_passed_restore_tests_of_everything_took(seconds: float, state: Shown) -> None:
    events = [
        event(EventKind.PROOF, at(3), subject=backup_id(3), facts={"result": "passed", "seconds": seconds}),
        event(EventKind.PROOF, at(3), subject=backup_id(3), facts={"result": "failed", "seconds": 9999}),
        event(EventKind.PROOF, at(3), subject=backup_id(3, tier="hourly", kind="tables"), facts={"seconds": 9999}),
        # A swap's seconds are how long nobody could connect.
        event(EventKind.RESTORE, at(4), facts={"strategy": "swap", "seconds": 9999}),
    ]
    events.append(event(EventKind.DRILL, at(5), actor="drill scheduled"))
    report = audit_report(events=events)
    row = report.objectives[-1]
    assert (row.worst, row.count, row.state) == (seconds, 1, state)
    recovered = control(report, "CC7.5")
    assert (recovered[0], recovered[1].endswith("1 records of drills")) == (state, True)


# --- storage -----------------------------------------------------------------------------------------


def test_costs_are_counted_by_class_and_what_has_no_price_says_so() -> None:
    uses = (
        Use(tier="daily", storage_class="STANDARD", objects=2, size=100 * GIB),
        Use(tier="monthly", storage_class="DEEP_ARCHIVE", objects=2, size=100 * GIB),
        Use(tier="daily", storage_class="OUTPOSTS", objects=1, size=GIB),
    )
    report = audit_report(uses=uses)
    assert [(row.use.storage_class, row.cost) for row in report.costs] == [
        ("STANDARD", pytest.approx(2.3)),
        ("DEEP_ARCHIVE", pytest.approx(0.099)),
        ("OUTPOSTS", None),
    ]
    assert report.cost == pytest.approx(2.399)
    assert cost_of(GIB, "STANDARD", Prices(per_gib_month={"STANDARD": 7.0})) == 7.0


def test_what_lay_in_the_store_at_a_moment_counts_backups_that_were_deleted_since() -> None:
    events = [
        event(EventKind.BACKUP, at(2, 3), subject=backup_id(2), facts={"storage_class": "STANDARD_IA"}),
        event(EventKind.DELETION, at(9), subject=backup_id(2), facts={"bytes": 5}),
        event(EventKind.DELETION, at(9), subject=backup_id(1, tier="monthly"), facts={"bytes": 7}),
        # Deleted before, made after, and one whose deletion failed: it is still there.
        event(EventKind.DELETION, at(4), subject=backup_id(3), facts={"bytes": 1000}),
        event(EventKind.DELETION, at(9), subject=backup_id(8), facts={"bytes": 1000}),
        event(EventKind.DELETION, at(9), subject=backup_id(4), facts={"bytes": 1000}),
        event(EventKind.DELETION, at(9), subject="cluster 1, timeline 1", facts={"objects": 3}),
    ]
    here = [backup(4, size=11), backup(6, size=13)]
    found = held_at(at(5), here, events, {"monthly": "GLACIER"})
    assert {(use.tier, use.storage_class): use.size for use in found} == {
        ("daily", "STANDARD"): 11,
        ("daily", "STANDARD_IA"): 5,
        ("monthly", "GLACIER"): 7,
    }


# --- people ------------------------------------------------------------------------------------------


def test_a_restore_into_production_without_an_approval_on_record_is_a_finding() -> None:
    report = build_report(busy_month(), shipped())
    first, second = report.restores
    assert (first.approved_by, second.approved_by, second.production) == ("bob", None, True)
    assert "restore r2 wrote to production, and no approval is on record" in report.problems
    assert control(report, "CC6.3 what overwrites")[0] is Shown.CONTRADICTED
    assert control(report, "CC6.3 duties")[0] is Shown.SHOWN


@pytest.mark.parametrize("approved", ["Ann ", "ann, at the command line"])
def test_who_approves_what_they_asked_for_is_one_person(approved: str) -> None:
    facts = {"database": "d", "production": True, "requested_by": "ann", "approved_by": approved}
    report = audit_report(events=[event(EventKind.RESTORE, at(2), facts=facts)])
    assert control(report, "CC6.3 duties")[0] is Shown.CONTRADICTED


def test_files_that_were_put_back_are_told_as_files() -> None:
    facts = {"files": {"bucket": None, "prefix": ""}, "target": "s3://attachments", "production": True}
    report = audit_report(events=[event(EventKind.RESTORE, at(2), facts=facts)])
    assert [row.what for row in report.restores] == ["files into s3://attachments"]
    assert control(report, "CC6.3 what overwrites")[0] is Shown.CONTRADICTED


def test_alerts_say_how_long_they_took_and_until_somebody_knew() -> None:
    since = at(9, 3).isoformat()
    fact = {"since": since, "severity": "critical", "evidence": "e"}
    alert = Alert(
        key="size:daily",
        rule="size",
        subject="daily",
        severity=Severity.CRITICAL,
        evidence="small",
        next_step="look",
        since=at(30),
        seen_at=at(31),
    )
    before, after = replace(alert, key="old", since=at(1) - timedelta(days=9)), replace(alert, since=MADE_AT)
    events = [
        event(EventKind.ALERT, at(9, 3), subject="late:daily", facts={**fact, "what": "raised"}),
        event(EventKind.ALERT, at(9, 4), subject="late:daily", actor="ann", facts={**fact, "what": "acknowledged"}),
        event(EventKind.ALERT, at(11, 3), subject="late:daily", facts={**fact, "what": "resolved"}),
    ]
    report = audit_report(events=events, open_alerts=(alert, before, after))
    old, late, size = report.alerts
    assert (late.seconds, late.acknowledged_by, late.acknowledged_after) == (48 * 3600, "ann", 3600)
    assert (old.resolved_at, size.seconds) == (None, 2 * 86400)
    assert "critical alerts that were still open: old, size:daily" in report.problems
    evaluated = control(report, "CC7.3")
    assert (evaluated[0], evaluated[1].endswith("; nobody acknowledged old, size:daily")) == (Shown.NOT_SHOWN, True)
    assert control(audit_report(events=events), "CC7.3")[0] is Shown.SHOWN


def test_keys_and_holds_show_as_changes_and_without_any_it_is_not_shown() -> None:
    nothing = audit_report()
    assert control(nothing, "CC6.2")[0] is Shown.NOT_SHOWN
    backups = (backup(1), backup(2, kms_key="arn:two"), backup(3, kms_key="arn:two"))
    hold = event(EventKind.HOLD, at(4), subject=backup_id(1), actor="ann", facts={"action": "set", "reason": "court"})
    report = audit_report(backups=backups, events=[hold])
    assert [(row.key[-3:], row.backups) for row in report.keys] == [("one", 1), ("two", 2)]
    assert [(row.what, row.actor) for row in report.changes] == [("hold set", "ann")]
    given = event(EventKind.APPROVAL, at(4), actor="d r by bea", facts={"action": "given", "approved_by": "bea"})
    report = audit_report(events=[given])
    assert [row.what for row in report.changes] == ["approval given"]
    # What somebody agreed to once is no change of who may do what.
    assert control(report, "CC6.2")[0] is Shown.NOT_SHOWN


# --- the live test, the ledger, encryption -------------------------------------------------------------


def live_proof(result: str) -> Any:
    facts = {"proof_id": "p9", "result": result, "rows": 7, "seconds": 3.5, "differences": 2}
    return event(EventKind.PROOF, MADE_AT - timedelta(minutes=5), subject=backup_id(31), actor="me", facts=facts)


def test_a_live_test_counts_only_by_its_own_record_in_the_ledger() -> None:
    passed = audit_report(events=[live_proof("passed")], tested_by="me").live_test
    assert (passed.passed, passed.proof_id, passed.rows, passed.seconds) == (True, "p9", 7, 3.5)
    failed = audit_report(events=[live_proof("failed")], tested_by="me")
    assert failed.live_test.passed is False
    assert failed.problems[0].startswith("the live restore test FAILED")
    assert control(failed, "A1.3")[0] is Shown.CONTRADICTED
    none = audit_report(events=[live_proof("passed")], tested_by="somebody else")
    assert none.live_test.passed is None
    assert none.problems[0] == "the live restore test of this report left no proof"


def test_what_is_wrong_with_the_ledger_is_a_finding_and_contradicts_its_control() -> None:
    ledger = LedgerFacts(records=5, checked=5, head="5:x", findings=("record 3: is missing",), began_at=at(1))
    report = audit_report(ledger=ledger)
    assert "the ledger of evidence: record 3: is missing" in report.problems
    assert control(report, "CC7.1")[0] is Shown.CONTRADICTED


@pytest.mark.parametrize(
    "changes",
    [
        {"encryption": "none", "kms_key": None},
        {"encryption": "AES256", "kms_key": None},
        {"kms_key": None},
        {"encryption": None},
        {"asked": Asked(lock=None, differences=("the store says that its key is another",))},
        {"problem": "its manifest cannot be read"},
    ],
)
def test_a_backup_that_is_not_known_to_be_encrypted_as_the_policy_says_is_a_finding(changes: dict[str, Any]) -> None:
    good = audit_report(backups=(backup(1), backup(2)))
    assert control(good, "CC6.1")[0] is Shown.SHOWN
    report = audit_report(backups=(backup(1), backup(2, **changes)))
    assert control(report, "CC6.1")[0] is Shown.CONTRADICTED
    assert any("1 of 2 backups are not known to be encrypted" in text for text in report.problems)


def test_the_newest_backup_with_another_key_than_the_policys_is_a_finding_and_an_older_one_is_not() -> None:
    old, new = backup(1, kms_key="arn:old"), backup(2, kms_key="arn:new")
    assert control(audit_report(backups=(old, new), key_arn="arn:new"), "CC6.1")[0] is Shown.SHOWN
    report = audit_report(backups=(new, backup(3, kms_key="arn:old")), key_arn="arn:new")
    assert control(report, "CC6.1")[0] is Shown.CONTRADICTED
    assert report.backups[0].problem == "its key is not the one that the policy names now"
    # Where KMS does not say which key that is, nothing is held against anybody.
    assert control(audit_report(backups=(old,), key_arn=None), "CC6.1")[0] is Shown.SHOWN


def test_a_key_that_kms_does_not_know_leaves_it_open_which_is_the_policys() -> None:
    class Silent:
        def kms_key_arn(self, key_id: str) -> str:
            raise KmsKeyError(f"{key_id} is not there")

    store: Any = Silent()
    assert policy_key(shipped(), store) is None


def test_locks_are_what_the_store_said_and_else_not_asked() -> None:
    held = backup(1, asked=Asked(lock="COMPLIANCE until 2026-06-09 02:00 UTC"))
    report = audit_report(backups=(held, backup(2), backup(3, asked=Asked(lock=None))), object_lock=True)
    assert [row.lock for row in report.backups] == ["none", "not asked", "COMPLIANCE until 2026-06-09 02:00 UTC"]


# --- controls and fleet --------------------------------------------------------------------------------


def test_with_nothing_to_show_no_control_is_shown() -> None:
    report = audit_report(ledger=LedgerFacts())
    shown = {row.control for row in report.controls if row.state is not Shown.NOT_SHOWN}
    # Only what the connection itself says, and that the policy has a tier for critical tables.
    assert shown == {"CC6.7", "164.308(a)(7)(ii)(E)"}
    assert len(report.controls) == len(CONTROLS)
    assert {row.framework for row in report.controls} == {"SOC 2", "ISO/IEC 27001:2022", "HIPAA"}
    assert control(audit_report(store_tls=False), "CC6.7")[0] is Shown.CONTRADICTED


FULL_COPIES = CopiesFacts(reports=30, met=27, newest="3-2-1 met: 3 of 3 copies", newest_at=at(30, 3))


@pytest.mark.parametrize(
    ("copies", "state"),
    [
        (FULL_COPIES, Shown.SHOWN),
        (replace(FULL_COPIES, met=26), Shown.CONTRADICTED),
        (replace(FULL_COPIES, newest_at=at(29)), Shown.SHOWN),
        (replace(FULL_COPIES, newest_at=at(27)), Shown.CONTRADICTED),
        (replace(FULL_COPIES, met=29, newest="3-2-1 NOT met: 2 of 3 copies"), Shown.CONTRADICTED),
        (CopiesFacts(reports=3), Shown.NOT_SHOWN),
    ],
)
def test_copies_at_another_place_are_shown_by_most_of_the_months_reports_and_by_its_last_days(
    copies: CopiesFacts, state: Shown
) -> None:
    report = audit_report(copies=copies)
    assert (control(report, "A.8.13 c")[0], control(report, "A1.2")[0]) == (state, state)
    assert any("of the month" in text and "3-2-1" in text for text in report.problems) is (state is Shown.CONTRADICTED)


@pytest.mark.parametrize(
    ("unproven", "state"),
    [({1, 2, 3}, Shown.SHOWN), ({1, 2, 3, 4}, Shown.CONTRADICTED), ({0}, Shown.CONTRADICTED)],
)
def test_recovery_is_tested_where_most_backups_are_proven_and_half_of_each_tier(
    unproven: set[int], state: Shown
) -> None:
    days = [backup(day, standing=Standing.UNPROVEN if day in unproven else Standing.PROVEN) for day in range(1, 32)]
    archive = backup(1, tier="monthly", hour=4, standing=Standing.UNPROVEN if 0 in unproven else Standing.PROVEN)
    found = control(audit_report(backups=(*days, archive)), "A1.3")
    assert found[0] is state
    assert f"{32 - len(unproven)} of 32 backups" in found[1]


@pytest.mark.parametrize(("hours", "state"), [(2.5, Shown.SHOWN), (2.6, Shown.CONTRADICTED)])
def test_systems_are_watched_where_health_looked_shortly_before_the_report(hours: float, state: Shown) -> None:
    beat = Heartbeat(source=SOURCE, at=MADE_AT - timedelta(hours=hours), alerts=0, run_id="r")
    assert control(audit_report(fleet=(SourceFact(source=SOURCE, heartbeat=beat),)), "CC7.2")[0] is state


@pytest.mark.parametrize(
    ("reason", "day", "state"),
    [
        (Reason.EXPIRED, 24, Shown.CONTRADICTED),
        (Reason.EXPIRED, 25, Shown.SHOWN),
        (Reason.HELD, 1, Shown.SHOWN),
    ],
)
def test_retention_is_followed_where_nothing_is_left_that_expired_days_ago(
    reason: Reason, day: int, state: Shown
) -> None:
    one = backup(day)
    found = Candidate(backup_id=one.backup_id, tier="daily", kind="full", snapshot_time=at(day, 2, 1))
    report = audit_report(
        backups=(one,),
        decisions=(Decision(backup=found, reason=reason, detail=""),),
        made_at=at(24, 2, 1) + timedelta(days=9, minutes=1),
    )
    assert control(report, "A.8.13 b")[0] is state
    assert any(one.backup_id in text for text in report.problems) is (state is Shown.CONTRADICTED)


def test_a_good_month_has_nothing_to_object_to() -> None:
    source = replace(shipped(), tiers={"daily": shipped().tier("daily")}, incremental=None)
    days = range(1, 32)
    events = [
        event(EventKind.PROOF, at(day, 2, 20), subject=backup_id(day), facts={"result": "passed", "seconds": 60})
        for day in days
    ]
    beat = Heartbeat(source=SOURCE, at=MADE_AT, alerts=0, run_id="r")
    report = audit_report(
        policy=source,
        events=[*events, live_proof("passed")],
        tested_by="me",
        backups=tuple(backup(day) for day in days),
        fleet=(SourceFact(source=SOURCE, heartbeat=beat),),
    )
    assert report.problems == ()
    assert control(report, "A.8.13 a")[0] is Shown.SHOWN
    assert control(report, "A.8.13 f")[0] is Shown.SHOWN


def test_a_source_of_which_nobody_knows_is_not_protected() -> None:
    beat = Heartbeat(source="a", at=MADE_AT, alerts=0, run_id="r")
    alert = Alert(
        key="late:daily",
        rule="late",
        subject="daily",
        severity=Severity.CRITICAL,
        evidence="it is late",
        next_step="look",
        since=at(30),
        seen_at=at(31),
    )
    facts = (
        SourceFact(source="good", heartbeat=beat),
        SourceFact(source="alarmed", heartbeat=beat, alerts=(alert,)),
        SourceFact(source="silent", heartbeat=replace(beat, at=MADE_AT - FRESH - timedelta(seconds=1))),
        SourceFact(source="never"),
        SourceFact(source="away", unknown="the store did not answer"),
    )
    rows = fleet_rows(facts, {"broken": "line 3: no connection"}, now=MADE_AT)
    assert [row.source for row in rows if row.protected] == ["good"]
    text = "\n".join(fleet_lines(rows))
    for words in ("late:daily: it is late", "not looked at since", "never looked at", "did not answer", "line 3"):
        assert words in text


def test_sources_of_one_store_share_a_client_and_others_do_not() -> None:
    reach = StoreConnection(endpoint_url=None, region="eu-central-1", access_key="a", secret_key=None, ca_bundle=None)
    asked: list[str] = []

    def connect(source: SourcePolicy) -> StoreConnection:
        asked.append(source.name)
        return replace(reach, access_key="b") if source.name == "elsewhere" else replace(reach)

    stores = SharedStores(connect)
    shop, again, elsewhere = (stores.open(replace(shipped(), name=name)) for name in ("shop", "again", "elsewhere"))
    assert shop is again
    assert shop is not elsewhere
    bucket = replace(shipped().store, bucket="another")
    assert stores.open(replace(shipped(), store=bucket)) is not shop
    assert asked == ["shop", "again", "elsewhere", SOURCE]


# --- the record ----------------------------------------------------------------------------------------


def test_a_report_is_read_back_as_it_was_written() -> None:
    report = build_report(busy_month(), shipped())
    assert from_json(Report, report.to_json(), format_version=1, name="r") == report


def test_a_report_says_what_it_was_counted_with() -> None:
    assert shipped().audit == AuditPolicy()
    report = build_report(busy_month(), shipped())
    assert (report.month, report.begin, report.until) == (str(MONTH), MONTH.begin, MONTH.end)
    assert report.prices.as_of == Prices().as_of.isoformat()
    assert Month.parse(report.month) == MONTH
