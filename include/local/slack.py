"""A stand-in for Slack's incoming webhooks: it keeps each message in a file, so that a person can see it."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from include.local import ports
from include.local.credentials import load_credentials
from include.local.environment import service_environment
from include.local.errors import ServiceFailedError
from include.local.layout import HOST, Layout
from include.local.processes import wait_until
from include.local.service import Program, Service

LARGEST_MESSAGE_BYTES = 1 << 20
START_SECONDS = 30.0


class SlackCapture:
    """The capture server of one stack, and what it has received."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.messages_file = layout.logs / "slack-messages.jsonl"
        self.url = f"http://{HOST}:{layout.slack_port}/services"

    def service(self) -> Service:
        token = load_credentials(self._layout.credentials).slack_token
        environment = {
            **service_environment(self._layout),
            "SLACK_PORT": str(self._layout.slack_port),
            "SLACK_TOKEN": token,
            "SLACK_MESSAGES": str(self.messages_file),
        }
        argv = (sys.executable, "-m", "include.local.slack")
        return Service(self._layout, Program(name="slack", argv=argv, environment=environment))

    def start(self) -> bool:
        """Start the server; return whether this call started it."""
        service = self.service()
        if service.running():
            return False
        service.stop()
        ports.require_free("slack", self._layout.slack_port)
        service.start()

        def answered() -> bool:
            service.require_running()
            return self.healthy()

        if not wait_until(answered, START_SECONDS):
            raise ServiceFailedError(f"the Slack stand-in does not answer; {service.log_tail()}")
        return True

    def healthy(self) -> bool:
        return ports.answers(self._layout.slack_port)

    def messages(self) -> list[dict[str, object]]:
        """Return what was received, oldest first."""
        if not self.messages_file.exists():
            return []
        return [json.loads(line) for line in self.messages_file.read_text().splitlines()]


class _Handler(BaseHTTPRequestHandler):
    token = ""
    messages = Path()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != f"/services/{self.token}":
            self._answer(403, "invalid_token")
        elif length > LARGEST_MESSAGE_BYTES:
            self._answer(413, "too_large")
        else:
            self._keep(self.rfile.read(length))

    def _keep(self, body: bytes) -> None:
        try:
            message = json.loads(body)
        except ValueError:
            self._answer(400, "invalid_payload")
            return
        line = json.dumps({"received_at": datetime.now(UTC).isoformat(), "message": message}) + "\n"
        descriptor = os.open(self.messages, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
        self._answer(200, "ok")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    """Receive until SIGTERM."""
    _Handler.token = os.environ["SLACK_TOKEN"]
    _Handler.messages = Path(os.environ["SLACK_MESSAGES"])
    ThreadingHTTPServer((HOST, int(os.environ["SLACK_PORT"])), _Handler).serve_forever()


if __name__ == "__main__":
    main()
