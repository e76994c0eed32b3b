"""The policy's block ``audit``: the objectives that a month is held against, and what storage costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any

# AWS's list prices of us-east-1 in USD for a GiB and month, the first 50 TB.
AWS_PRICES: Mapping[str, float] = MappingProxyType(
    {
        "STANDARD": 0.023,
        "STANDARD_IA": 0.0125,
        "ONEZONE_IA": 0.01,
        "INTELLIGENT_TIERING": 0.023,
        "GLACIER_IR": 0.004,
        "GLACIER": 0.0036,
        "DEEP_ARCHIVE": 0.00099,
    }
)
AWS_PRICES_AS_OF = date(2025, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a GiB costs in a month, by storage class; ``as_of`` is when somebody looked the prices up."""

    currency: str = "USD"
    region: str = "us-east-1"
    as_of: date = AWS_PRICES_AS_OF
    per_gib_month: Mapping[str, float] = field(default_factory=lambda: AWS_PRICES)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPolicy:
    """Objectives as the backup strategy has them; the target for WAL is ``health.rpo_minutes``.

    ``data_loss`` is what may be lost at most when only backups are left: the strategy's day, and the time that a daily
    run itself takes. ``rto`` how long a restore of everything may take, ``sample`` how many
    objects the audit asks the store about one by one, besides the newest of each tier.
    """

    data_loss: timedelta = timedelta(hours=26)
    rto: timedelta = timedelta(hours=1)
    sample: int = 20
    prices: Prices = field(default_factory=Prices)


def audit_policy(data: Mapping[str, Any] | None) -> AuditPolicy:
    """Build the block from checked data; prices that it names come in the place of AWS's, the others stay."""
    found = data or {}
    base, prices = AuditPolicy(), found.get("prices", {})
    return AuditPolicy(
        data_loss=timedelta(hours=found.get("data_loss_hours", 26)),
        rto=timedelta(minutes=found.get("rto_minutes", 60)),
        sample=found.get("sample", base.sample),
        prices=Prices(
            currency=prices.get("currency", base.prices.currency),
            region=prices.get("region", base.prices.region),
            as_of=date.fromisoformat(prices["as_of"]) if "as_of" in prices else base.prices.as_of,
            per_gib_month={**AWS_PRICES, **prices.get("per_gib_month", {})},
        ),
    )


def audit_problems(data: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for what a JSON Schema cannot say."""
    as_of = (data or {}).get("prices", {}).get("as_of")
    try:
        date.fromisoformat(as_of or AWS_PRICES_AS_OF.isoformat())
    except ValueError:
        yield "prices", f"as_of is {as_of!r}; allowed: a day of the calendar"
