"""The retention plan: cases in a table, properties, and a year day by day beside an independent oracle."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.retention import STRATEGY_MINIMUM, Retention, Thinning
from include.backup.retention.plan import EXPIRING, Candidate, Guards, Reason, TierRule, plan_backups
from tests.support.properties import given
from tests.support.retention_oracle import may_go

NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)
RULES = {
    tier: TierRule(
        keep=Retention(amount=9, unit="day") if tier == "hourly" else keep,
        thinning=Thinning(after=timedelta(hours=48)) if tier == "hourly" else None,
    )
    for tier, keep in STRATEGY_MINIMUM.items()
}


def backup(age_days: float, *, name: str = "", **changes: Any) -> Candidate:
    values = {
        "backup_id": name or f"b{age_days}",
        "tier": "daily",
        "kind": "full",
        "snapshot_time": NOW - timedelta(days=age_days),
        "proven": True,
        **changes,
    }
    return Candidate(**values)


def reasons(*backups: Candidate, **guards: Any) -> dict[str, Reason]:
    plan = plan_backups(backups, RULES, Guards(**guards), now=NOW)
    return {decision.backup.backup_id: decision.reason for decision in plan}


CASES: dict[str, tuple[list[Candidate], dict[str, Any], dict[str, Reason]]] = {
    "an expired backup goes when a newer one is proven": (
        [backup(8, name="old"), backup(1, name="new")],
        {},
        {"old": Reason.EXPIRED, "new": Reason.WITHIN},
    ),
    "to the second": (
        [backup(7, name="just"), backup(7 - 1 / 86400, name="not yet"), backup(1, name="new")],
        {},
        {"just": Reason.EXPIRED, "not yet": Reason.WITHIN, "new": Reason.WITHIN},
    ),
    "an expired backup is kept when it is the only proven one": (
        [backup(90, name="old"), backup(1, name="new", proven=False)],
        {},
        {"old": Reason.NEWEST_PROVEN, "new": Reason.WITHIN},
    ),
    "expired unproven ones newer than the newest proven are kept too": (
        [backup(90, name="proven"), backup(60, name="unproven", proven=False), backup(99, name="older")],
        {},
        {"proven": Reason.NEWEST_PROVEN, "unproven": Reason.NO_NEWER_PROVEN, "older": Reason.EXPIRED},
    ),
    "nothing goes while nothing is proven": (
        [backup(n, name=str(n), proven=False) for n in (50, 60)],
        {},
        {"50": Reason.NO_NEWER_PROVEN, "60": Reason.NO_NEWER_PROVEN},
    ),
    "a proven one of another tier or kind does not count": (
        [
            backup(30, name="old", proven=False),
            backup(1, name="weekly", tier="weekly"),
            backup(1, name="schema", kind="schema"),
        ],
        {},
        {"old": Reason.NO_NEWER_PROVEN, "weekly": Reason.WITHIN, "schema": Reason.WITHIN},
    ),
    "what is held, in use or locked is kept": (
        [backup(n, name=name) for n, name in ((30, "held"), (31, "used"), (32, "locked"), (1, "new"))],
        {"held": {"held": "x"}, "in_use": {"used": "x"}, "locked": {"locked": "x"}},
        {"held": Reason.HELD, "used": Reason.IN_USE, "locked": Reason.LOCKED, "new": Reason.WITHIN},
    ),
    "unknown means keep": (
        [
            backup(99, name="bad", unknown="its manifest cannot be read"),
            backup(99, name="odd", tier="safety"),
            backup(1),
        ],
        {},
        {"bad": Reason.UNKNOWN, "odd": Reason.UNKNOWN, "b1": Reason.WITHIN},
    ),
    "one that cannot be judged does not prove anything": (
        [backup(30, name="old", proven=False), backup(1, name="bad", unknown="x")],
        {},
        {"old": Reason.NO_NEWER_PROVEN, "bad": Reason.UNKNOWN},
    ),
    "what a kept one needs is kept, and what that needs": (
        [
            backup(30, name="root"),
            backup(20, name="middle", needs=frozenset({"root"})),
            backup(21, name="unneeded"),
            backup(2, name="leaf", needs=frozenset({"middle", "not there"})),
        ],
        {},
        {"root": Reason.NEEDED, "middle": Reason.NEEDED, "unneeded": Reason.EXPIRED, "leaf": Reason.WITHIN},
    ),
    "what only an expired one needs is not": (
        [backup(30, name="root"), backup(20, name="leaf", needs=frozenset({"root"})), backup(1, name="new")],
        {},
        {"root": Reason.EXPIRED, "leaf": Reason.EXPIRED, "new": Reason.WITHIN},
    ),
    "a clock that is behind deletes nothing": (
        [backup(-30, name="future"), backup(-60, name="far")],
        {},
        {"future": Reason.WITHIN, "far": Reason.WITHIN},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    backups, guards, expected = CASES[name]
    assert reasons(*backups, **guards) == expected


def test_months_and_years_follow_the_calendar() -> None:
    taken = datetime(2024, 2, 29, 1, tzinfo=UTC)
    backups = [
        Candidate(backup_id="yearly", tier="yearly", kind="full", snapshot_time=taken, proven=True),
        Candidate(backup_id="later", tier="yearly", kind="full", snapshot_time=taken + timedelta(days=1), proven=True),
    ]
    for moment, expires in (
        (datetime(2031, 2, 28, 0, 59, tzinfo=UTC), False),
        (datetime(2031, 2, 28, 1, tzinfo=UTC), True),
    ):
        assert plan_backups(backups, RULES, Guards(), now=moment)[0].expires is expires


def test_hourly_backups_are_thinned_to_one_a_day_and_then_expire() -> None:
    hours = [
        Candidate(
            backup_id=f"h{n:04}",
            tier="hourly",
            kind="tables",
            snapshot_time=NOW - timedelta(hours=n),
            proven=True,
        )
        for n in range(24 * 20)
    ]
    kept = [one for one in plan_backups(hours, RULES, Guards(), now=NOW) if not one.expires]
    ages = [(NOW - one.backup.snapshot_time) for one in kept]
    assert sum(age <= timedelta(hours=48) for age in ages) == 49
    assert sum(age > timedelta(hours=48) for age in ages) == 7
    assert max(ages) < timedelta(days=9)


def test_each_line_says_what_and_why() -> None:
    lines = [
        one.line() for one in plan_backups([backup(8, name="old"), backup(1, name="new")], RULES, Guards(), now=NOW)
    ]
    assert lines == [
        "old expires: expired (7 days ended 2026-05-31 04:00 UTC)",
        "new kept: within its retention (7 days, until 2026-06-07 04:00 UTC)",
    ]


IDS = st.integers(min_value=0, max_value=11).map("b{}".format)
BACKUPS = st.lists(
    st.builds(
        Candidate,
        backup_id=IDS,
        tier=st.sampled_from(["daily", "weekly", "hourly", "safety"]),
        kind=st.sampled_from(["full", "schema"]),
        snapshot_time=st.integers(min_value=-2, max_value=24 * 40).map(lambda hours: NOW - timedelta(hours=hours)),
        proven=st.booleans(),
        needs=st.frozensets(IDS, max_size=2),
        unknown=st.sampled_from([None, None, None, "x"]),
    ),
    unique_by=lambda one: one.backup_id,
    max_size=12,
)
TEXTS = st.dictionaries(IDS, st.just("x"), max_size=2)
GUARDS = st.builds(Guards, held=TEXTS, in_use=TEXTS, locked=TEXTS)


@given(backups=BACKUPS, guards=GUARDS)
def test_the_plan_is_a_partition(backups: list[Candidate], guards: Guards) -> None:
    plan = plan_backups(backups, RULES, guards, now=NOW)
    assert sorted(one.backup.backup_id for one in plan) == sorted(one.backup_id for one in backups)
    assert {one.backup for one in plan} == set(backups)
    assert all(one.expires is (one.reason in EXPIRING) for one in plan)


@given(backups=BACKUPS, guards=GUARDS)
def test_the_plan_agrees_with_the_oracle(backups: list[Candidate], guards: Guards) -> None:
    gone = {one.backup.backup_id for one in plan_backups(backups, RULES, guards, now=NOW) if one.expires}
    certain, possible = may_go(backups, guards, now=NOW)
    assert gone == certain == possible


@given(backups=BACKUPS, guards=GUARDS, hours=st.integers(min_value=0, max_value=24 * 40))
def test_what_has_expired_stays_expired_unless_something_is_learnt(
    backups: list[Candidate], guards: Guards, hours: int
) -> None:
    before = plan_backups(backups, RULES, guards, now=NOW)
    after = plan_backups(backups, RULES, guards, now=NOW + timedelta(hours=hours))
    gone = {one.backup.backup_id for one in before if one.expires}
    assert gone <= {one.backup.backup_id for one in after if one.expires}


@given(backups=BACKUPS, guards=GUARDS)
def test_the_floors_hold(backups: list[Candidate], guards: Guards) -> None:
    plan = plan_backups(backups, RULES, guards, now=NOW)
    kept = {one.backup.backup_id for one in plan if not one.expires}
    for one in backups:
        group = [other for other in backups if (other.tier, other.kind) == (one.tier, one.kind) and not other.unknown]
        if one.backup_id not in kept:
            assert one.backup_id not in {**guards.held, **guards.in_use, **guards.locked}
            assert any(other.proven and other.snapshot_time > one.snapshot_time for other in group)
            assert one.unknown is None
        else:
            assert one.needs & {other.backup_id for other in backups} <= kept
    proven = [one for one in backups if one.proven and not one.unknown]
    for group_key in {(one.tier, one.kind) for one in proven}:
        newest = max(one.snapshot_time for one in proven if (one.tier, one.kind) == group_key)
        assert any(
            one.backup_id in kept for one in proven if (one.tier, one.kind) == group_key and one.snapshot_time == newest
        )


@given(backups=BACKUPS, guards=GUARDS)
def test_deleting_what_expired_changes_nothing_of_what_is_kept(backups: list[Candidate], guards: Guards) -> None:
    """A cleanup that ran twice, or to a half, decides the same."""
    plan = plan_backups(backups, RULES, guards, now=NOW)
    left = [one.backup for one in plan if not one.expires]
    again = plan_backups(left, RULES, guards, now=NOW)
    assert not any(one.expires for one in again)


class Simulated:
    """Years of backups, day by day: some fail, some are never proven, some are held, and every day is cleaned up."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same failures each time
        self.now = datetime(2026, 1, 1, 4, tzinfo=UTC)
        self.there: dict[str, Candidate] = {}
        self.holds: dict[str, datetime] = {}
        self.deleted = 0

    def day(self) -> None:
        self._take()
        self._prove_and_hold()
        guards = Guards(held={name: "x" for name, until in self.holds.items() if until > self.now})
        backups = list(self.there.values())
        plan = plan_backups(backups, RULES, guards, now=self.now)
        gone = {one.backup.backup_id for one in plan if one.expires}
        certain, possible = may_go(backups, guards, now=self.now)
        assert certain <= gone <= possible
        # A cleanup that fails deletes nothing, or a part.
        done = {name for name in gone if self.random.random() < 0.8} if self.random.random() < 0.9 else set()
        for name in done:
            del self.there[name]
        self.deleted += len(done)
        self.now += timedelta(days=1)

    def _take(self) -> None:
        due = ["daily", *(["hourly"] * 6)]
        due += ["weekly"] if self.now.weekday() == 6 else []
        due += ["monthly"] if self.now.day == 1 else []
        due += ["yearly"] if (self.now.month, self.now.day) == (1, 1) else []
        due += ["pre_deployment"] * self.random.randint(0, 1)
        for number, tier in enumerate(due):
            if self.random.random() < 0.9:
                earlier = [one for one in self.there.values() if one.tier == tier]
                needs = {self.random.choice(earlier).backup_id} if earlier and self.random.random() < 0.1 else set()
                name = f"{tier}_{self.now:%Y%m%d}_{number}"
                self.there[name] = Candidate(
                    backup_id=name,
                    tier=tier,
                    kind="full",
                    snapshot_time=self.now - timedelta(minutes=self.random.randint(0, 1200)),
                    needs=frozenset(needs),
                )

    def _prove_and_hold(self) -> None:
        for name, one in list(self.there.items()):
            if not one.proven and self.random.random() < 0.3:
                values = {field: getattr(one, field) for field in Candidate.__dataclass_fields__}
                self.there[name] = Candidate(**{**values, "proven": True})
        if self.there and self.random.random() < 0.05:
            self.holds[self.random.choice(list(self.there))] = self.now + timedelta(days=self.random.randint(1, 90))

    def check_coverage(self) -> None:
        """After all those failures there is still something to restore, and nothing piles up."""
        for tier in ("daily", "weekly", "monthly"):
            assert any(one.proven for one in self.there.values() if one.tier == tier)
        assert self.deleted > len(self.there)


