"""What a policy may say of the tiers that are kept for long: classes that cannot be read back, and copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

UNREADABLE_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def cold_problems(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """A backup counts once it was restored, so what cannot be read back is proven before it gets its class."""
    if tier["storage_class"] not in UNREADABLE_CLASSES or name == "yearly":
        return
    in_chain = tier["prove"] == "in_chain"
    if name == "monthly" and not in_chain:
        yield "prove", f"archives move to {tier['storage_class']} once they are proven; allowed: prove: in_chain"
    if name != "monthly" and in_chain:
        yield (
            "prove",
            f"an object of class {tier['storage_class']} cannot be read back at once, and only monthly_archive moves "
            "archives there after their proof; allowed: prove: after, or another storage_class",
        )


def copy_problems(name: str, tier: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yearly archives are copies, so that nothing schedules them."""
    if name == "yearly" and tier["schedule"] is not None:
        yield "schedule", "yearly archives are copies that monthly_archive makes in January; allowed: schedule: null"


def yearly_problems(tiers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yearly archives are copies of monthly ones, by which they are proven."""
    if "yearly" not in tiers:
        return
    if "monthly" not in tiers:
        yield "yearly", "nothing makes yearly archives without the tier monthly; add it, or remove yearly"
