"""Which base backup is due: full, incremental, or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.base.plan import BasePlan, Situation, Wish, plan_base
from include.backup.base.stored import StoredBase, bases_that_count, chain_of
from include.backup.errors import BackupMissingError
from include.backup.inventory import Standing
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.base_backup import BaseBackupPolicy
from tests.support.bases import make_stored_base

NOW = datetime(2026, 5, 11, 4, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def policy() -> BaseBackupPolicy:
    found = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").base_backup
    assert found is not None
    return found


def base(
    days: float,
    *,
    parent: str | None = None,
    timeline: int = 1,
    cluster: str = "7401",
    standing: Standing = Standing.PROVEN,
    took: timedelta = timedelta(),
) -> StoredBase:
    """Return a base backup whose run was due some days ago."""
    return make_stored_base(
        NOW - timedelta(days=days) + took,
        parent=parent,
        timeline=timeline,
        system_identifier=cluster,
        standing=standing,
        took=took,
    )


def situation(*bases: StoredBase, major: int = 17, summarizes: bool = True) -> Situation:
    return Situation(system_identifier="7401", timeline=1, major=major, summarizes=summarizes, bases=bases)


def decide(policy: BaseBackupPolicy, found: Situation, wish: Wish = Wish.DUE) -> BasePlan:
    return plan_base(policy, found, wish=wish, now=NOW)


def test_the_first_one_is_full(policy: BaseBackupPolicy) -> None:
    plan = decide(policy, situation())
    assert (plan.take, plan.parent) == (True, None)
    assert "no sound one" in plan.why


@pytest.mark.parametrize("wish", [Wish.DUE, Wish.INCREMENTAL])
def test_between_full_ones_it_builds_on_the_newest(policy: BaseBackupPolicy, wish: Wish) -> None:
    full = base(3)
    newest = base(1, parent=full.backup_id)
    assert decide(policy, situation(full, newest), wish).parent == newest.backup_id


@pytest.mark.parametrize(("days", "due"), [(6.5, False), (6.9, True), (8, True)])
def test_a_full_one_is_due_after_the_policys_days(policy: BaseBackupPolicy, days: float, *, due: bool) -> None:
    plan = decide(policy, situation(base(days), base(1, parent="x")))
    assert plan.take
    assert (plan.parent is None) is due


def test_a_full_ones_age_counts_from_its_run_however_long_the_copy_took(policy: BaseBackupPolicy) -> None:
    plan = decide(policy, situation(base(7, took=timedelta(hours=11)), base(6, parent="x")))
    assert (plan.take, plan.parent) == (True, None)
    assert "is 7.0 days old" in plan.why


def test_a_full_one_is_taken_when_asked_for(policy: BaseBackupPolicy) -> None:
    plan = decide(policy, situation(base(0.1)), Wish.FULL)
    assert plan == BasePlan(take=True, parent=None, why="a full one was asked for")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"major": 15}, "PostgreSQL 15 has no incremental"),
        ({"summarizes": False}, "summarize_wal=off"),
    ],
)
def test_where_none_is_possible_nothing_is_taken_between_full_ones(
    policy: BaseBackupPolicy, changes: dict[str, int], why: str
) -> None:
    found = replace(situation(base(3)), **changes)
    plan = decide(policy, found)
    assert not plan.take
    assert why in plan.why
    asked = decide(policy, found, Wish.INCREMENTAL)
    assert (asked.take, asked.parent) == (True, None)
    assert why in asked.why


def test_the_policy_can_do_without_incremental_ones(policy: BaseBackupPolicy) -> None:
    plan = decide(replace(policy, incremental=False), situation(base(3)))
    assert not plan.take


@pytest.mark.parametrize("other", [{"timeline": 2}, {"cluster": "7402"}])
def test_another_timeline_or_cluster_begins_with_a_full_one(policy: BaseBackupPolicy, other: dict[str, int]) -> None:
    plan = decide(policy, situation(base(1, **other)))
    assert (plan.take, plan.parent) == (True, None)


def test_nothing_builds_on_one_whose_proof_failed_and_a_failed_full_one_is_none(policy: BaseBackupPolicy) -> None:
    full, failed = base(3), base(1, standing=Standing.FAILED)
    bad_link = base(2, parent=full.backup_id, standing=Standing.FAILED)
    after = base(1, parent=bad_link.backup_id, standing=Standing.UNPROVEN)
    assert decide(policy, situation(full, bad_link, after)).parent == full.backup_id
    plan = decide(policy, situation(failed))
    assert (plan.take, plan.parent) == (True, None)


def test_a_failed_one_is_followed_by_another_at_once_and_two_by_none_for_a_day() -> None:
    good = base(1)
    lately = [base(hours / 24, standing=Standing.FAILED) for hours in (3, 1)]
    assert bases_that_count([good, lately[0]], now=NOW) == (good,)
    assert bases_that_count(lately, now=NOW) == tuple(lately)
    assert bases_that_count(lately, now=NOW + timedelta(days=1)) == ()


def test_a_chain_goes_back_to_the_full_one() -> None:
    full = base(3)
    first = base(2, parent=full.backup_id)
    second = base(1, parent=first.backup_id)
    assert chain_of(second.backup_id, [second, full, first]) == (full, first, second)


def test_a_missing_link_is_named() -> None:
    full = base(3)
    first = base(2, parent=full.backup_id)
    with pytest.raises(BackupMissingError, match=rf"{full.backup_id}, which {first.backup_id} builds on"):
        chain_of(first.backup_id, [first])
