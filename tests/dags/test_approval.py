"""The operators that ask for a yes, against a stand-in of Airflow's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from include.backup.approval import Question
from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import AirflowApiError, ApprovalError, ConnectionDefinitionError, StoreUnreachableError
from include.backup.evidence import Event, EventKind
from include.backup.evidence.record import read_event, records_prefix
from include.backup.policy import ApprovalPolicy
from include.backup.store import Encryption
from tests.support.memory_store import MemoryStore

POLICY = ApprovalPolicy(connection="pulse_airflow_api", two_people=True, response_timeout=timedelta(hours=24))
QUESTION = Question(subject="Restore?", body="rows", content=b"exactly this")
SOURCE = "pulse_messages"
PASSWORD = "d1enst-Passwort"
RUN = SimpleNamespace(dag_id="shop.restore_database", run_id="manual__1+00:00")


class StandIn(BaseHTTPRequestHandler):
    """Answers as Airflow's API does."""

    answer: dict[str, Any] | None
    status = 200
    asked_by: str | None
    store: MemoryStore

    def do_POST(self) -> None:
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        good = sent == {"username": "backup_service", "password": PASSWORD}
        self._send(201 if good else 401, {"access_token": "tok"})

    def do_GET(self) -> None:
        run = "/api/v2/dags/shop.restore_database/dagRuns/manual__1%2B00%3A00"
        if self.headers["Authorization"] != "Bearer tok" or self.status != 200:
            self._send(self.status if self.status != 200 else 401, {})
        elif self.path == run:
            self._send(200, {"triggering_user_name": self.asked_by})
        elif self.path == f"{run}/taskInstances/approve/-1/hitlDetails" and self.answer is not None:
            self._send(200, self.answer)
        else:
            self._send(404, {"detail": "not found"})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, connections: None) -> Iterator[type[StandIn]]:
    handler = type("Handler", (StandIn,), {"answer": yes(), "asked_by": "al", "store": MemoryStore({})})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    connection = {
        "conn_type": "http",
        "host": f"http://127.0.0.1:{server.server_port}",
        "login": "backup_service",
        "password": PASSWORD,
    }
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_AIRFLOW_API", json.dumps(connection))
    monkeypatch.setattr("backup_operators.approval.die_with_parent", lambda: None)
    monkeypatch.setattr("include.backup.steps.context.open_store", lambda *_: handler.store)
    monkeypatch.setattr("include.backup.evidence.ledger.encryption_of", lambda *_: Encryption(algorithm=None))
    yield handler
    server.shutdown()
    server.server_close()
    thread.join()


def yes(**overrides: Any) -> dict[str, Any]:
    values = {
        "body": QUESTION.text,
        "response_received": True,
        "responded_at": datetime.now(UTC).isoformat(),
        "chosen_options": ["Approve"],
        "responded_by_user": {"id": "7", "name": "bea"},
    }
    return {**values, **overrides}


def context() -> Any:
    pushed: dict[str, Any] = {}
    task = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}), id="ti", pushed=pushed)
    return {"dag_run": RUN, "ti": task, "task_instance": task}


def check_operator() -> Any:
    from backup_operators.approval import CheckApprovalOperator

    return CheckApprovalOperator(task_id="check_approval", source=SOURCE, ask=lambda _: QUESTION, approval=POLICY)


def recorded(api: type[StandIn]) -> list[Event]:
    """Return what the evidence has besides the policy."""
    prefix = records_prefix(SOURCE)
    keys = sorted(key for key in api.store.objects if key.startswith(prefix))
    events = [read_event(api.store.objects[key], name=key) for key in keys]
    assert [event.kind for event in events[:1]] == [EventKind.POLICY_CHANGE]
    return events[1:]


