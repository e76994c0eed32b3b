"""A stand-in for Slack that keeps what it was sent: incoming webhooks and chat.postMessage."""

from __future__ import annotations

import argparse
import itertools
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl

HOST = "127.0.0.1"
WEBHOOK_PREFIX = "/services/"
POST_MESSAGE = "/api/chat.postMessage"


class Answer(StrEnum):
    """How the stand-in behaves."""

    OK = "ok"
    ERROR = "error"  # HTTP 500
    HANG = "hang"  # accepts the message and never answers


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackMessage:
    """One message as it arrived."""

    path: str
    payload: dict[str, object]
    authorization: str | None = field(repr=False)
    raw: str = field(repr=False)

    @property
    def text(self) -> str:
        """Return the fallback text; blocks are in ``payload``, and everything as sent in ``raw``."""
        return str(self.payload.get("text") or "")


class SlackCapture:
    """A context manager that serves; messages are kept in order of arrival."""

    def __init__(self, *, port: int = 0, answer: Answer = Answer.OK) -> None:
        self.answer = answer
        self._messages: list[SlackMessage] = []
        self._arrived = threading.Condition()
        self._released = threading.Event()
        self._server = _Server((HOST, port), _Handler)
        self._server.capture = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="slack", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def webhook_host(self) -> str:
        """Return the ``host`` of a slackwebhook connection; its password is the rest, as T000/B000/XXX."""
        return f"http://{HOST}:{self.port}/services"

    @property
    def api_url(self) -> str:
        """Return the ``base_url`` in the extra of a slack connection."""
        return f"http://{HOST}:{self.port}/api/"

    @property
    def messages(self) -> list[SlackMessage]:
        with self._arrived:
            return list(self._messages)

    def wait_for(self, count: int, seconds: float) -> list[SlackMessage]:
        """Return the messages once there are so many; raise TimeoutError when there were fewer in time."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._messages) >= count, seconds):
                raise TimeoutError(f"{len(self._messages)} of {count} messages came in {seconds} s")
            return list(self._messages)

    def record(self, message: SlackMessage) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()

    def hold(self) -> None:
        """Keep a request waiting until the capture ends."""
        self._released.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    capture: SlackCapture


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if not (self.path.startswith(WEBHOOK_PREFIX) or self.path == POST_MESSAGE):
            self._reply(404, "no_service", "text/plain")
            return
        try:
            payload = parse_payload(raw, self.headers.get_content_type())
        except ValueError:
            self._reply(400, "invalid_payload", "text/plain")
            return
        capture = self.server.capture
        token = self.headers.get("Authorization")
        capture.record(SlackMessage(path=self.path, payload=payload, authorization=token, raw=raw))
        if capture.answer is Answer.HANG:
            capture.hold()
            self.close_connection = True
        elif capture.answer is Answer.ERROR:
            self._reply(500, "server_error", "text/plain")
        elif self.path == POST_MESSAGE:
            message = {"ok": True, "channel": "C000", "ts": f"{time.time():.6f}"}
            self._reply(200, json.dumps(message), "application/json")
        else:
            self._reply(200, "ok", "text/plain")

    def _reply(self, status: int, text: str, content_type: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: tests read ``messages``."""


def parse_payload(raw: str, content_type: str) -> dict[str, object]:
    """Return a message's fields, whether they came as JSON, as a form, or as JSON in a form's ``payload``.

    >>> parse_payload("text=a+b&channel=c", "application/x-www-form-urlencoded")
    {'text': 'a b', 'channel': 'c'}
    """
    if content_type == "application/x-www-form-urlencoded":
        form = dict(parse_qsl(raw, keep_blank_values=True))
        if "payload" not in form:
            return dict(form)
        raw = form["payload"]
    payload = json.loads(raw)
    if not isinstance(payload, dict):
        raise ValueError(f"a Slack message is a JSON object, not {type(payload).__name__}")
    return payload


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted, and print each message as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.slack_capture", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on loopback (default: a free one)")
    parser.add_argument("--answer", type=Answer, choices=list(Answer), default=Answer.OK)
    options = parser.parse_args(arguments)
    with SlackCapture(port=options.port, answer=options.answer) as capture:
        print(f"listening on http://{HOST}:{capture.port}", flush=True)
        for seen in itertools.count():
            message = capture.wait_for(seen + 1, threading.TIMEOUT_MAX)[seen]
            print(json.dumps({"path": message.path, **message.payload}), flush=True)


if __name__ == "__main__":
    main()
