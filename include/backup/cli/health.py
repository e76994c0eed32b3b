"""health: what is wrong with a source's protection, as the store, the source and Supabase show it now."""

from __future__ import annotations

from dataclasses import asdict

from include.backup.cli.session import Session
from include.backup.health.facts import AirflowFacts
from include.backup.health.gather import GatherContext, gather
from include.backup.health.look import find
from include.backup.steps.context import utc_now

FINDINGS_CODE = 1


def run(session: Session) -> int:
    """Print the findings, the worst first; nothing is written, and nobody is told."""
    source = session.source
    facts = gather(
        GatherContext(
            policy=session.policy,
            source=source,
            store=session.store,
            store_connection=session.store_connection,
            database=session.database(source.connection),
            open_project=session.open_supabase,
            now=utc_now(),
            # Nothing is known of Airflow here, which is no finding: this command is for when it is gone.
            airflow=AirflowFacts(),
        )
    )
    findings = find(facts, source)
    lines = [
        f"{finding.severity:<8} {finding.rule}: {finding.evidence}\n         next: {finding.next_step}"
        for finding in findings
    ]
    document = {"findings": [{**asdict(finding), "severity": finding.severity.value} for finding in findings]}
    session.output.result("health", document, lines or [f"{source.name} is healthy (Airflow itself was not asked)"])
    return FINDINGS_CODE if findings else 0