def test_the_yes_is_read_from_the_api_and_not_from_xcoms(api: type[StandIn]) -> None:
    found = check_operator().execute(context())
    assert (found["needed"], found["requested_by"], found["approved_by"]) == (True, "al", "bea")
    check_operator().execute(context())
    (event,) = recorded(api)
    assert (event.kind, event.actor) == (EventKind.APPROVAL, "shop.restore_database manual__1+00:00 by bea")
    assert event.facts["action"] == "given"
    assert (event.facts["requested_by"], event.facts["approved_by"]) == ("al", "bea")
    assert (event.facts["seal"], event.facts["question"]) == (QUESTION.seal, "Restore?")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "nobody was asked"),
        (yes(chosen_options=["Reject"]), "bea said no"),
        (yes(response_received=False, responded_at=None, chosen_options=None), "nobody has answered"),
        (yes(responded_by_user={"id": "1", "name": "al"}), "cannot approve it too"),
        (yes(body="something else"), "is not about"),
    ],
)
def test_the_check_fails_for_good_and_tells_notify_why(
    api: type[StandIn], answer: dict[str, Any] | None, words: str
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    api.answer = answer
    found = context()
    with pytest.raises(AirflowFailException, match=words):
        check_operator().execute(found)
    assert words in found["ti"].pushed["failure"]["message"]
    (event,) = recorded(api)
    assert (event.kind, event.facts["action"], "approved_by" in event.facts) == (EventKind.APPROVAL, "refused", False)
    assert words in event.facts["why"]


def test_a_yes_that_cannot_be_put_on_record_is_none(api: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    class Away(MemoryStore):
        def put_if_absent(self, *_: Any, **__: Any) -> bool:
            raise StoreUnreachableError("the store does not answer")

    api.store = Away({})
    with pytest.raises(StoreUnreachableError):
        check_operator().execute(context())


def test_an_api_that_refuses_or_is_away_is_no_yes_and_may_be_asked_again(
    api: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.status = 403
    with pytest.raises(AirflowApiError, match=r"answers 403 to its service user"):
        check_operator().execute(context())
    monkeypatch.setenv(
        "AIRFLOW_CONN_PULSE_AIRFLOW_API",
        '{"conn_type": "http", "host": "http://127.0.0.1:9", "login": "x", "password": "y"}',
    )
    with pytest.raises(AirflowApiError, match="does not answer"):
        check_operator().execute(context())


def test_the_question_is_made_when_the_task_runs_and_has_no_default(
    api: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

    from backup_operators.approval import AskOperator

    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **given: asked.update(given)
    )
    operator = AskOperator(task_id="approve", ask=lambda _: QUESTION, response_timeout=timedelta(hours=1))
    with pytest.raises(TaskAwaitingInput):
        operator.execute(context())
    assert (asked["body"], asked["defaults"], asked["options"]) == (QUESTION.text, None, ["Approve", "Reject"])
    assert QUESTION.seal in asked["body"]
    silent = AskOperator(task_id="approve", ask=lambda _: None, response_timeout=timedelta(hours=1))
    with pytest.raises(AirflowSkipException):
        silent.execute(context())


def test_a_no_skips_nothing_so_that_the_check_fails_the_run() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from backup_operators.approval import AskOperator

    operator = AskOperator(task_id="approve", ask=lambda _: QUESTION, response_timeout=timedelta(hours=1))
    event = {
        "chosen_options": ["Reject"],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": "7", "name": "bea"},
    }
    # No task instance and no skipping: an empty context is enough.
    assert operator.execute_complete({}, event)["chosen_options"] == ["Reject"]
    with pytest.raises(AirflowFailException, match="nobody answered within"):
        operator.execute_complete({}, {"error": "late", "error_type": "timeout"})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conn_type": "aws"}, "has type 'aws'"),
        ({"host": "http://airflow.example"}, "without TLS"),
        ({"host": None}, "needs host"),
        ({"password": None}, "needs host"),
        ({"extra": {"headers": "x"}}, "has the extra headers"),
        ({"host": "https://user@airflow.example"}, "a user or a password in it"),
        ({"host": "https://[airflow.example"}, "is no URL"),
        ({"extra": {"verify": False}}, "verify that is not text"),
    ],
)
def test_a_connection_that_is_not_fit_is_refused(fields: dict[str, Any], words: str) -> None:
    from backup_operators.airflow_rest import AirflowRest

    given: dict[str, Any] = {
        "conn_id": "api",
        "conn_type": "http",
        "host": "https://airflow.example",
        "login": "u",
        "password": Secret("p"),
    }
    with pytest.raises(ConnectionDefinitionError, match=words):
        AirflowRest.from_spec(ConnectionSpec(**{**given, **fields}))


def test_the_work_itself_refuses_without_a_yes(api: type[StandIn]) -> None:
    from backup_operators.approval import require_approval

    assert require_approval(context(), seal=QUESTION.seal, approval=POLICY).approved_by == "bea"
    api.answer = None
    with pytest.raises(ApprovalError, match="nobody was asked"):
        require_approval(context(), seal=QUESTION.seal, approval=POLICY)
