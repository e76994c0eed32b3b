"""Whether a person who may has said yes to exactly what is about to be done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from include.backup.errors import ApprovalError
from include.backup.evidence import EventKind, Ledger

APPROVE = "Approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked. ``content`` is everything that the yes is about, as bytes."""

    subject: str
    body: str
    content: bytes

    @property
    def seal(self) -> str:
        """The SHA-256 of what is asked, which stands in the text that the person sees."""
        return seal_of(self.content)

    @property
    def text(self) -> str:
        return f"{self.body}\n\nThis is about exactly `{self.seal}`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes: who asked, who agreed, and when."""

    requested_by: str
    approved_by: str
    approved_at: datetime
    seal: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {**asdict(self), "approved_at": self.approved_at.isoformat()}

    def require(self, seal: str) -> None:
        """Raise ApprovalError unless the yes is to exactly the order of this seal."""
        if self.seal != seal:
            raise ApprovalError(f"the yes is about {self.seal} and the order is {seal}; nothing was changed")


def seal_of(content: bytes) -> str:
    """Return by what a question and the work that it allows are matched."""
    return hashlib.sha256(content).hexdigest()


def check_approval(
    answer: Mapping[str, Any] | None,
    *,
    requested_by: str | None,
    seal: str,
    two_people: bool,
    valid_for: timedelta,
    now: datetime,
) -> Approval:
    """Return the yes that an answer of Airflow's API holds; raises ApprovalError saying why it is none."""
    if answer is None:
        raise ApprovalError("nobody was asked; clear the approval's task, so that it asks")
    if seal not in str(answer.get("body") or ""):
        raise ApprovalError(
            f"the question that was answered is not about {seal}, which is about to be done; trigger a new run"
        )
    if not answer.get("response_received") or not answer.get("responded_at"):
        raise ApprovalError(
            "nobody has answered, whatever the state of the approval's task says; answer it under Required Actions"
        )
    user = answer.get("responded_by_user") or {}
    name = str(user.get("name") or user.get("id") or "")
    if answer.get("chosen_options") != [APPROVE]:
        raise ApprovalError(f"{name or 'somebody'} said no; nothing was changed")
    if not name:
        raise ApprovalError("the answer does not say whose it is; trigger a new run, and let a person answer")
    approved_at = datetime.fromisoformat(str(answer["responded_at"]))
    if now - approved_at > valid_for:
        raise ApprovalError(
            f"{name} said yes at {approved_at:%Y-%m-%d %H:%M} UTC, more than {valid_for} ago; trigger a new run"
        )
    if two_people and not requested_by:
        raise ApprovalError("Airflow does not say who asked, and the policy wants two people; trigger it as a user")
    if two_people and requested_by is not None and _same(name, requested_by):
        raise ApprovalError(f"{name} has asked for it and cannot approve it too; let another person answer a new run")
    return Approval(requested_by=requested_by or "unknown", approved_by=name, approved_at=approved_at, seal=seal)


def record_approval(ledger: Ledger, question: Question, *, run: str, approval: Approval) -> None:
    """Leave in the evidence who said yes to what, once for each run; ``run`` is as the evidence names an actor."""
    _record(ledger, question, run, f"{run} by {approval.approved_by}", {"action": "given", **approval.to_dict()})


def record_refusal(ledger: Ledger, question: Question, *, run: str, why: str) -> None:
    """Leave in the evidence that there was no yes that counts, and why."""
    _record(ledger, question, run, run, {"action": "refused", "seal": question.seal, "why": why})


def _record(ledger: Ledger, question: Question, run: str, actor: str, facts: Mapping[str, Any]) -> None:
    ledger.append(
        EventKind.APPROVAL,
        subject=run,
        actor=actor,
        facts={**facts, "question": question.subject},
        once=f"approval:{run}:{question.seal}:{facts['action']}",
    )


def _same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
