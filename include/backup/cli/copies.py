"""copies: the 3-2-1 report, as it is now."""

from __future__ import annotations

import json
from collections.abc import Iterator

from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.copies.look import look_at_copies
from include.backup.copies.report import HEADER, CopiesReport
from include.backup.steps.context import utc_now


def run(session: Session) -> int:
    """Print where the copies are; nothing is written."""
    session.store.check_bucket()
    report = look_at_copies(
        source=session.source,
        catalog=session.catalog,
        connection=session.store_connection,
        open_project=session.open_supabase,
        now=utc_now(),
    )
    document = {**report.to_document(), "report": json.loads(report.to_json())}
    session.output.result("copies", document, _lines(report))
    return 0


def _lines(report: CopiesReport) -> Iterator[str]:
    yield from columns(HEADER, list(report.rows()))
    yield f"Supabase's own daily backup: {report.supabase.state.value}, {report.supabase.text}"
    yield report.line()
