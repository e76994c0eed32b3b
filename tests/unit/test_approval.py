"""What counts as a yes, and everything that does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.backup.approval import Approval, Question, check_approval, seal_of
from include.backup.errors import ApprovalError

NOW = datetime(2025, 1, 19, 12, tzinfo=UTC)
QUESTION = Question(subject="Restore?", body="the preview", content=b"restore a into b")


def answer(**overrides: Any) -> dict[str, Any]:
    values = {
        "subject": QUESTION.subject,
        "body": QUESTION.text,
        "response_received": True,
        "responded_at": "2025-01-19T11:00:00Z",
        "chosen_options": ["Approve"],
        "responded_by_user": {"id": "7", "name": "bea"},
    }
    return {**values, **overrides}


def check(found: dict[str, Any] | None, *, requested_by: str | None = "al", two_people: bool = True) -> Approval:
    return check_approval(
        found,
        requested_by=requested_by,
        seal=QUESTION.seal,
        two_people=two_people,
        valid_for=timedelta(hours=24),
        now=NOW,
    )


def test_a_yes_of_another_person_counts_and_both_names_are_kept() -> None:
    found = check(answer())
    assert found.to_dict() == {
        "requested_by": "al",
        "approved_by": "bea",
        "approved_at": "2025-01-19T11:00:00+00:00",
        "seal": seal_of(QUESTION.content),
    }


def test_one_person_is_enough_where_the_policy_says_so() -> None:
    assert check(answer(), requested_by="bea", two_people=False).approved_by == "bea"
    assert check(answer(), requested_by=None, two_people=False).requested_by == "unknown"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "nobody was asked"),
        (answer(response_received=False), "nobody has answered"),
        (answer(responded_at=None), "nobody has answered"),
        (answer(chosen_options=["Reject"]), "bea said no"),
        (answer(chosen_options=[]), "bea said no"),
        (answer(chosen_options=["Approve", "Reject"]), "bea said no"),
        (answer(chosen_options=None), "bea said no"),
        (answer(responded_by_user=None), "does not say whose"),
        (answer(responded_by_user={"id": "", "name": ""}), "does not say whose"),
        (answer(responded_by_user={"id": "1", "name": " Al "}), "cannot approve it too"),
        (answer(responded_at="2025-01-18T11:59:59Z"), "more than 1 day"),
        (answer(body="another preview"), "is not about"),
        (answer(body=Question(subject="x", body="y", content=b"restore a into c").text), "is not about"),
    ],
)
def test_anything_else_is_no_yes(found: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ApprovalError, match=words):
        check(found)


def test_two_people_cannot_be_told_apart_when_nobody_knows_who_asked() -> None:
    with pytest.raises(ApprovalError, match="does not say who asked"):
        check(answer(), requested_by=None)
