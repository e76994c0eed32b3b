"""The recovery of a hosted project by its DAG's tasks, against a server that answers as the Management API does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from backup_operators.point_in_time import PreviewRecoveryOperator, RecoverOperator, ask_for_recovery
from include.backup.approval import Approval
from include.backup.errors import ApprovalError
from include.backup.evidence.check import check_ledger
from tests.dags.runs import Runner
from tests.support.aged_bucket import PLAIN
from tests.support.memory_store import MemoryStore
from tests.support.supabase_api import REF, RunningApi

SOURCE = "pulse_messages"
DAG_ID = f"{SOURCE}.restore_point_in_time"
ASKED = f"POST /v1/projects/{REF}/database/backups/restore-pitr"
TARGET = datetime.now(tz=UTC).replace(microsecond=0) - timedelta(hours=3)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, hosted: RunningApi) -> MemoryStore:
    """A store in memory, in which the evidence is left."""
    made = MemoryStore({})
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: made)
    monkeypatch.setattr("include.backup.evidence.ledger.encryption_of", lambda *_: PLAIN)
    monkeypatch.setattr("include.backup.point_in_time.hosted.POLL_SECONDS", 0.05)
    monkeypatch.setattr("include.backup.point_in_time.hosted.BEGIN_SECONDS", 0.5)
    hosted.project.restore_seconds = 3.0
    return made


def context(target: datetime = TARGET, **given: Any) -> Any:
    run = SimpleNamespace(
        dag_id=DAG_ID, run_id="r", run_after=datetime.now(UTC), run_type="manual", triggering_user_name="ann"
    )
    form = {"target_kind": "time", "target_time": target.isoformat(), "target_value": "", "preview_only": False}
    return {
        "dag_run": run,
        "params": {**form, **given},
        "ti": SimpleNamespace(try_number=1, xcom_push=lambda **_: None),
    }


def recover(given: Any) -> dict[str, Any]:
    found: dict[str, Any] = RecoverOperator(task_id="recover", source=SOURCE).execute(given)
    return found


@pytest.mark.usefixtures("airflow_database", "store")
def test_a_preview_asks_for_nothing_but_the_window(run: Runner, hosted: RunningApi) -> None:
    form = {"target_kind": "time", "target_time": TARGET.isoformat(), "folder": "x", "preview_only": True}
    ended = run(DAG_ID, form)
    assert ended.tasks["preview_recovery"] == "success"
    assert ended.tasks["recover"] == "skipped"
    assert ended.xcom("preview_recovery")["mode"] == "hosted"
    assert ASKED not in hosted.asked


def test_a_yes_lets_supabase_recover_and_leaves_evidence_of_who_said_it(
    hosted: RunningApi, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask_for_recovery(SOURCE)(context())
    assert question is not None

    def yes(context: Any, *, seal: str, approval: Any) -> Approval:
        assert seal == question.seal
        return Approval(requested_by="ann", approved_by="bea", approved_at=datetime.now(UTC), seal=seal)

    monkeypatch.setattr("backup_operators.point_in_time.require_approval", yes)
    report = recover(context())
    assert report["status"] == "ACTIVE_HEALTHY"
    assert hosted.project.restored_to == int(TARGET.timestamp())
    assert hosted.asked.count(ASKED) == 1
    found = check_ledger(store, SOURCE)
    assert (found.intact, dict(found.kinds)) == (True, {"policy_change": 1, "restore": 1})


def test_without_a_yes_supabase_is_not_asked(
    hosted: RunningApi, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(context: Any, *, seal: str, approval: Any) -> Approval:
        raise ApprovalError("bea said no; nothing was changed")

    monkeypatch.setattr("backup_operators.point_in_time.require_approval", no)
    with pytest.raises(AirflowFailException, match="bea said no"):
        recover(context())
    assert ASKED not in hosted.asked
    assert store.objects == {}


@pytest.mark.parametrize(
    ("given", "fault", "words"),
    [
        ({"target": TARGET - timedelta(days=30)}, None, "outside of what Supabase can recover"),
        ({"target_kind": "lsn", "target_value": "0/100"}, None, "to a time only"),
        ({}, {"status": 401}, "refused the token"),
    ],
)
def test_what_supabase_cannot_do_is_refused_by_the_preview(
    hosted: RunningApi, store: MemoryStore, given: dict[str, Any], fault: dict[str, Any] | None, words: str
) -> None:
    if fault is not None:
        hosted.fail(times=9, **fault)
    with pytest.raises(AirflowFailException, match=words):
        PreviewRecoveryOperator(task_id="preview_recovery", source=SOURCE).execute(context(**given))
    assert ASKED not in hosted.asked
