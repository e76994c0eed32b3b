"""Airflow's own REST API, read by a service user: what XComs say can be forged, what this says cannot."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.errors import AirflowApiError
from include.backup.http_address import http_address

TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowRest:
    """How to reach one API server; each answer is asked for anew, so nothing is kept between two."""

    url: str
    user: str
    password: Secret = field(repr=False)
    ca_bundle: str | None = None

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection; raises ConnectionDefinitionError."""
        spec.require("http", extras=("verify",))
        if not spec.host or not spec.login or not spec.password:
            raise bad_connection(spec.conn_id, "needs host (Airflow's URL), login and password of its service user")
        host = spec.host if "://" in spec.host else f"{spec.schema or 'https'}://{spec.host}"
        parts = http_address(spec.conn_id, f"{host}:{spec.port}" if spec.port else host, what="a host")
        return cls(
            url=parts.geturl().rstrip("/"),
            user=spec.login,
            password=spec.password,
            ca_bundle=spec.text("verify"),
        )

    def read(self, path: str) -> dict[str, Any]:
        """Return what a path below /api/v2 answers, nothing when there is no such thing; raises AirflowApiError."""
        return self._get(path) or {}

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run as the API shows it: its state, and who triggered it."""
        return self._get(f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}") or {}

    def answer(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any] | None:
        """Return what was asked of people by a task's newest try, and what they said; None when nothing was."""
        path = f"/dags/{_quoted(dag_id)}/dagRuns/{_quoted(run_id)}/taskInstances/{_quoted(task_id)}/-1/hitlDetails"
        return self._get(path)

    def _get(self, path: str) -> dict[str, Any] | None:
        token = self._send("POST", "/auth/token", {"username": self.user, "password": str(self.password)})
        if token is None:
            raise AirflowApiError(f"{self.url} is no API server of Airflow; correct the connection")
        return self._send("GET", f"/api/v2{path}", None, token=str(token.get("access_token")))

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None, *, token: str | None = None
    ) -> dict[str, Any] | None:
        request = urllib.request.Request(  # noqa: S310 - http or https only, see from_spec
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        context = ssl.create_default_context(cafile=self.ca_bundle) if self.url.startswith("https:") else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
        )
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                decoded = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.NOT_FOUND:
                return None
            raise AirflowApiError(
                f"Airflow at {self.url} answers {error.code} to its service user {self.user}; "
                "check the connection's login and that user's right to read runs and their answers"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AirflowApiError(
                f"Airflow does not answer at {self.url} ({type(error).__name__}); check the connection and retry"
            ) from error
        if not isinstance(decoded, dict):
            raise AirflowApiError(f"{self.url} is no API server of Airflow; correct the connection")
        return decoded


def _quoted(text: str) -> str:
    return quote(text, safe="")
