"""Rules about what backups run on: Airflow, the log, disks, and whoever must be reached."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from include.backup.health.facts import DiskFact, HealthFacts
from include.backup.health.finding import Finding, Severity
from include.backup.policy import SourcePolicy
from include.backup.policy.health import HealthPolicy

# A task that only waits has no slot, no worker, or no pool.
WAITS_AT_MOST = timedelta(minutes=30)
WAITING = ("scheduled", "queued")
RUNNING = "running"
RUNS_AT_MOST = timedelta(hours=24)
HEALTHY = "healthy"


def platform_findings(facts: HealthFacts, source: SourcePolicy, health: HealthPolicy) -> Iterator[Finding]:
    """Yield what is wrong around the backups."""
    yield from _airflow(facts)
    yield from _pools(facts, source)
    yield from _wal(facts, health)
    for disk in facts.disks:
        yield from _disk(disk, health)
    for name, why in facts.unreachable.items():
        yield Finding(
            rule="unreachable",
            subject=name,
            severity=Severity.WARNING,
            evidence=f"{name} does not answer: {why}",
            next_step=f"check the connection of {name}; until then nothing is known from there",
        )
    for what, missing in facts.copies_missing.items():
        yield Finding(
            rule="copies",
            subject=what,
            severity=Severity.WARNING,
            evidence=f"the strategy's 3-2-1 is not met: {missing}",
            next_step=f"`python -m include.backup copies {source.name}` shows each copy, and why it does not count",
        )
    for backup_id, problem in facts.object_problems.items():
        yield Finding(
            rule="object",
            subject=backup_id,
            severity=Severity.CRITICAL,
            evidence=f"{backup_id} is not as its manifest or the policy says: {problem}",
            next_step="find out who changed it; take a new backup now",
        )
    for name, line in facts.left_slots.items():
        yield Finding(
            rule="left_slot",
            subject=name,
            severity=Severity.WARNING,
            evidence=line,
            next_step="remove its slots: they keep WAL until that server's disk is full, or they are lost",
        )
    if facts.ping_failure is not None:
        yield Finding(
            rule="ping",
            subject=facts.source,
            severity=Severity.WARNING,
            evidence=f"the service that waits for a request after each look did not get the last one: "
            f"{facts.ping_failure}",
            next_step="check the connection of health.ping, and that service; it may have alarmed already",
        )
    for name, why in facts.rejected_sources.items():
        yield Finding(
            rule="left_out",
            subject=name,
            severity=Severity.CRITICAL,
            evidence=f"source {name} is left out of the policy, so it has no DAGs: {why}",
            next_step="correct the policy at the line that the message names",
        )


def _airflow(facts: HealthFacts) -> Iterator[Finding]:
    airflow = facts.airflow
    if airflow.unreachable is not None:
        yield Finding(
            rule="unreachable",
            subject="airflow",
            severity=Severity.CRITICAL,
            evidence=f"Airflow's API does not answer: {airflow.unreachable}",
            next_step="look at the API servers; without them no task starts",
        )
        return
    for name, state in airflow.components.items():
        if state != HEALTHY:
            yield Finding(
                rule="component",
                subject=name,
                severity=Severity.CRITICAL,
                evidence=f"Airflow's {name} is {state}",
                next_step=f"start the {name} again and look at its log",
            )
    for file, error in airflow.import_errors.items():
        yield Finding(
            rule="import_error",
            subject=file,
            severity=Severity.CRITICAL,
            evidence=f"{file} cannot be imported, so its DAGs are gone: {error.strip().splitlines()[-1][:300]}",
            next_step="correct the file or the policy that it reads",
        )
    for dag in airflow.dags:
        if dag.paused or dag.stale:
            yield Finding(
                rule="paused" if dag.paused else "stale",
                subject=dag.dag_id,
                severity=Severity.WARNING,
                evidence=f"{dag.dag_id} is {'paused' if dag.paused else 'no longer read from its file'}",
                next_step="unpause it" if dag.paused else "look at import errors and at the dag-processor",
            )
    yield from _tasks(facts)


def _pools(facts: HealthFacts, source: SourcePolicy) -> Iterator[Finding]:
    """Yield the pools that tasks of the source would wait for in vain; nothing in Airflow says that one is missing."""
    there = facts.airflow.pools
    for name in source.scheduling.pools():
        # Airflow is never without any: then it was not asked.
        if there and name not in there:
            yield Finding(
                rule="pool",
                subject=name,
                severity=Severity.CRITICAL,
                evidence=f"the pool {name} is not there: tasks of {source.name} wait in it for ever",
                next_step="run `python -m include.sync_pools` where Airflow's metadata database is reached",
            )


def _tasks(facts: HealthFacts) -> Iterator[Finding]:
    for task in facts.airflow.tasks:
        age = facts.now - task.since
        limit = RUNS_AT_MOST if task.state == RUNNING else WAITS_AT_MOST
        if age <= limit or task.state not in (RUNNING, *WAITING):
            continue
        yield Finding(
            rule="stuck",
            subject=f"{task.dag_id}.{task.task_id}",
            severity=Severity.WARNING,
            evidence=f"{task.task_id} of {task.dag_id} ({task.run_id}) is {task.state} for {age}",
            next_step="look whether its pool exists and has a free slot, and whether a worker is there"
            if task.state != RUNNING
            else "look at its log; mark it failed if nothing happens any more, which ends its children",
        )


def _wal(facts: HealthFacts, health: HealthPolicy) -> Iterator[Finding]:
    if facts.wal is None:
        return
    rpo = facts.wal.rpo_seconds
    if rpo is None or rpo > health.rpo.total_seconds():
        yield Finding(
            rule="rpo",
            subject="wal",
            severity=Severity.CRITICAL,
            evidence="no point in time can be recovered now"
            if rpo is None
            else f"{rpo / 60:.0f} minutes would be lost now; the objective is {health.rpo}",
            next_step=f"`python -m include.backup wal {facts.source}` says what is missing; look at incremental_backup",
        )
    for first, text in facts.wal.gaps.items():
        yield Finding(
            rule="wal_gap",
            subject=first,
            severity=Severity.CRITICAL,
            evidence=text,
            next_step="take a base backup now, unless one was taken since: points in time begin anew with it; then "
            "acknowledge this until the backups before it have expired",
        )
    for text in facts.wal.problems:
        yield Finding(
            rule="wal",
            # Without the numbers behind the colon, which change while it is the same problem.
            subject=text.split(":", 1)[0][:120],
            severity=Severity.WARNING,
            evidence=text,
            next_step=f"`python -m include.backup wal {facts.source}` shows slots and windows; look at its runs",
        )


def _disk(disk: DiskFact, health: HealthPolicy) -> Iterator[Finding]:
    if disk.size <= 0 or disk.used / disk.size <= health.full_share:
        return
    left = disk.size - disk.used
    if left <= 0:
        when = "it is full"
    elif disk.grows_per_day is None:
        when = "how fast it fills is not known yet"
    elif disk.grows_per_day > 0:
        when = f"at the present pace it is full in {left / disk.grows_per_day:.0f} days"
    else:
        when = "it has not grown lately"
    yield Finding(
        rule="capacity",
        subject=disk.name,
        severity=Severity.CRITICAL if left <= 0 else Severity.WARNING,
        evidence=f"{disk.name} is {100 * disk.used / disk.size:.0f} % full ({disk.used} of {disk.size} bytes); {when}",
        next_step="make room, raise the budget, or keep backups for less long",
    )
