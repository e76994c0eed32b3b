"""The report in a few lines, for people who will not open it unless they must."""

from __future__ import annotations

from html import escape

from include.backup.audit.report import Report, Shown

SHOWN = 5
LONGEST = 300


def summary(report: Report, *, where: str, url: str) -> str:
    """Return what Slack is told: what, the findings, and where the page is. Texts of others are escaped."""
    sign = "📋" if not report.problems else "🟠"
    if report.live_test.passed is False:
        sign = "🔴"
    controls = sum(row.state is Shown.SHOWN for row in report.controls)
    lines = [
        f"{sign} *{_text(report.source)}* audit of {report.month}: {_text(report.line().partition(': ')[2])}",
        *(f"• {_text(text)}" for text in report.problems[:SHOWN]),
    ]
    if len(report.problems) > SHOWN:
        lines.append(f"• and {len(report.problems) - SHOWN} more")
    lines.append(f"Live restore test: {_text(report.live_test.detail)}")
    lines.append(f"{controls} of {len(report.controls)} controls shown; page: {_text(where)}")
    return "\n".join([*lines, f"<{url}|run>"])


def _text(text: str) -> str:
    shown = " ".join(text.split())
    return escape(shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…", quote=False)
