"""An HTTP proxy in front of an S3 endpoint (or any other) that answers, truncates and drops on purpose.

Requests go on with their headers unchanged, Host included, so that their signatures stay valid.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.faults.http_fault import (
    SLOW_DOWN,
    Answer,
    DropRequest,
    Exchange,
    Fault,
    LoseReply,
    Predicate,
    Request,
    Rule,
    TruncateBody,
    every,
)

HOST = "127.0.0.1"
CHUNK_BYTES = 65536
TIMEOUT_SECONDS = 60.0
HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "expect", "transfer-encoding", "upgrade"})


class S3Proxy:
    """A context manager; ``url`` is the endpoint to give to clients."""

    def __init__(
        self,
        upstream: str,
        *,
        ca_file: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Stand before ``upstream``; with ``certificate`` (file, key) clients speak TLS to the proxy too."""
        self._upstream = urlsplit(upstream)
        self._tls = ssl.create_default_context(cafile=ca_file) if self._upstream.scheme == "https" else None
        self._scheme = "https" if certificate else "http"
        self._rules: list[Rule] = []
        self._exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._server = _Server((HOST, 0), _Handler)
        self._server.proxy = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="s3-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.close_clients()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self.port}"

    @property
    def exchanges(self) -> list[Exchange]:
        """Return what happened so far, in order of arrival."""
        with self._lock:
            return list(self._exchanges)

    @property
    def requests(self) -> list[Request]:
        return [exchange.request for exchange in self.exchanges]

    def add(self, fault: Fault, *, times: int = 1, when: Predicate = every) -> None:
        """Let the fault strike the next ``times`` matching requests; earlier faults go first."""
        with self._lock:
            self._rules.append(Rule(when=when, fault=fault, left=times))

    def slow_down(self, *, times: int, when: Predicate = every) -> None:
        """Answer 503 SlowDown, as S3 does under load."""
        headers = {"Content-Type": "application/xml"}
        self.add(Answer(status=503, body=SLOW_DOWN, headers=headers), times=times, when=when)

    def clear(self) -> None:
        """Forget all faults that have not struck yet."""
        with self._lock:
            self._rules.clear()

    def begin(self, request: Request) -> Exchange:
        """Record a request with the fault that strikes it, if any, and count the fault."""
        with self._lock:
            rule = next((rule for rule in self._rules if rule.left > 0 and rule.when(request)), None)
            if rule is not None:
                rule.left -= 1
            exchange = Exchange(request=request, fault=rule.fault if rule else None)
            self._exchanges.append(exchange)
            return exchange

    def connect(self) -> socket.socket:
        """Connect to the server behind."""
        host = self._upstream.hostname or HOST
        port = self._upstream.port or (443 if self._tls else 80)
        raw = socket.create_connection((host, port), TIMEOUT_SECONDS)
        return self._tls.wrap_socket(raw, server_hostname=host) if self._tls else raw


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: S3Proxy

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._clients: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._clients.discard(request)
        super().shutdown_request(request)

    def close_clients(self) -> None:
        """End kept-alive connections, whose threads would wait for the next request."""
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away is what these tests are about; anything else is a mistake in the proxy.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_SECONDS
    server: _Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._proxy
        raise AttributeError(name)

    def _proxy(self) -> None:
        address = urlsplit(self.path)
        request = Request(
            method=self.command, path=address.path, query=address.query, headers=dict(self.headers.items())
        )
        self._exchange = self.server.proxy.begin(request)
        fault = self._exchange.fault
        try:
            if isinstance(fault, Answer):
                self._answer(fault)
            else:
                self._forward(fault)
        except (OSError, HTTPException):
            self.close_connection = True

    def _answer(self, answer: Answer) -> None:
        for _ in self._request_body():
            pass  # S3 reads what a client insists on sending before it refuses
        self._exchange.status = answer.status
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _forward(self, fault: Fault | None) -> None:
        with self.server.proxy.connect() as upstream:
            upstream.sendall(self._request_head())
            self._send_body(upstream, fault.after_bytes if isinstance(fault, DropRequest) else None)
            if isinstance(fault, DropRequest):
                self._hang_up()
                return
            with HTTPResponse(upstream, method=self.command) as response:
                response.begin()
                if isinstance(fault, LoseReply):
                    response.read()
                    self._hang_up()
                else:
                    self._return(response, fault.after_bytes if isinstance(fault, TruncateBody) else None)

    def _send_body(self, upstream: socket.socket, limit: int | None) -> None:
        left = limit
        for chunk in self._request_body():
            upstream.sendall(chunk if left is None else chunk[:left])
            left = None if left is None else max(0, left - len(chunk))
            if left == 0:
                return

    def _request_head(self) -> bytes:
        lines = [self.requestline.rpartition(" ")[0] + " HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP]
        if self._chunked():
            lines.append("Transfer-Encoding: chunked")
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")

    def _chunked(self) -> bool:
        return "chunked" in self.headers.get("Transfer-Encoding", "").lower()

    def _request_body(self) -> Iterator[bytes]:
        """Yield the body as it is on the wire, with the frames of a chunked one."""
        if self._chunked():
            yield from self._frames()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left > 0:
            chunk = self.rfile.read1(min(left, CHUNK_BYTES))
            if not chunk:
                raise ConnectionResetError("the client went away in its own request")
            left -= len(chunk)
            yield chunk

    def _frames(self) -> Iterator[bytes]:
        size = 1
        while size > 0:
            line = self.rfile.readline()
            size = int(line.partition(b";")[0], 16)
            yield line + (self.rfile.read(size + 2) if size else b"")
        while line := self.rfile.readline():
            yield line
            if line == b"\r\n":
                return

    def _return(self, response: HTTPResponse, limit: int | None) -> None:
        has_body = self.command != "HEAD" and response.status >= 200 and response.status not in (204, 304)
        framed = has_body and response.headers.get("Content-Length") is None
        self._exchange.status = response.status
        self._send_head(response.status, response.reason, response.headers, framed=framed)
        left = limit
        while has_body and (chunk := response.read1(CHUNK_BYTES)):
            part = chunk if left is None else chunk[:left]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if framed and part else part)
            left = None if left is None else left - len(part)
            if left == 0:
                self._hang_up()
                return
        if framed:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, status: int, reason: str, headers: HTTPMessage, *, framed: bool) -> None:
        self.send_response_only(status, reason)
        for name, value in headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if framed:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: tests read ``exchanges``."""
