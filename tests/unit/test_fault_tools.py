"""The TCP proxy and the stand-in for Slack, on real sockets."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from slack_sdk import WebClient, WebhookClient

from include.local.processes import wait_until
from tests.faults.slack_capture import Answer as SlackAnswer
from tests.faults.slack_capture import SlackCapture
from tests.faults.tcp_proxy import Direction, Fault, TcpProxy

HOST = "127.0.0.1"
SECONDS = 10.0
ROOT = Path(__file__).parents[2]


Server = Callable[[socket.socket], None]


@contextmanager
def serving(server: Server) -> Iterator[int]:
    """Run one function for every connection; give the port."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            server(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)
        assert not thread.is_alive()


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


@pytest.fixture
def echo_port() -> Iterator[int]:
    with serving(echo) as port:
        yield port


def dial(port: int, seconds: float = SECONDS) -> socket.socket:
    return socket.create_connection((HOST, port), seconds)


def dial_and_read(port: int) -> bytes:
    with dial(port) as connection:
        return connection.recv(1)


def read_until_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def send_all(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


class TestTcpProxy:
    def test_everything_passes_unchanged_without_a_fault(self, echo_port: int) -> None:
        sent = bytes(range(256)) * 20_000
        with TcpProxy(HOST, echo_port) as proxy, dial(proxy.port) as client:
            writer = threading.Thread(target=send_all, args=(client, sent))
            writer.start()
            assert read_until_end(client) == sent
            writer.join(SECONDS)
        assert proxy.passed == {Direction.TO_CLIENT: len(sent), Direction.TO_SERVER: len(sent)}
        assert proxy.accepted == 1

    def test_delay_holds_every_chunk_back(self, echo_port: int) -> None:
        with TcpProxy(HOST, echo_port, Fault(delay_seconds=0.1)) as proxy, dial(proxy.port) as client:
            began = time.monotonic()
            client.sendall(b"ping")
            assert client.recv(10) == b"ping"
            assert time.monotonic() - began >= 0.2

    def test_cut_lets_exactly_so_many_bytes_of_an_answer_pass(self) -> None:
        with (
            serving(lambda connection: connection.sendall(b"x" * 5_000_000)) as port,
            TcpProxy(HOST, port, Fault(cut_after_bytes=100_001)) as proxy,
            dial(proxy.port) as client,
        ):
            assert len(read_until_end(client)) == 100_001

    def test_cut_lets_exactly_so_many_bytes_of_a_request_pass(self) -> None:
        received: queue.SimpleQueue[int] = queue.SimpleQueue()
        with (
            serving(lambda connection: received.put(len(read_until_end(connection)))) as port,
            TcpProxy(HOST, port, Fault(cut_after_bytes=100_001, cut=Direction.TO_SERVER)) as proxy,
            dial(proxy.port) as client,
        ):
            with pytest.raises(ConnectionError):
                client.sendall(b"x" * 50_000_000)
            assert received.get(timeout=SECONDS) == 100_001

    def test_reset_is_seen_as_a_reset(self, echo_port: int) -> None:
        with TcpProxy(HOST, echo_port, Fault(cut_after_bytes=0, reset=True)) as proxy, dial(proxy.port) as client:
            client.sendall(b"ping")
            with pytest.raises(ConnectionResetError):
                client.recv(10)

    def test_blackhole_falls_on_open_connections_and_loses_nothing_when_lifted(self, echo_port: int) -> None:
        with TcpProxy(HOST, echo_port) as proxy, dial(proxy.port) as client:
            client.sendall(b"before")
            assert client.recv(10) == b"before"
            proxy.fault = Fault(blackhole=True)
            client.settimeout(0.3)
            client.sendall(b"during")
            with pytest.raises(TimeoutError):
                client.recv(10)
            with dial(proxy.port, 0.3) as late:
                late.sendall(b"late")
                with pytest.raises(TimeoutError):
                    late.recv(10)
            client.settimeout(SECONDS)
            proxy.fault = Fault()
            assert client.recv(10) == b"during"

    def test_refuse_ends_new_connections_and_leaves_old_ones(self, echo_port: int) -> None:
        with TcpProxy(HOST, echo_port) as proxy, dial(proxy.port) as old:
            old.sendall(b"1")
            assert old.recv(1) == b"1"
            proxy.fault = Fault(refuse=True)
            with pytest.raises(ConnectionResetError):
                dial_and_read(proxy.port)
            old.sendall(b"2")
            assert old.recv(1) == b"2"

    def test_close_connections_ends_open_ones_and_accepts_new_ones(self, echo_port: int) -> None:
        with TcpProxy(HOST, echo_port) as proxy, dial(proxy.port) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            proxy.close_connections()
            assert client.recv(1) == b""
            with dial(proxy.port) as again:
                again.sendall(b"2")
                assert again.recv(1) == b"2"

    def test_a_server_that_is_down_ends_the_connection(self) -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
        with TcpProxy(HOST, port) as proxy, pytest.raises(ConnectionResetError):
            dial_and_read(proxy.port)

    def test_nothing_is_left_behind(self, echo_port: int) -> None:
        before = threading.active_count()
        with TcpProxy(HOST, echo_port) as proxy, dial(proxy.port) as client:
            client.sendall(b"1")
            assert client.recv(1) == b"1"
            assert proxy.open_connections() == 1
        assert proxy.open_connections() == 0
        with pytest.raises(ConnectionRefusedError):
            dial(proxy.port)
        assert wait_until(lambda: threading.active_count() <= before, SECONDS)


def post(url: str, body: bytes, content_type: str = "application/json", seconds: float = SECONDS) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": content_type, "Authorization": "Bearer xoxb-fake"})  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class TestSlackCapture:
    def test_webhook_messages_are_kept_as_they_came(self) -> None:
        with SlackCapture() as slack:
            url = f"{slack.webhook_host}/T000/B000/XXX"
            assert post(url, b'{"text": "done", "blocks": [{"type": "divider"}]}') == (200, "ok")
            assert post(url, b"payload=%7B%22text%22%3A%22form%22%7D", "application/x-www-form-urlencoded")[0] == 200
            first, second = slack.messages
        assert (first.path, first.text, first.payload["blocks"]) == (
            "/services/T000/B000/XXX", "done", [{"type": "divider"}]
        )  # fmt: skip
        assert second.text == "form"

    def test_api_messages_are_kept_with_their_token(self) -> None:
        with SlackCapture() as slack:
            status, answer = post(f"{slack.api_url}chat.postMessage", b'{"channel": "#backups", "text": "done"}')
            assert (status, json.loads(answer)["ok"]) == (200, True)
            (message,) = slack.messages
        assert message.payload == {"channel": "#backups", "text": "done"}
        assert message.authorization == "Bearer xoxb-fake"
        assert "xoxb-fake" not in repr(message)

    def test_the_slack_sdk_is_content_with_both(self) -> None:
        with SlackCapture() as slack:
            assert WebhookClient(f"{slack.webhook_host}/T000/B000/XXX").send(text="hook").status_code == 200
            assert WebClient("xoxb-fake", base_url=slack.api_url).chat_postMessage(channel="#backups", text="api")["ok"]
            assert [message.text for message in slack.messages] == ["hook", "api"]

    @pytest.mark.parametrize("body", [b"not json", b"[1]"])
    def test_what_slack_would_refuse_is_refused_and_not_kept(self, body: bytes) -> None:
        with SlackCapture() as slack:
            assert post(f"{slack.webhook_host}/T/B/X", body) == (400, "invalid_payload")
            assert post(f"http://{HOST}:{slack.port}/elsewhere", b"{}")[0] == 404
            assert slack.messages == []

    def test_an_error_is_answered_while_the_message_is_kept(self) -> None:
        with SlackCapture(answer=SlackAnswer.ERROR) as slack:
            assert post(f"{slack.webhook_host}/T/B/X", b'{"text": "x"}') == (500, "server_error")
            slack.answer = SlackAnswer.OK
            assert post(f"{slack.webhook_host}/T/B/X", b'{"text": "y"}')[0] == 200
            assert [message.text for message in slack.messages] == ["x", "y"]

    def test_a_hanging_slack_answers_nothing_and_ends_with_the_capture(self) -> None:
        with SlackCapture(answer=SlackAnswer.HANG) as slack:
            with pytest.raises(TimeoutError):
                post(f"{slack.webhook_host}/T/B/X", b'{"text": "x"}', seconds=0.3)
            assert slack.wait_for(1, SECONDS)[0].text == "x"

    def test_waiting_for_a_message_that_does_not_come_says_so(self) -> None:
        with SlackCapture() as slack, pytest.raises(TimeoutError, match="0 of 1 messages"):
            slack.wait_for(1, 0.1)

    def test_it_runs_by_itself_and_prints_what_comes(self) -> None:
        command = [sys.executable, "-m", "tests.faults.slack_capture"]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("listening on ").strip()
            try:
                assert post(f"{url}/services/T/B/X", b'{"text": "done"}')[0] == 200
                assert json.loads(process.stdout.readline()) == {"path": "/services/T/B/X", "text": "done"}
            finally:
                process.terminate()
