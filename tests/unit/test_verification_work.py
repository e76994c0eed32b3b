"""What is to be proven: all that has no proof, and of the old ones each in its turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.verification.log import chosen_segments
from include.backup.verification.work import OWN_RUN, Stored, WorkList, control_is_due, plan_work
from include.backup.wal.chain import Chain, Span
from tests.support.properties import given

NOW = datetime(2026, 6, 1, 7, tzinfo=UTC)
MONTH = timedelta(days=30)


def stored(name: str, age: float = 1, *, proof_age: float | None = None, **changes: Any) -> Stored:
    values: dict[str, Any] = {
        "backup_id": name,
        "tier": "daily",
        "kind": "full",
        "run_after": NOW - timedelta(days=age),
        "stored_at": NOW - timedelta(days=age),
        "size": 1,
        "storage_class": "STANDARD",
        "proven_at": None if proof_age is None else NOW - timedelta(days=proof_age),
        **changes,
    }
    return Stored(**values)


def plan(*backups: Stored, seed: str = "run 1") -> WorkList:
    return plan_work(backups, reprove_after=lambda tier: MONTH, seed=seed, now=NOW)


def ids(found: WorkList) -> list[str]:
    return [work.backup_id for work in found.work]


def test_everything_without_a_proof_is_proven_newest_first() -> None:
    found = plan(stored("old", 20), stored("new", 1), stored("proven", 2, proof_age=2))
    assert ids(found) == ["new", "old"]
    assert {work.why for work in found.work} == {"it has no proof"}


def test_what_is_proven_is_not_read_again_before_it_is_due() -> None:
    assert plan(stored("a", 29, proof_age=29.9)).work == ()
    assert ids(plan(stored("a", 31, proof_age=30))) == ["a"]


def test_each_tier_is_due_again_when_the_policy_says_so() -> None:
    policy = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").verification
    assert policy is not None
    for tier, days in {"daily": 3, "hourly": 4, "weekly": 14, "pre_deployment": 14, "incremental": 7}.items():
        for age, due in ((days - 0.01, 0), (days, 1)):
            one = stored("a", 100, proof_age=age, tier=tier)
            assert len(plan_work([one], reprove_after=policy.reprove_after, seed="x", now=NOW).work) == due
    assert replace(policy, reprove_tier={}).reprove_after("daily") == MONTH


def test_base_backups_and_attachments_are_proven_like_the_others_and_files_the_oldest_first() -> None:
    found = plan(
        stored("base", 5, kind="base", tier="incremental"),
        stored("files2", 1, kind="attachments", tier="monthly"),
        stored("files1", 31, kind="attachments", tier="monthly"),
        stored("full", 31, tier="monthly"),
    )
    assert ids(found) == ["base", "full", "files1", "files2"]


def test_of_each_tier_one_is_due_in_a_run_and_all_take_their_turn() -> None:
    backups = [stored(f"{tier}{n}", 100, proof_age=40, tier=tier) for tier in ("monthly", "weekly") for n in range(5)]
    chosen = [ids(plan(*backups, seed=f"run {number}")) for number in range(60)]
    assert all([name[:-1] for name in found] == ["monthly", "weekly"] for found in chosen)
    assert {name for found in chosen for name in found} == {one.backup_id for one in backups}


def test_each_try_of_a_run_chooses_the_same() -> None:
    backups = [stored(f"b{n}", 100, proof_age=40) for n in range(20)]
    assert plan(*backups) == plan(*reversed(backups))


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (stored("a", stored_at=NOW - OWN_RUN / 2, in_chain=True), "its own run proves it"),
        (stored("a", in_use=True), "it is being read, perhaps by its own proof"),
    ],
)
def test_what_is_left_out_says_why(one: Stored, why: str) -> None:
    found = plan(one)
    assert found.work == ()
    assert [work.why for work in found.left] == [why]


def test_a_run_that_did_not_prove_its_backup_leaves_it_to_the_verification() -> None:
    assert ids(plan(stored("a", stored_at=NOW - OWN_RUN, in_chain=True))) == ["a"]
    assert ids(plan(stored("a", stored_at=NOW, in_chain=False))) == ["a"]


BACKUPS = st.lists(
    st.builds(
        stored,
        st.integers(0, 30).map("b{}".format),
        st.floats(0, 400),
        proof_age=st.none() | st.floats(0, 400),
        tier=st.sampled_from(["daily", "monthly"]),
        kind=st.sampled_from(["full", "tables", "base", "attachments"]),
        in_chain=st.booleans(),
        in_use=st.booleans(),
    ),
    unique_by=lambda one: one.backup_id,
)


@given(backups=BACKUPS)
def test_no_backup_without_a_proof_is_forgotten_and_none_is_proven_twice(backups: list[Stored]) -> None:
    found = plan(*backups)
    named = [work.backup_id for work in (*found.work, *found.left)]
    assert len(named) == len(set(named))
    assert {one.backup_id for one in backups if one.proven_at is None} <= set(named)
    again = {one.backup_id: one for one in backups}
    for work in found.work:
        proven_at = again[work.backup_id].proven_at
        assert proven_at is None or NOW - proven_at >= MONTH


def test_the_verifier_is_tested_once_a_week() -> None:
    week = timedelta(days=7)
    assert control_is_due(None, every=week, now=NOW)
    assert control_is_due(NOW - week, every=week, now=NOW)
    assert not control_is_due(NOW - week + timedelta(seconds=1), every=week, now=NOW)


def test_segments_of_every_span_may_be_chosen_and_only_those_that_are_stored() -> None:
    chain = Chain(
        size=16 << 20, spans={1: (Span(first=3, last=5), Span(first=9, last=9)), 2: (Span(first=20, last=21),)}
    )
    everything = {(1, 3), (1, 4), (1, 5), (1, 9), (2, 20), (2, 21)}
    assert {(one.timeline, one.number) for one in chosen_segments(chain, most=99, seed="x")} == everything
    found = {(one.timeline, one.number) for n in range(100) for one in chosen_segments(chain, most=1, seed=f"run {n}")}
    assert found == everything
    assert chosen_segments(Chain(size=16 << 20), most=5, seed="x") == ()
