"""Health rules: each condition makes its finding, and a healthy source makes none."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.health import backup_rules, platform_rules
from include.backup.health.facts import (
    AirflowFacts,
    BackupFact,
    DagFact,
    DiskFact,
    HealthFacts,
    TaskFact,
    WalFacts,
)
from include.backup.health.finding import Finding, RowsBefore, Severity
from include.backup.health.look import find
from include.backup.inventory import Standing
from include.backup.policy import SHIPPED_POLICY, Schedule, SourcePolicy, load_policy
from include.backup.policy.health import HealthPolicy

NOW = datetime(2025, 3, 12, 3, 30, tzinfo=UTC)  # a Wednesday, an hour and a half after the daily backup was due
DUE = datetime(2025, 3, 12, 2, 0, tzinfo=UTC)
HEALTHY = AirflowFacts(components={"scheduler": "healthy"})


@pytest.fixture(scope="module")
def source() -> SourcePolicy:
    """The shipped source with its daily tier alone, so that nothing else is due."""
    shipped = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    daily = replace(shipped.tier("daily"), schedule=Schedule(cron="0 2 * * *", timezone="UTC"))
    health = HealthPolicy(smallest_bytes=1000, largest_bytes=100_000, budget_bytes=None)
    return replace(shipped, tiers={"daily": daily}, base_backup=None, health=health)


def backup(days_ago: float, **changes: Any) -> BackupFact:
    due = DUE - timedelta(days=days_ago)
    name = f"pulse_messages_daily_full_{due:%Y%m%dT%H%M%SZ}_abcdef"
    fact = BackupFact(
        backup_id=name, tier="daily", run_after=due, stored_at=due + timedelta(minutes=10), size=50_000, proofs=1
    )
    return replace(fact, **changes)


def facts(*given: BackupFact, now: datetime = NOW, backups: Any = None, **changes: Any) -> HealthFacts:
    made = backups or given or tuple(backup(day) for day in range(8))
    return replace(HealthFacts(source="pulse_messages", now=now, backups=made, airflow=HEALTHY), **changes)


def found(facts: HealthFacts, source: SourcePolicy) -> dict[str, Finding]:
    return {finding.key: finding for finding in find(facts, source)}


def test_a_healthy_source_has_no_finding(source: SourcePolicy) -> None:
    assert find(facts(), source) == ()


@pytest.mark.parametrize(
    ("newest_days_ago", "minutes_after_due", "wanted"),
    [
        (0, 90, None),
        (1, 59, None),  # not an hour late yet
        (1, 61, "late:daily"),
        (2, 61, "missing:daily"),
        (40, 600, "missing:daily"),
    ],
)
def test_a_backup_that_was_due_is_missed_after_an_hour(
    source: SourcePolicy, newest_days_ago: float, minutes_after_due: int, wanted: str | None
) -> None:
    now = DUE + timedelta(minutes=minutes_after_due)
    keys = found(facts(backup(newest_days_ago), now=now), source)
    assert {key for key in keys if key.startswith(("late", "missing"))} == ({wanted} if wanted else set())
    if wanted:
        assert keys[wanted].severity is Severity.CRITICAL
        assert "was due" in keys[wanted].evidence


def test_hourly_backups_are_late_as_well_though_one_is_always_just_due(source: SourcePolicy) -> None:
    hourly = replace(source.tier("daily"), name="hourly", schedule=Schedule(cron="5 * * * *", timezone="UTC"))
    often = replace(source, tiers={"hourly": hourly})

    def taken(hours_ago: float) -> HealthFacts:
        due = NOW.replace(minute=5) - timedelta(hours=hours_ago)
        return facts(backup(0, tier="hourly", run_after=due, stored_at=due))

    assert find(taken(1), often) == ()
    assert set(found(taken(2), often)) == {"late:hourly"}
    assert set(found(taken(3), often)) == {"missing:hourly"}


def test_a_tier_that_never_succeeded_is_told_although_nothing_is_there_to_be_old(source: SourcePolicy) -> None:
    other = backup(0, tier="weekly")
    assert found(facts(other), source)["never_succeeded:daily"].severity is Severity.CRITICAL


def test_a_tier_without_schedule_is_never_late(source: SourcePolicy) -> None:
    triggered = replace(source, tiers={"daily": replace(source.tier("daily"), schedule=None)})
    assert find(facts(backup(300)), triggered) == ()


@pytest.fixture(scope="module")
def with_bases(source: SourcePolicy) -> SourcePolicy:
    """The source with a base backup each day at two, a full one each week, and no tier."""
    base = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").base_backup
    assert base is not None
    return replace(source, tiers={}, base_backup=replace(base, schedule="0 2 * * *", full_every_days=7))


# What the shipped policy lets a copy of the cluster take, and its upload.
AT_WORK = timedelta(hours=8 + 4)


def base(days_ago: float, **changes: Any) -> BackupFact:
    return backup(days_ago, tier="incremental", **changes)


@pytest.mark.parametrize(
    ("bases", "wanted"),
    [
        ((), "never_succeeded:base"),
        ((base(7, size=9_000_000), base(0, builds_on_another=True)), None),
        ((base(2), base(1, builds_on_another=True)), "late:base"),
        ((base(3), base(2, builds_on_another=True)), "missing:base"),
        ((base(13), base(6)), None),  # nothing is taken between full ones where the server has no others
        ((base(7),), "late:base"),
        ((base(8),), "missing:base"),
        ((base(0, standing=Standing.FAILED),), f"proof_failed:{base(0).backup_id}"),
        ((base(2, proofs=0), base(0, builds_on_another=True)), "unproven:base"),
        ((base(90, proven_at=NOW - timedelta(days=90)), base(0)), "proof_overdue:base"),
    ],
)
def test_base_backups_are_there_in_time_and_proven(
    with_bases: SourcePolicy, bases: tuple[BackupFact, ...], wanted: str | None
) -> None:
    keys = set(find(replace(facts(now=NOW + AT_WORK), backups=bases), with_bases))
    assert {finding.key for finding in keys} == ({wanted} if wanted else set())


@pytest.mark.parametrize(("minutes", "late"), [(59, False), (61, True)])
def test_a_base_backup_is_not_late_while_its_run_may_be_at_work(
    with_bases: SourcePolicy, minutes: int, *, late: bool
) -> None:
    now = DUE + AT_WORK + timedelta(minutes=minutes)
    given = facts(base(2), base(1, builds_on_another=True), now=now)
    assert set(found(given, with_bases)) == ({"late:base"} if late else set())


@pytest.mark.parametrize(
    ("sizes", "unusual"),
    [
        ([50_000] * 7 + [50_000], False),
        ([50_000] * 7 + [60_000], False),
        ([50_000] * 7 + [30_000], True),
        ([50_000] * 7 + [90_000], True),
        ([50_000] * 3 + [20_000], False),  # too little is known of what is usual
        ([20_000, 60_000, 30_000, 80_000, 25_000, 70_000, 45_000, 90_000], False),  # here much is usual
        ([50_000, 50_000, 1_900_000, 50_000, 50_000, 50_000, 50_000, 51_000], False),  # one odd one is no measure
        ([50_000] * 7 + [999], True),
        ([99_000] * 7 + [100_001], True),
    ],
)
def test_a_size_is_judged_by_limits_and_by_what_was_usual(
    source: SourcePolicy, sizes: list[int], unusual: bool
) -> None:
    made = [backup(len(sizes) - 1 - index, size=size) for index, size in enumerate(sizes)]
    assert ("size:daily" in found(facts(*made), source)) is unusual


def test_a_size_is_told_with_a_command_that_names_the_source_whatever_it_is_called(source: SourcePolicy) -> None:
    name = "shop_daily_daily_full_20250312T020000Z_abcdef"
    given = replace(facts(backup(0, size=1, backup_id=name)), source="shop_daily")
    next_step = found(given, source)["size:daily"].next_step
    assert f"`python -m include.backup show shop_daily {name}`" in next_step


@pytest.mark.parametrize("standing", [Standing.FAILED, Standing.UNREADABLE])
def test_a_failed_proof_is_critical_and_names_the_backup(source: SourcePolicy, standing: Standing) -> None:
    bad = backup(0, standing=standing)
    finding = found(facts(backup(1), bad), source)[f"proof_failed:{bad.backup_id}"]
    assert finding.severity is Severity.CRITICAL
    assert "do not rely on it" in finding.next_step


def test_a_backup_may_be_unproven_for_a_day_and_no_longer(source: SourcePolicy) -> None:
    assert find(facts(backup(1), backup(0, proofs=0)), source) == ()
    overdue = found(facts(backup(2, proofs=0), backup(0)), source)["unproven:daily"]
    assert backup(2).backup_id in overdue.evidence


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ({"public.users": 100}, {"public.users": 81}, False),
        ({"public.users": 100}, {"public.users": 79}, True),
        ({"public.users": 100}, {"public.users": 0}, True),
        ({"public.users": 0}, {"public.users": 0}, False),
        ({"public.users": 100}, {}, True),
        ({"public.users": 0}, {}, False),
        ({"cron.job": 100, "public.sessions": 100}, {}, False),  # the policy leaves them out since
        ({"public.users": 100}, {"public.users": 900}, False),
    ],
)
def test_a_table_that_lost_many_rows_is_told(
    source: SourcePolicy, before: Mapping[str, int], after: Mapping[str, int], lost: bool
) -> None:
    excluding = replace(source, excluded_schemas=("cron",), excluded_tables=("public.sessions",))
    keys = found(facts(backup(1, rows=before), backup(0, rows=after)), excluding)
    key = "rows_lost:daily:public.users" if after else "tables_gone:daily"
    assert set(keys) == ({key} if lost else set())


@pytest.mark.parametrize(("others", "severity"), [(8_000, Severity.WARNING), (7_000, Severity.CRITICAL)])
def test_tables_that_are_gone_are_told_as_one_and_as_critical_where_they_had_many_of_all_rows(
    source: SourcePolicy, others: int, severity: Severity
) -> None:
    dropped = {f"old.t{number:04d}": 1 for number in range(2_000)}
    made = facts(backup(1, rows={**dropped, "t": others, "u": 9}), backup(0, rows={"t": others, "u": 1}))
    keys = found(made, source)
    assert set(keys) == {"tables_gone:daily", "rows_lost:daily:u"}
    finding = keys["tables_gone:daily"]
    assert finding.severity is severity
    assert "lacks 2000 of 2002 tables, which had 2000 of " in finding.evidence
    assert finding.evidence.endswith(": old.t0000, old.t0001, old.t0002, old.t0003, old.t0004 and 1995 more")
    assert f"hold {backup(1).backup_id} and" in finding.next_step
    # Later backups are compared with what nobody has acknowledged.
    later = facts(*(backup(day, rows={"t": others, "u": 1}) for day in (1, 0)))
    told = {f"daily:{table}": before for table, before in finding.gone.items()}
    assert found(replace(later, rows_before=told), source)["tables_gone:daily"].gone == finding.gone


def test_a_table_of_a_part_of_all_may_be_missing_from_it(source: SourcePolicy) -> None:
    hourly = replace(source.tier("daily"), kind="tables")
    made = facts(backup(1, rows={"public.users": 100}), backup(0, rows={}))
    assert find(made, replace(source, tiers={"daily": hourly})) == ()


def test_rows_are_compared_with_the_most_of_before_and_with_what_nobody_has_acknowledged(source: SourcePolicy) -> None:
    lost = facts(*(backup(day, rows={"t": rows}) for day, rows in ((3, 100), (1, 70), (0, 70))))
    finding = found(lost, source)["rows_lost:daily:t"]
    assert finding.rows_before == RowsBefore(backup_id=backup(3).backup_id, rows=100)
    later = facts(*(backup(day, rows={"t": 70}) for day in (1, 0)))
    assert find(later, source) == ()
    told = found(replace(later, rows_before={"daily:t": finding.rows_before}), source)["rows_lost:daily:t"]
    assert (told.rows_before, backup(3).backup_id in told.next_step) == (finding.rows_before, True)
    back = facts(backup(1, rows={"t": 70}), backup(0, rows={"t": 90}))
    assert find(replace(back, rows_before={"daily:t": finding.rows_before}), source) == ()


def task(state: str, minutes: float) -> TaskFact:
    since = NOW - timedelta(minutes=minutes)
    return TaskFact(dag_id="pulse_messages.daily_backup", run_id="r", task_id="dump", state=state, since=since)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"dags": (DagFact(dag_id="a.daily_backup", paused=True, stale=False),)}, "paused:a.daily_backup"),
        ({"dags": (DagFact(dag_id="a.daily_backup", paused=False, stale=True),)}, "stale:a.daily_backup"),
        ({"import_errors": {"dags/x.py": "Traceback\n  x\nValueError: no"}}, "import_error:dags/x.py"),
        ({"components": {"dag_processor": "unhealthy"}}, "component:dag_processor"),
        ({"tasks": (task("scheduled", 31),)}, "stuck:pulse_messages.daily_backup.dump"),
        ({"tasks": (task("queued", 31),)}, "stuck:pulse_messages.daily_backup.dump"),
        ({"tasks": (task("queued", 29),)}, None),
        ({"tasks": (task("running", 60 * 25),)}, "stuck:pulse_messages.daily_backup.dump"),
        ({"tasks": (task("running", 60 * 23),)}, None),
        ({"pools": frozenset({"default_pool", "pg_source", "scratch", "backups"})}, "pool:restores"),
        ({"pools": frozenset({"default_pool", "pg_source", "scratch", "backups", "restores", "other"})}, None),
        ({"unreachable": "connection refused"}, "unreachable:airflow"),
    ],
)
def test_what_is_wrong_with_airflow_is_told(source: SourcePolicy, changes: dict[str, Any], wanted: str | None) -> None:
    keys = found(facts(airflow=replace(HEALTHY, **changes)), source)
    assert set(keys) == ({wanted} if wanted else set())


@pytest.mark.parametrize(
    ("days", "changes", "told"),
    [(5.9, {}, False), (6.1, {}, True), (6.1, {"storage_class": "GLACIER"}, False), (None, {}, False)],
)
def test_a_proof_whose_turn_has_passed_twice_is_overdue(
    source: SourcePolicy, days: float | None, changes: dict[str, Any], told: bool
) -> None:
    proven_at = None if days is None else NOW - timedelta(days=days)
    made = [backup(day) for day in range(7)]
    keys = found(facts(*made, backup(7, proven_at=proven_at, **changes)), source)
    assert ("proof_overdue:daily" in keys) is told


def test_what_may_be_thawed_is_overdue_in_glacier_too(source: SourcePolicy) -> None:
    assert source.verification is not None
    thawing = replace(source, verification=replace(source.verification, thaw=True))
    old = backup(7, proven_at=NOW - timedelta(days=7), storage_class="GLACIER")
    assert "proof_overdue:daily" in found(facts(*(backup(day) for day in range(7)), old), thawing)


def test_a_request_that_the_service_outside_did_not_get_is_told(source: SourcePolicy) -> None:
    assert set(found(facts(ping_failure="it answers 404"), source)) == {"ping:pulse_messages"}


@pytest.mark.parametrize(
    ("wal", "wanted"),
    [
        (WalFacts(rpo_seconds=60.0, gaps={}, problems=()), set()),
        (WalFacts(rpo_seconds=3601.0, gaps={}, problems=()), {"rpo:wal"}),
        (WalFacts(rpo_seconds=None, gaps={}, problems=()), {"rpo:wal"}),
        (WalFacts(rpo_seconds=60.0, gaps={"A": "A to B", "C": "C to D"}, problems=()), {"wal_gap:A", "wal_gap:C"}),
        (WalFacts(rpo_seconds=60.0, gaps={}, problems=("the slot is lost: x",)), {"wal:the slot is lost"}),
    ],
)
def test_what_is_wrong_with_the_log_is_told(source: SourcePolicy, wal: WalFacts, wanted: set[str]) -> None:
    assert set(found(facts(wal=wal), source)) == wanted


@pytest.mark.parametrize(
    ("used", "grows", "severity", "words"),
    [
        (80, 1.0, None, ""),
        (81, 1.0, Severity.WARNING, "full in 19 days"),
        (81, 0.0, Severity.WARNING, "has not grown"),
        (81, -1.0, Severity.WARNING, "has not grown"),
        (81, None, Severity.WARNING, "how fast it fills is not known"),
        (100, 1.0, Severity.CRITICAL, "it is full"),
        (130, 1.0, Severity.CRITICAL, "it is full"),
    ],
)
def test_a_disk_that_fills_up_is_told_with_the_days_that_are_left(
    source: SourcePolicy, used: int, grows: float | None, severity: Severity | None, words: str
) -> None:
    disk = DiskFact(name="the source's disk", used=used, size=100, grows_per_day=grows)
    finding = found(facts(disks=(disk,)), source).get("capacity:the source's disk")
    assert (finding and finding.severity) == severity
    if finding:
        assert words in finding.evidence


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"unreachable": {"Supabase": "503"}}, "unreachable:Supabase"),
        ({"copies_missing": {"backup store": "backup store: too old"}}, "copies:backup store"),
        ({"object_problems": {"x": "encryption none"}}, "object:x"),
        ({"rejected_sources": {"shop": "policy.yaml:7: no"}}, "left_out:shop"),
        ({"left_slots": {"old": "old has left the policy"}}, "left_slot:old"),
    ],
)
def test_everything_else_that_is_wrong_is_told(source: SourcePolicy, changes: dict[str, Any], wanted: str) -> None:
    assert set(found(facts(**changes), source)) == {wanted}


EVERY_RULE: Mapping[str, dict[str, Any]] = {
    "never_succeeded": {"backups": (backup(0, tier="weekly"),)},
    "late": {"backups": (backup(1),)},
    "missing": {"backups": (backup(3),)},
    "size": {"backups": (backup(0, size=1),)},
    "proof_failed": {"backups": (backup(0, standing=Standing.FAILED),)},
    "unproven": {"backups": (backup(2, proofs=0), backup(0))},
    "proof_overdue": {"backups": (backup(7, proven_at=NOW - timedelta(days=7)), backup(0))},
    "tables_gone": {"backups": (backup(1, rows={"t": 100}), backup(0, rows={}))},
    "rows_lost": {"backups": (backup(1, rows={"t": 100}), backup(0, rows={"t": 1}))},
    "unreachable": {"unreachable": {"Supabase": "503"}},
    "copies": {"copies_missing": {"backup store": "too old"}},
    "object": {"object_problems": {"x": "encryption none"}},
    "left_slot": {"left_slots": {"old": "old has left the policy"}},
    "ping": {"ping_failure": "it answers 404"},
    "left_out": {"rejected_sources": {"shop": "policy.yaml:7: no"}},
    "component": {"airflow": AirflowFacts(components={"scheduler": "unhealthy"})},
    "import_error": {"airflow": AirflowFacts(import_errors={"dags/x.py": "ValueError: no"})},
    "paused": {"airflow": AirflowFacts(dags=(DagFact(dag_id="d", paused=True, stale=False),))},
    "stale": {"airflow": AirflowFacts(dags=(DagFact(dag_id="d", paused=False, stale=True),))},
    "pool": {"airflow": AirflowFacts(pools=frozenset({"default_pool"}))},
    "stuck": {"airflow": AirflowFacts(tasks=(task("queued", 31),))},
    "rpo": {"wal": WalFacts(rpo_seconds=None, gaps={}, problems=())},
    "wal_gap": {"wal": WalFacts(rpo_seconds=1.0, gaps={"A": "A is missing"}, problems=())},
    "wal": {"wal": WalFacts(rpo_seconds=1.0, gaps={}, problems=("the slot is lost: x",))},
    "capacity": {"disks": (DiskFact(name="d", used=99, size=100),)},
}


def rules_of_the_code() -> set[str]:
    """Return every rule that the code can name, whatever decides between two."""
    names: set[str] = set()
    for module in (backup_rules, platform_rules):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.keyword) and node.arg == "rule":
                # Of a choice between two the condition is none of the names.
                chosen = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else [node.value]
                names |= {ast.literal_eval(value) for value in chosen}
    return names


def test_each_rule_of_the_code_has_a_condition_here() -> None:
    assert rules_of_the_code() == set(EVERY_RULE)


@pytest.mark.parametrize("rule", EVERY_RULE)
def test_each_rule_has_a_severity_evidence_of_what_was_seen_and_a_next_step(source: SourcePolicy, rule: str) -> None:
    found = [finding for finding in find(facts(**EVERY_RULE[rule]), source) if finding.rule == rule]
    assert found
    for finding in found:
        assert isinstance(finding.severity, Severity)
        assert len(finding.evidence.split()) >= 3
        assert len(finding.next_step.split()) >= 2
        assert finding.evidence != finding.next_step
        assert finding.subject


def test_every_finding_says_what_to_do_and_the_worst_come_first(source: SourcePolicy) -> None:
    everything = facts(
        backup(3, standing=Standing.FAILED, proofs=0),
        airflow=AirflowFacts(dags=(DagFact(dag_id="d", paused=True, stale=False),)),
        wal=WalFacts(rpo_seconds=None, gaps={}, problems=("p",)),
        disks=(DiskFact(name="d", used=99, size=100),),
    )
    findings = find(everything, source)
    assert len(findings) >= 5
    assert all(finding.evidence and finding.next_step for finding in findings)
    severities = [finding.severity is Severity.WARNING for finding in findings]
    assert severities == sorted(severities)
