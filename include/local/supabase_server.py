"""A server that answers as Supabase's Management API does, with faults on demand; only for tests and the demo.

Beside the API it has ``/stand-in/…`` for whoever holds the token: ``PATCH /stand-in/projects/<ref>`` sets fields of
a project, ``POST`` and ``DELETE /stand-in/faults`` add and forget faults, ``GET /stand-in/requests`` lists what came.
"""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from include.local.layout import HOST
from include.local.supabase_project import StandInProject

REQUESTS_PER_WINDOW = 120
WINDOW_SECONDS = 60.0
LARGEST_BODY_BYTES = 1 << 20
KEPT_REQUESTS = 1000
_PROJECTS = "/v1/projects/"
_CONTROL = "/stand-in/"


@dataclass(slots=True, kw_only=True)
class Fault:
    """What is answered instead, ``times`` times, to requests whose path has ``path`` in it.

    ``status`` 0 closes the connection without an answer; ``text`` is sent as it is.
    """

    status: int
    path: str = ""
    method: str = ""
    times: int = 1
    retry_after: str | None = None
    message: str = "injected"
    text: str | None = None
    delay_seconds: float = 0.0

    def fits(self, method: str, path: str) -> bool:
        return self.times > 0 and self.path in path and self.method in ("", method)


@dataclass(slots=True)
class StandIn:
    """All that the server knows; every method may be called by any thread."""

    token: str
    projects: dict[str, StandInProject] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT_REQUESTS))
    requests_per_window: int = REQUESTS_PER_WINDOW
    _served: deque[float] = field(default_factory=deque)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, project: StandInProject) -> StandInProject:
        """Let there be a project."""
        self.projects[project.ref] = project
        return project

    def fault(self, method: str, path: str) -> Fault | None:
        """Use up one of the faults that fit."""
        with self._lock:
            for fault in self.faults:
                if fault.fits(method, path):
                    fault.times -= 1
                    return fault
        return None

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: Any
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, content and headers."""
        parts = urlsplit(target)
        if not hmac.compare_digest(headers.get("Authorization", ""), f"Bearer {self.token}"):
            return 401, {"message": "Unauthorized"}, {}
        with self._lock:
            if parts.path.startswith(_CONTROL):
                return (*self._control(method, parts.path.removeprefix(_CONTROL), body), {})
            self.requests.append({"method": method, "path": parts.path, "query": parts.query, "body": body})
            if (seconds := self._too_soon()) > 0:
                return 429, {"message": "ThrottlerException: Too Many Requests"}, {"Retry-After": f"{seconds:.0f}"}
            ref, _, rest = parts.path.removeprefix(_PROJECTS).partition("/")
            project = self.projects.get(ref) if parts.path.startswith(_PROJECTS) else None
            if project is None:
                return 404, {"message": "Project not found"}, {}
            path = f"/{rest}" if rest else ""
            return (*project.answer(method, path, parse_qs(parts.query), body, datetime.now(tz=UTC)), {})

    def _too_soon(self) -> float:
        now = time.monotonic()
        while self._served and self._served[0] <= now - WINDOW_SECONDS:
            self._served.popleft()
        if len(self._served) >= self.requests_per_window:
            return max(1.0, self._served[0] + WINDOW_SECONDS - now)
        self._served.append(now)
        return 0.0

    def _control(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        kind, _, name = path.partition("/")
        try:
            if (method, kind) == ("PATCH", "projects"):
                self.projects[name].change(body)
            elif (method, kind) == ("POST", "faults"):
                self.faults.append(Fault(**body))
            elif (method, kind) == ("DELETE", "faults"):
                self.faults.clear()
            elif (method, kind) == ("GET", "requests"):
                return 200, list(self.requests)
            else:
                return 404, {"message": "no such part of the stand-in"}
        except (KeyError, TypeError) as error:
            return 400, {"message": f"not known here: {error}"}
        return 200, {}


def make_server(stand_in: StandIn, port: int = 0) -> ThreadingHTTPServer:
    """Return a server on this machine's own address, not yet serving; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            method, body = self.command, self._body()
            fault = None if self.path.startswith(_CONTROL) else stand_in.fault(method, self.path)
            if fault is None:
                status, content, headers = stand_in.answer(method, self.path, dict(self.headers), body)
                self._send(status, b"" if content is None else json.dumps(content).encode(), headers)
                return
            stand_in.requests.append({"method": method, "path": self.path, "fault": fault.status, "body": body})
            time.sleep(fault.delay_seconds)
            if fault.status == 0:
                self.close_connection = True
                return
            text = json.dumps({"message": fault.message}) if fault.text is None else fault.text
            self._send(fault.status, text.encode(), {"Retry-After": fault.retry_after} if fault.retry_after else {})

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 - the base class looks for these names

        def _body(self) -> Any:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= LARGEST_BODY_BYTES:
                return None
            try:
                return json.loads(self.rfile.read(length))
            except ValueError:
                return None

        def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name, value)
            # Who asked may have given up meanwhile, which is nothing to report.
            with suppress(BrokenPipeError, ConnectionResetError):
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            _log(self.command, urlsplit(self.path).path, arguments)

    return ThreadingHTTPServer((HOST, port), Handler)


def _log(method: str, path: str, arguments: tuple[Any, ...]) -> None:
    print(f"{datetime.now(tz=UTC):%H:%M:%S} {method} {path} {' '.join(map(str, arguments[1:2]))}", flush=True)
