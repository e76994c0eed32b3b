"""The HTTP proxy that makes object stores misbehave, on real sockets."""

from __future__ import annotations

import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from include.local.processes import wait_until
from tests.faults.http_fault import Answer, DropRequest, LoseReply, Request, TruncateBody
from tests.faults.s3_proxy import S3Proxy

HOST = "127.0.0.1"
SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    method: str
    path: str
    host: str
    body: bytes


@dataclass(slots=True, kw_only=True)
class Upstream:
    """A server that keeps what it got, and answers with the body's hash or with ``content``."""

    url: str
    content: bytes = bytes(range(256)) * 4000
    received: list[Received] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def do_PUT(self) -> None:
            body = self.read_body()
            if len(body) < int(self.headers.get("Content-Length", "0")):
                served.broken.append(len(body))
                return
            self.answer(hashlib.sha256(body).hexdigest().encode(), body)

        def do_GET(self) -> None:
            self.answer(served.content, b"")

        do_HEAD = do_GET  # noqa: N815

        def answer(self, content: bytes, body: bytes) -> None:
            host = self.headers["Host"]
            served.received.append(Received(method=self.command, path=self.path, host=host, body=body))
            self.send_response(200)
            chunked = self.path.endswith("chunked")
            framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(content)))
            self.send_header(*framing)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content) if chunked else content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        served = Upstream(url=f"http://{HOST}:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield served
        server.shutdown()
        thread.join(SECONDS)


def is_put(request: Request) -> bool:
    return request.method == "PUT"


def connect(proxy: S3Proxy) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("localhost", proxy.port, timeout=SECONDS)


def put(client: http.client.HTTPConnection, body: bytes) -> bytes:
    client.request("PUT", "/key", body)
    return client.getresponse().read()


class TestS3Proxy:
    def test_requests_pass_with_host_path_and_body_unchanged(self, upstream: Upstream) -> None:
        body = bytes(range(256)) * 10_000
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            client.request("PUT", "/bucket/a%20b?partNumber=1&uploadId=x%2Fy", body)
            assert client.getresponse().read() == hashlib.sha256(body).hexdigest().encode()
            expected = Received(
                method="PUT",
                path="/bucket/a%20b?partNumber=1&uploadId=x%2Fy",
                host=f"localhost:{proxy.port}",
                body=body,
            )
            assert upstream.received == [expected]
            assert [(e.request.path, e.request.query, e.status) for e in proxy.exchanges] == [
                ("/bucket/a%20b", "partNumber=1&uploadId=x%2Fy", 200)
            ]

    def test_a_connection_is_kept_for_get_head_and_chunked_bodies(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            client.request("GET", "/key")
            assert client.getresponse().read() == upstream.content
            client.request("GET", "/chunked")
            assert client.getresponse().read() == upstream.content
            client.request("HEAD", "/key")
            head = client.getresponse()
            assert (head.read(), head.headers["Content-Length"]) == (b"", str(len(upstream.content)))
            client.request("PUT", "/key", iter([b"one", b"two"]), encode_chunked=True)
            assert client.getresponse().read() == hashlib.sha256(b"onetwo").hexdigest().encode()
            assert [exchange.status for exchange in proxy.exchanges] == [200] * 4

    def test_slow_down_strikes_the_first_matching_requests_only(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.slow_down(times=2, when=is_put)
            answers = []
            for method in ("GET", "PUT", "PUT", "PUT", "GET"):
                client.request(method, "/key", b"x" * 300_000 if method == "PUT" else None)
                response = client.getresponse()
                answers.append((method, response.status, b"SlowDown" in response.read()))
            assert answers == [
                ("GET", 200, False), ("PUT", 503, True), ("PUT", 503, True), ("PUT", 200, False), ("GET", 200, False)
            ]  # fmt: skip
            assert [one.method for one in upstream.received] == ["GET", "PUT", "GET"]

    def test_any_answer_can_be_given_once(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.add(Answer(status=401, body=b"{}", headers={"WWW-Authenticate": "Bearer"}))
            client.request("GET", "/key")
            refused = client.getresponse()
            assert (refused.status, refused.headers["WWW-Authenticate"], refused.read()) == (401, "Bearer", b"{}")
            client.request("GET", "/key")
            assert client.getresponse().read() == upstream.content

    @pytest.mark.parametrize("path", ["/key", "/chunked"])
    def test_a_truncated_body_is_short_by_exactly_what_was_asked(self, upstream: Upstream, path: str) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.add(TruncateBody(after_bytes=70_000))
            client.request("GET", path)
            with pytest.raises(http.client.IncompleteRead) as caught:
                client.getresponse().read()
            assert len(caught.value.partial) == 70_000

    def test_a_dropped_put_reaches_the_server_in_part(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.add(DropRequest(after_bytes=100_000), when=is_put)
            with pytest.raises(ConnectionError):
                put(client, b"x" * 5_000_000)
            assert wait_until(lambda: upstream.broken == [100_000], SECONDS)
            assert upstream.received == []
            assert [exchange.status for exchange in proxy.exchanges] == [None]

    def test_a_lost_reply_leaves_the_work_done(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.add(LoseReply())
            with pytest.raises(ConnectionError):
                put(client, b"x")
            assert [one.body for one in upstream.received] == [b"x"]

    def test_cleared_faults_do_not_strike(self, upstream: Upstream) -> None:
        with S3Proxy(upstream.url) as proxy, closing(connect(proxy)) as client:
            proxy.slow_down(times=9)
            proxy.clear()
            client.request("GET", "/key")
            assert client.getresponse().status == 200

    def test_a_server_that_is_down_ends_the_connection(self) -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
        with S3Proxy(f"http://{HOST}:{port}") as proxy, closing(connect(proxy)) as client:
            client.request("GET", "/key")
            with pytest.raises(http.client.RemoteDisconnected):
                client.getresponse()