def test_a_year_day_by_day_agrees_with_the_oracle() -> None:
    years = Simulated(seed=1)
    for _ in range(365):
        years.day()
    years.check_coverage()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 5))
def test_five_years_day_by_day_agree_with_the_oracle(seed: int) -> None:
    years = Simulated(seed)
    for _ in range(5 * 365 + 1):
        years.day()
    years.check_coverage()


@pytest.mark.parametrize(
    ("others", "goes"),
    [
        ([backup(2, name="other", tier="weekly")], True),
        ([backup(10, name="other", tier="weekly")], False),
        ([backup(2, name="other", tier="weekly", proven=False)], False),
        ([backup(2, name="other", tier="hourly", kind="tables")], False),
        ([backup(2, name="other", tier="safety")], False),
        ([backup(2, name="other", tier="nobody's")], False),
        ([], False),
    ],
)
def test_a_copy_of_what_a_restore_replaced_goes_when_a_later_full_backup_is_proven(
    others: list[Candidate], goes: bool
) -> None:
    rules = {**RULES, "safety": TierRule(keep=Retention(amount=7, unit="day"), proven_elsewhere=True)}
    full, rows, young = (
        backup(9, name="full", tier="safety", proven=False),
        backup(9, name="rows", tier="safety", kind="tables"),
        backup(6.9, name="young", tier="safety"),
    )
    plan = plan_backups([full, rows, young, *others], rules, Guards(), now=NOW)
    gone = {decision.backup.backup_id for decision in plan if decision.expires}
    assert gone == ({"full", "rows"} if goes else set())
    held = plan_backups([full, rows, *others], rules, Guards(held={"full": "a court order"}), now=NOW)
    assert "full" not in {decision.backup.backup_id for decision in held if decision.expires}
