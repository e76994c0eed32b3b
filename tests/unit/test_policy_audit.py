"""The policy's block audit: typed, and strict."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.errors import PolicyError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.audit import AWS_PRICES, audit_policy


def test_prices_that_are_named_come_in_the_place_of_the_defaults() -> None:
    found = audit_policy({"rto_minutes": 30, "prices": {"as_of": "2026-01-31", "per_gib_month": {"STANDARD": 1}}})
    assert found.rto == timedelta(minutes=30)
    assert found.prices.per_gib_month["STANDARD"] == 1
    assert found.prices.per_gib_month["GLACIER"] == AWS_PRICES["GLACIER"]
    assert found.prices.as_of.isoformat() == "2026-01-31"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("data_loss_hours: 26", "data_loss_hours: 0", "1 to 744 hours"),
        ("rto_minutes: 60", "rto: 60", "rto_minutes"),
        ("DEEP_ARCHIVE: 0.00099", "DEEP_ARCHIVE: -1", "0 to 100"),
        ("DEEP_ARCHIVE: 0.00099", 'DEEP_ARCHIVE: "cheap"', "a number"),
        ("DEEP_ARCHIVE: 0.00099", "DEEPEST: 1", "DEEP_ARCHIVE"),
        ('as_of: "2025-01-01"', 'as_of: "2025-02-30"', "a day of the calendar"),
        ('as_of: "2025-01-01"', 'as_of: "lately"', "2025-"),
        ("currency: USD", "currency: dollars", "three letters"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = SHIPPED_POLICY.read_text()
    assert text.count(old) == 1
    path = tmp_path / "policy.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(PolicyError, match=r"policy\.yaml:\d+: ") as refused:
        load_policy(path, strict=True)
    assert words in str(refused.value)
