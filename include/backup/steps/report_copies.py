"""Report the copies of a source: a table in the log, and a record in the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from include.backup.copies.look import look_at_copies
from include.backup.copies.report import HEADER, CopiesReport, Place, shown_path
from include.backup.errors import ObjectExistsError
from include.backup.steps.context import StepContext
from include.backup.supabase.project import SupabaseProject
from include.backup.text import columns


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesStepReport:
    """What was counted, and where the record is."""

    report: CopiesReport
    url: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain ids and numbers; ``note`` is for people, when something needs one."""
        return {"url": self.url, **self.report.to_document(), "note": self.note()}

    def note(self) -> str:
        """Return what people must hear, or nothing. That a rule is not met by design would only be noise every day."""
        check = self.report.supabase
        said = [f"Supabase's own daily backup: {check.state.value}, {check.text}"] if check.needs_a_person else []
        said += [copy.problem for copy in self.report.copies if copy.place is Place.STORE and copy.problem]
        return "; ".join(said)

    def line(self) -> str:
        """Return one line of evidence."""
        return f"{self.report.line()}; recorded at {self.url}"


def run(ctx: StepContext, *, open_project: Callable[[], SupabaseProject | None]) -> CopiesStepReport:
    """Look at every copy, log the table, write the record; a retry leaves the first record as it is."""
    report = look_at_copies(
        source=ctx.source,
        catalog=ctx.catalog,
        connection=ctx.store_connection,
        open_project=open_project,
        now=ctx.clock(),
    )
    for line in columns(HEADER, list(report.rows())):
        ctx.log.info("%s", line)
    if report.supabase.needs_a_person:
        ctx.log.warning("Supabase's own daily backup: %s, %s", report.supabase.state.value, report.supabase.text)
    key = shown_path(ctx.source.name, ctx.run.run_after)
    try:
        ctx.store.put_if_absent(key, report.to_json(), encryption=ctx.encryption)
    except ObjectExistsError:
        ctx.log.info("%s is there from an earlier try and stays as it is", ctx.store.url(key))
    return CopiesStepReport(report=report, url=ctx.store.url(key))
