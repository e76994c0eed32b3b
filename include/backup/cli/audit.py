"""audit: the report of a month: printed, written to a file, kept in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.backup.audit.build import build_report
from include.backup.audit.fleet import SharedStores, fleet_lines
from include.backup.audit.gather import AuditContext, gather, policy_key
from include.backup.audit.html import page
from include.backup.audit.keep import keep_report
from include.backup.audit.live_test import prove_newest
from include.backup.audit.month import month_to_report
from include.backup.audit.report import Report, Shown
from include.backup.chain import user_name
from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.connections import StoreConnection
from include.backup.errors import ParameterError
from include.backup.evidence import open_ledger
from include.backup.policy import SourcePolicy
from include.backup.steps.context import encryption_of, utc_now


def run(session: Session) -> int:
    """Make the report; what it finds is in it, and no error of this command."""
    arguments, source = session.arguments, session.source
    output: Path | None = arguments.output
    if output is not None and output.suffix not in _FORMATS:
        raise ParameterError(f"{output} is neither .html nor .json; name the file so that it says what it is to be")
    month = month_to_report(arguments.month, now=utc_now())
    actor = f"command_line audit {month} by {user_name()}"
    if arguments.restore_test:
        actor = f"command_line audit {month} {utc_now():%Y%m%dT%H%M%SZ} by {user_name()}"
        prove_newest(source, session.store, scratch_root=session.scratch_root, actor=actor, runner=session.runner)
    facts = gather(
        AuditContext(
            policy=session.policy,
            source=source,
            store=session.store,
            store_connection=session.store_connection,
            open_source=SharedStores(lambda other: _connection(session, other)).open,
            month=month,
            made_by=actor,
            now=utc_now(),
            key_arn=policy_key(source, session.store),
        )
    )
    report = build_report(facts, source, tested_by=actor if arguments.restore_test else None)
    if output is not None:
        _write(output, _FORMATS[output.suffix](report))
    kept = None
    if arguments.keep:
        encryption = encryption_of(source, session.store)
        ledger = open_ledger(source, session.store)
        kept = keep_report(session.store, ledger, report, month=month, encryption=encryption, actor=actor)
    where = None if kept is None else session.store.url(kept.html_key)
    document: dict[str, Any] = {"kept": where, "report": json.loads(report.to_json())}
    session.output.result("audit", document, _lines(report, where, output))
    return 0


def _connection(session: Session, source: SourcePolicy) -> StoreConnection:
    return StoreConnection.from_spec(session.connection(source.store.connection))


def _write(output: Path, content: bytes) -> None:
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ParameterError(f"cannot write {output}: {error.strerror}; name a file in a folder of yours") from error


_FORMATS = {".html": lambda report: page(report).encode(), ".json": Report.to_json}


def _lines(report: Report, where: str | None, output: Path | None) -> Iterator[str]:
    tiers = [
        (row.tier, "-" if row.due is None else str(row.due), str(row.made), str(row.proven), str(row.held))
        for row in report.tiers
    ]
    yield from columns(("tier", "due", "made", "proven", "in the store"), tiers)
    yield ""
    yield from fleet_lines(report.fleet)
    yield ""
    yield from (f"finding: {text}" for text in report.problems)
    hidden = [row for row in report.controls if row.state is not Shown.SHOWN]
    yield f"{len(report.controls) - len(hidden)} of {len(report.controls)} controls are shown by this report"
    yield report.line()
    if where is not None:
        yield f"kept at {where}"
    elif output is None:
        yield "--output FILE.html writes the page, --keep stores it with its evidence"
