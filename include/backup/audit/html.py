"""The report as one page: everything in it, readable without a network, a script or a server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from include.backup.audit.charts import Bar, column_chart
from include.backup.audit.facts import TrendPoint
from include.backup.audit.report import BackupRow, Report
from include.backup.audit.storage import cost_of
from include.backup.policy.audit import Prices
from include.backup.restore.progress import size_text

TEMPLATE = "page.html.j2"
# What a browser would not show, or obey: control characters, lone surrogates, and what turns the direction of text.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_HOUR, _MINUTE = 3600.0, 60.0
MOST_RESTORES = 60


def page(report: Report) -> str:
    """Return the report as HTML; every text in it is escaped, whoever wrote it."""
    return _template().render(
        report=report,
        groups=_by_tier(report.backups),
        charts={
            "storage": Markup(_storage(report.trend)),  # noqa: S704 - made of numbers and escaped names
            "cost": Markup(_cost(report)),  # noqa: S704
            "exposure": Markup(_exposure(report)),  # noqa: S704
            "restores": Markup(_restores(report)),  # noqa: S704
        },
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    filters: dict[str, Callable[..., str]] = {
        "size": size_text,
        "time": time_text,
        "span": span_text,
        "money": money_text,
        "count": lambda value: f"{value:,}",
    }
    environment.filters.update(filters)
    return environment.get_template(TEMPLATE)


def shown(value: Any) -> Any:
    """Return what a person sees of a value: a text without what a browser would obey or hide.

    >>> shown("a\\u202eb\\x00"), shown(None), shown(3)
    ('a\ufffdb\ufffd', '', 3)
    """
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSHOWN.sub("\ufffd", value)
    return value


def time_text(moment: datetime | None) -> str:
    """Return a time in UTC, or a dash."""
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def money_text(value: float) -> str:
    """Return an amount; what is less than the least that is shown is said to be so.

    >>> money_text(1234.5), money_text(0.004), money_text(0.0)
    ('1,234.50', '< 0.01', '0.00')
    """
    return "< 0.01" if 0 < value < 0.005 else f"{value:,.2f}"


def span_text(seconds: float | None) -> str:
    """Return a span as a person says it.

    >>> span_text(4.2), span_text(95), span_text(5400), span_text(200000), span_text(None)
    ('4.2 s', '1.6 min', '1.5 h', '2.3 days', '–')
    """
    if seconds is None:
        return "–"
    for size, name, most in ((1.0, "s", 60.0), (_MINUTE, "min", 60.0), (_HOUR, "h", 36.0)):
        if seconds / size < most:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds / _HOUR / 24:.1f} days"


def _by_tier(rows: Iterable[BackupRow]) -> dict[str, list[BackupRow]]:
    groups: dict[str, list[BackupRow]] = {}
    for row in rows:
        groups.setdefault(row.tier, []).append(row)
    return groups


def _storage(trend: Sequence[TrendPoint]) -> str:
    highest = max((sum(use.size for use in point.uses) for point in trend), default=0)
    unit, size = next(((name, size) for name, size in _UNITS if highest >= size), _UNITS[-1])
    bars = [Bar(label=point.month, parts=_parts(point, lambda use: use.size / size)) for point in trend]
    return column_chart(bars, title="What is stored at each month's end, by tier", unit=unit)


def _cost(report: Report) -> str:
    prices = Prices(currency=report.prices.currency, per_gib_month=report.prices.per_gib_month)
    bars = [
        Bar(label=point.month, parts=_parts(point, lambda use: cost_of(use.size, use.storage_class, prices) or 0.0))
        for point in report.trend
    ]
    return column_chart(bars, title="What that costs in a month, by tier", unit=report.prices.currency)


def _parts(point: TrendPoint, value: Callable[[Any], float]) -> dict[str, float]:
    parts: dict[str, float] = {}
    for use in point.uses:
        parts[use.tier] = parts.get(use.tier, 0.0) + value(use)
    return parts


def _exposure(report: Report) -> str:
    promised = min((row.objective for row in report.objectives[:-1]), default=0.0)
    highest = max((day.seconds or 0.0 for day in report.exposure), default=0.0)
    unit, size = ("h", _HOUR) if max(promised, highest) >= 2 * _HOUR else ("min", _MINUTE)
    bars = [
        Bar(label=day.day[-2:], parts=None if day.seconds is None else {"lost": day.seconds / size})
        for day in report.exposure
    ]
    title = "What would have been lost at worst on each day of the month"
    return column_chart(bars, title=title, unit=unit, limit=promised / size, limit_name="promised at most")


def _restores(report: Report) -> str:
    objective = report.objectives[-1].objective
    highest = max(report.restore_seconds, default=0.0)
    unit, size = ("min", _MINUTE) if max(highest, objective) >= 2 * _MINUTE else ("s", 1.0)
    newest = report.restore_seconds[-MOST_RESTORES:]
    bars = [
        Bar(label=str(index), parts={"took": seconds / size})
        for index, seconds in enumerate(newest, len(report.restore_seconds) - len(newest) + 1)
    ]
    title = "How long each restore of everything took"
    return column_chart(bars, title=title, unit=unit, limit=objective / size, limit_name="promised at most")
