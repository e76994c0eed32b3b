"""The few calls of Airflow's REST API that the demo and the tests need."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from include.local.errors import StackError

TIMEOUT_SECONDS = 30
AWAY = (502, 503, 504)


class ApiError(StackError):
    """Raised when Airflow answers with another status than was hoped for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ApiUnreachableError(StackError):
    """Raised when Airflow does not answer."""


@dataclass(slots=True, kw_only=True)
class AirflowApi:
    """A session with one API server; logs in when needed, and again when the token has ended."""

    url: str
    user: str
    password: str = field(repr=False)
    _token: str = field(default="", repr=False)

    def health(self) -> dict[str, Any]:
        """Return each component's state; needs no login."""
        return self._send("GET", "/api/v2/monitor/health", None, token="")

    def get(self, path: str) -> dict[str, Any]:
        """GET below /api/v2."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """POST below /api/v2."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """PATCH below /api/v2."""
        return self._call("PATCH", path, body)

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self.patch(f"/dags/{_quoted(dag_id)}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Let a DAG start no more."""
        self.patch(f"/dags/{_quoted(dag_id)}", {"is_paused": True})

    def trigger(
        self, dag_id: str, run_id: str, conf: Mapping[str, object], *, logical_date: str | None = None
    ) -> dict[str, Any]:
        """Start a run with an id of the caller's, in place of a slot of the schedule if one is given."""
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": dict(conf)}
        return self.post(f"/dags/{_quoted(dag_id)}/dagRuns", body)

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run: its state, when it was due, and more."""
        return self.get(f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}")

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances."""
        path = f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances"
        found: list[dict[str, Any]] = self.get(path)["task_instances"]
        return found

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int) -> list[str]:
        """Return a task's log lines."""
        path = f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}/logs/{try_number}"
        return [log_line(entry) for entry in self.get(f"{path}?full_content=true")["content"]]

    def xcom(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}"
        return self.get(f"{path}/xcomEntries/return_value")["value"]

    def _call(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        token = self._token or self._log_in()
        try:
            return self._send(method, f"/api/v2{path}", body, token)
        except ApiError as error:
            if error.status != http.client.UNAUTHORIZED:
                raise
        return self._send(method, f"/api/v2{path}", body, self._log_in())

    def _log_in(self) -> str:
        answer = self._send("POST", "/auth/token", {"username": self.user, "password": self.password}, "")
        self._token = str(answer["access_token"])
        return self._token

    def _send(self, method: str, path: str, body: Mapping[str, object] | None, token: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the URL is our own
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                decoded: dict[str, Any] = json.loads(answer.read())
                return decoded
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            if error.code in AWAY:
                raise ApiUnreachableError(f"Airflow at {self.url} answers {error.code} only: {detail}") from error
            raise ApiError(f"Airflow answers {method} {path} with {error.code}: {detail}", error.code) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiUnreachableError(f"Airflow does not answer at {self.url}: {error}") from error


def log_line(entry: Mapping[str, Any] | str) -> str:
    """Return one line of a task's log as a person reads it.

    >>> log_line({"timestamp": "2025-01-19T02:00:00.123Z", "event": "dumped", "level": "info"})
    '02:00:00 dumped'
    """
    if isinstance(entry, str):
        return entry
    moment = str(entry.get("timestamp") or "")[11:19]
    details = [f"{detail.get('exc_type')}: {detail.get('exc_value')}" for detail in entry.get("error_detail") or ()]
    return " ".join(part for part in (moment, str(entry.get("event", "")), *details) if part)


def _quoted(text: str) -> str:
    return quote(text, safe="")
