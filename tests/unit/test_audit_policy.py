"""What an audit says of changes of the policy: what was changed, whose change it was, and where nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.backup.audit.report import Report, Shown
from include.backup.evidence.record import Event, EventKind
from tests.support.audits import MONTH, at, audit_report, backup, event

SHORTER = {"path": "tiers.daily.keep", "old": "7 days", "new": "1 days"}
ONE_PERSON = {"path": "restore.approval.two_people", "old": "true", "new": "false"}
OTHER_KEY = {"path": "store.encryption.kms_key_id", "old": "alias/one", "new": "alias/two"}
BY_ANN = {"author": "Ann", "revision": "4f2c91e0" * 5, "uncommitted": False}


def policy_event(day: int, *changes: dict[str, str], **facts: Any) -> Event:
    about = {"policy_sha256": f"{day:02}" * 32, "changes": list(changes), "changes_in_all": len(changes)}
    known = {**about, "settings": {"jobs": 2}, **facts}
    return replace(event(EventKind.POLICY_CHANGE, at(day, 3), subject="policy:x", facts=known), sequence=day)


def with_policies(*changed: Event) -> Report:
    first = replace(policy_event(1), recorded_at=MONTH.begin - timedelta(days=20))
    return audit_report(events=changed, policies=(first, *changed), backups=(backup(1),))


def control(report: Report, name: str) -> tuple[Shown, str]:
    (row,) = [row for row in report.controls if row.control == name]
    return row.state, row.evidence


def test_without_a_policy_on_record_no_change_of_it_can_be_shown() -> None:
    report = audit_report(backups=(backup(1),))
    assert report.policy is None
    for name in ("CC6.2", "CC8.1"):
        assert control(report, name)[0] is Shown.NOT_SHOWN


def test_a_month_without_a_change_shows_that_there_was_none() -> None:
    report = with_policies()
    state, evidence = control(report, "CC6.2")
    assert (state, "no changes of access" in evidence) == (Shown.SHOWN, True)
    assert "provider's own records" in evidence
    assert control(report, "CC8.1")[0] is Shown.SHOWN
    assert report.policy is not None
    assert (report.policy.sha256, report.policy.author) == ("01" * 32, None)


@pytest.mark.parametrize(
    ("changes", "facts", "access", "any_change"),
    [
        ((SHORTER,), BY_ANN, Shown.SHOWN, Shown.SHOWN),
        ((SHORTER,), {}, Shown.SHOWN, Shown.NOT_SHOWN),
        ((ONE_PERSON,), BY_ANN, Shown.SHOWN, Shown.SHOWN),
        ((ONE_PERSON,), {}, Shown.NOT_SHOWN, Shown.NOT_SHOWN),
        ((OTHER_KEY,), {}, Shown.NOT_SHOWN, Shown.NOT_SHOWN),
        ((ONE_PERSON,), {**BY_ANN, "uncommitted": True}, Shown.NOT_SHOWN, Shown.NOT_SHOWN),
        # Only that it was changed is known, so that it may have been anything.
        ((), {"settings": None, "what": "by hand"}, Shown.NOT_SHOWN, Shown.NOT_SHOWN),
        ((SHORTER,), {"changes_in_all": 9}, Shown.NOT_SHOWN, Shown.NOT_SHOWN),
    ],
)
def test_a_change_is_shown_as_far_as_it_is_known_whose_it_is(
    changes: tuple[dict[str, str], ...], facts: dict[str, Any], access: Shown, any_change: Shown
) -> None:
    report = with_policies(policy_event(4, *changes, **facts))
    assert (control(report, "CC6.2")[0], control(report, "CC8.1")[0]) == (access, any_change)


def test_each_changed_setting_is_a_row_with_what_it_was_and_is() -> None:
    report = with_policies(policy_event(4, SHORTER, ONE_PERSON, OTHER_KEY, changes_in_all=9, **BY_ANN))
    assert [(row.what, row.subject) for row in report.changes] == [
        ("change of policy", "tiers.daily.keep"),
        ("change of access", "restore.approval.two_people"),
        ("change of keys", "store.encryption.kms_key_id"),
        ("change of policy", "policy:x"),
    ]
    assert report.changes[0].detail == "7 days → 1 days; revision 4f2c91e04f2c"
    assert report.changes[0].actor == "Ann; seen by d r"
    assert report.changes[3].detail.startswith("6 more settings")
    encryption = next(row.evidence for row in report.controls if row.control == "CC6.1")
    assert "1 changes of keys in the policy" in encryption


def test_what_came_after_the_month_was_not_in_force_in_it() -> None:
    later = replace(policy_event(9, SHORTER), recorded_at=MONTH.end + timedelta(hours=1))
    report = audit_report(policies=(policy_event(2), later), made_at=MONTH.end + timedelta(days=3))
    assert report.policy is not None
    assert report.policy.sha256 == "02" * 32
    assert "2026-05-02 03:00" in control(report, "CC8.1")[1]
    assert audit_report(policies=(later,)).policy is None


@pytest.mark.parametrize("bad", [{"changes": 3}, {"changes": [7, {}]}, {"changes_in_all": "x"}, {"author": 5}])
def test_a_record_that_somebody_else_wrote_breaks_no_report(bad: dict[str, Any]) -> None:
    assert with_policies(policy_event(4, **bad)).changes
