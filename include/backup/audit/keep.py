"""Where reports lie in the store: written once, under the month that they are about."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

from include.backup.audit.facts import TrendPoint
from include.backup.audit.html import page
from include.backup.audit.month import Month
from include.backup.audit.report import FORMAT_VERSION, Report
from include.backup.errors import ArchiveError, ObjectMissingError
from include.backup.evidence import EventKind, Ledger
from include.backup.records import from_json
from include.backup.store import Encryption, ObjectStore

MONTHS_BACK = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a report was written, and the SHA-256 of both objects."""

    json_key: str
    html_key: str
    json_sha256: str
    html_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trend:
    points: tuple[TrendPoint, ...]


def report_prefix(source: str, month: Month) -> str:
    """Return where the reports of a month lie.

    >>> report_prefix("shop", Month.parse("2026-05"))
    'audit/shop/report/2026-05/'
    """
    return f"audit/{source}/report/{month}/"


def report_key(source: str, month: Month, made_at: datetime, suffix: str) -> str:
    """Return the key of a report: one for each time that it is made, so that none is ever overwritten."""
    return f"{report_prefix(source, month)}{made_at:%Y%m%dT%H%M%S_%f}.{suffix}"


def keep_report(
    store: ObjectStore, ledger: Ledger, report: Report, *, month: Month, encryption: Encryption, actor: str
) -> Kept:
    """Write the report as JSON and as a page, and record both hashes as evidence; a retry makes a report of its own."""
    content, html = report.to_json(), page(report).encode()
    kept = Kept(
        json_key=report_key(report.source, month, report.made_at, "json"),
        html_key=report_key(report.source, month, report.made_at, "html"),
        json_sha256=hashlib.sha256(content).hexdigest(),
        html_sha256=hashlib.sha256(html).hexdigest(),
    )
    store.put_if_absent(kept.html_key, html, encryption=encryption, content_type="text/html; charset=utf-8")
    store.put_if_absent(kept.json_key, content, encryption=encryption)
    ledger.append(
        EventKind.AUDIT,
        subject=report.month,
        actor=actor,
        facts={
            "json": kept.json_key,
            "json_sha256": kept.json_sha256,
            "html": kept.html_key,
            "html_sha256": kept.html_sha256,
            "findings": len(report.problems),
            "backups": len(report.backups),
            "proven": report.proven,
            "live_test": report.live_test.proof_id,
        },
    )
    return kept


def earlier_trend(store: ObjectStore, source: str, month: Month) -> tuple[TrendPoint, ...]:
    """Return the trend that the newest report of an earlier month has, at most a year back; nothing without any."""
    for back in range(1, MONTHS_BACK):
        keys = [item.key for item in store.list(report_prefix(source, month.plus(-back))) if item.key.endswith(".json")]
        for key in reversed(keys):
            points = _trend_of(store, key)
            if points:
                return points
    return ()


def _trend_of(store: ObjectStore, key: str) -> tuple[TrendPoint, ...]:
    """Read the trend alone: a report can have thousands of rows besides."""
    try:
        data = json.loads(store.get(key))
        trend = {"format_version": data["format_version"], "points": data["trend"]}
        return from_json(_Trend, json.dumps(trend).encode(), format_version=FORMAT_VERSION, name=key).points
    except (ArchiveError, ObjectMissingError, ValueError, KeyError, TypeError):
        return ()
