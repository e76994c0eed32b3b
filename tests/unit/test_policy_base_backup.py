"""The policy's base_backup block: typed, and strict."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.errors import PolicyError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.retention import Retention


def test_the_shipped_policy_takes_base_backups() -> None:
    block = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").base_backup
    assert block is not None
    assert (block.schedule, block.full_every_days, block.incremental) == ("0 4 * * *", 7, True)
    assert block.keep == Retention(amount=2, unit="week")
    assert block.timeouts.take == timedelta(hours=8)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('cron: "0 4 * * *"', 'cron: "0 24 * * *"', "the hour 24"),
        ("full_every_days: 7", "full_every_days: 0", "1 to 31 days"),
        ("full_every_days: 7", "full_every_days: weekly", "a whole number"),
        ("full_every_days: 7", "full_every_days: 15", "allowed: 15 days or longer"),
        ("keep: 2 weeks # as", "keep: 14 # as", "must be text"),
        ("keep: 2 weeks # as", "keep: 14 hours # as", "days, weeks, months or years"),
        ("incremental: true", "incremental: maybe", "true"),
        ("compression_workers: 2", "compression_workers: 99", "0 to 32"),
        ("compression_level: 3 #", "compression_level: 22 #", "1 to 19"),
        ("        take: 8 hours\n", "", "take"),
        ("        take: 8 hours\n", "        dump: 8 hours\n", "dump"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    before, block, after = _parts(SHIPPED_POLICY.read_text())
    assert old in block
    path = tmp_path / "policy.yaml"
    path.write_text(f"{before}{block.replace(old, new)}{after}")
    with pytest.raises(PolicyError, match=r"policy\.yaml:\d+: ") as refused:
        load_policy(path, strict=True)
    assert words in str(refused.value)


def _parts(text: str) -> tuple[str, str, str]:
    """Return what stands before the block, the block, and the rest."""
    before, start, rest = text.partition("    base_backup:")
    end = rest.index("    tiers:")
    return before, start + rest[:end], rest[end:]
