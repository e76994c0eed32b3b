"""The request after each good look: sent, tried again where that helps, and never naming its address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import ConnectionDefinitionError, PolicyError
from include.backup.health.ping import PingTarget, ping
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.health import PingPolicy

HIDDEN = "0f1e2d3c-hidden"
POLICY = PingPolicy(connection="c", timeout=timedelta(seconds=2))


class Service(HTTPServer):
    """Answers with these statuses in turn, the last of them for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.statuses = [200]
        self.asked: list[tuple[str, str]] = []

    def target(self) -> PingTarget:
        return PingTarget(url=Secret(f"http://127.0.0.1:{self.server_port}/{HIDDEN}"))


class Answering(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_one_request_arrives_as_the_policy_says(service: Service, method: str) -> None:
    policy = PingPolicy(connection="c", method=method)
    assert ping(service.target(), policy) is None
    assert service.asked == [(method, f"/{HIDDEN}")]


@pytest.mark.parametrize(
    ("statuses", "failure", "asked"),
    [
        ([503, 429, 200], None, 3),
        ([500], "it answers 500", 3),
        ([404], "it answers 404", 1),
        ([302], "it answers 302", 1),
    ],
)
def test_it_is_tried_again_only_where_that_may_help(
    service: Service, statuses: list[int], failure: str | None, asked: int
) -> None:
    service.statuses = statuses
    waited: list[float] = []
    assert ping(service.target(), POLICY, sleep=waited.append) == failure
    assert service.asked == [("GET", f"/{HIDDEN}")] * asked
    assert waited == [1.0, 2.0][: asked - 1]


def test_one_that_does_not_answer_is_named_by_its_error_and_not_by_its_address(service: Service) -> None:
    target = service.target()
    service.server_close()
    failure = ping(target, POLICY, sleep=lambda seconds: None)
    assert failure == "it does not answer (ConnectionRefusedError)"
    assert HIDDEN not in repr(target)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": Secret(f"http://ping.example/{HIDDEN}")}, "without TLS"),
        ({"password": Secret(f"ftp://ping.example/{HIDDEN}")}, "no https:// URL"),
        ({"password": Secret(f"https://[ping/{HIDDEN}")}, "no URL"),
        ({"password": Secret(f"https://ping.example/{HIDDEN}\r\nX: y")}, "no https:// URL"),
        ({"password": None}, "as its password"),
        ({"host": "ping.example"}, "neither host nor login"),
        ({"conn_type": "postgres"}, "allowed: http"),
        ({"extra": {"proxies": "x"}}, "extra proxies"),
    ],
)
def test_a_connection_that_will_not_do_is_refused_without_showing_the_address(
    changes: dict[str, Any], words: str
) -> None:
    fields = {"conn_id": "c", "conn_type": "http", "password": Secret(f"https://ping.example/{HIDDEN}"), **changes}
    with pytest.raises(ConnectionDefinitionError, match=words) as refused:
        PingTarget.from_spec(ConnectionSpec(**fields))
    assert HIDDEN not in str(refused.value)


def test_the_policy_has_no_ping_unless_it_names_a_connection(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    path = tmp_path / "policy.yaml"
    health = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").health
    assert health is not None
    assert health.ping is None
    path.write_text(text.replace("      # ping: {", "      ping: {"))
    health = load_policy(path, strict=True).source("pulse_messages").health
    assert health is not None
    assert health.ping == PingPolicy(connection="pulse_health_ping")
    path.write_text(text.replace("      # ping: {connection: pulse_health_ping,", "      ping: {"))
    with pytest.raises(PolicyError, match="connection"):
        load_policy(path, strict=True)
