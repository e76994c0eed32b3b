"""The policy's blocks cleanup and evidence: typed, and strict."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.errors import PolicyError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.cleanup import CleanupPolicy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.retention import Retention


def test_the_shipped_policy_says_both() -> None:
    source = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    assert source.cleanup == CleanupPolicy(orphan_grace=timedelta(days=7), keep_proofs=Retention(amount=7, unit="year"))
    assert source.evidence == EvidencePolicy(keep=Retention(amount=7, unit="year"), lock_mode="GOVERNANCE")


def test_without_the_blocks_the_defaults_hold(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    path = tmp_path / "policy.yaml"
    lines = [line for line in text.splitlines() if not line.strip().startswith(BLOCKS)]
    path.write_text("\n".join(lines))
    source = load_policy(path, strict=True).source("pulse_messages")
    assert (source.cleanup, source.evidence) == (None, None)


BLOCKS = ("cleanup:", "orphan_grace_days:", "keep_proofs:", "evidence:", "keep: 7 years # each", "lock_mode:")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("orphan_grace_days: 7", "orphan_grace_days: 3", "4 to 90 days"),
        ("orphan_grace_days: 7", "orphan_grace: 7", "orphan_grace"),
        ("keep_proofs: 7 years", "keep_proofs: for ever", "a number and days, weeks, months or years"),
        ("keep: 7 years # each", "keep: 7 hours # each", "a number and days, weeks, months or years"),
        ("lock_mode: GOVERNANCE", "lock_mode: SOFT", "GOVERNANCE, COMPLIANCE"),
        ("lock_mode: GOVERNANCE", 'signing_connection: "a b"', "an Airflow connection id"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    text = SHIPPED_POLICY.read_text()
    assert old in text
    path = tmp_path / "policy.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(PolicyError, match=r"policy\.yaml:\d+: ") as refused:
        load_policy(path, strict=True)
    assert words in str(refused.value)
