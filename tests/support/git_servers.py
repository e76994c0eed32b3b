"""Git remotes as hosting services have them: over SSH with a key, over HTTPS with a token."""

from __future__ import annotations

import asyncio
import base64
import os
import shlex
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncssh

from include.backup.process import minimal_environment

USER, TOKEN = "robot", "glpat-CANARY-token/with+odd=characters"
SERVICES = ("git-upload-pack", "git-receive-pack")


def make_remote(path: Path) -> Path:
    """Make an empty bare repository."""
    git(path.parent, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
    return path


def git(folder: Path, *words: str, **more: str) -> str:
    """Run git as a colleague does who has a name."""
    names = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _COLLEAGUE}
    environment = minimal_environment({"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **names, **more})
    done = subprocess.run(("git", *words), cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(f"git {words}: {done.stderr}")
    return done.stdout


_COLLEAGUE = (("NAME", "A Colleague"), ("EMAIL", "colleague@example.com"))


@dataclass(frozen=True, kw_only=True)
class SshServer:
    """An SSH server that runs git for whoever has the key."""

    port: int
    private_key: str
    other_key: str
    known_hosts: str
    commands: list[str] = field(default_factory=list)

    def url(self, repository: Path) -> str:
        return f"ssh://git@127.0.0.1:{self.port}{repository}"


@contextmanager
def ssh_server() -> Iterator[SshServer]:
    """Run the server in a thread of its own."""
    host, client, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(3))
    commands: list[str] = []
    loop = asyncio.new_event_loop()
    started: list[Any] = []
    ready = threading.Event()

    async def serve() -> None:
        listener = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[host],
            authorized_client_keys=asyncssh.import_authorized_keys(client.export_public_key().decode()),
            process_factory=lambda process: _run_git(process, commands),
            encoding=None,
        )
        started.append(listener)
        ready.set()
        await listener.wait_closed()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not ready.wait(30):
        raise AssertionError("the SSH server does not start")
    port = started[0].get_port()
    public = host.export_public_key().decode().strip()
    try:
        yield SshServer(
            port=port,
            private_key=client.export_private_key("openssh").decode(),
            other_key=other.export_private_key("openssh").decode(),
            known_hosts=f"[127.0.0.1]:{port} {public}",
            commands=commands,
        )
    finally:
        loop.call_soon_threadsafe(started[0].close)
        thread.join(30)
        loop.close()


async def _run_git(process: Any, commands: list[str]) -> None:
    commands.append(process.command or "")
    words = shlex.split(process.command or "")
    if len(words) != 2 or words[0] not in SERVICES:
        process.exit(126)
        return
    child = await asyncio.create_subprocess_exec(
        "git",
        words[0].removeprefix("git-"),
        words[1],
        env=minimal_environment({"HOME": "/nonexistent"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    # By hand: a redirection may still hold the last words when the exit code is already on its way.
    listening = asyncio.ensure_future(_pump(process.stdin, child.stdin))
    await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
    listening.cancel()
    process.exit(await child.wait())


async def _pump(source: Any, target: Any) -> None:
    try:
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # git has heard enough


@contextmanager
def https_server(root: Path, *, certificate: Path, key: Path) -> Iterator[str]:
    """Serve the repositories below a folder by git's own CGI program, with basic authentication; yield the URL."""

    class Handler(_GitHandler):
        folder = root

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


class _GitHandler(BaseHTTPRequestHandler):
    folder = Path()
    wanted = "Basic " + base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            self._answer(b"".join(self._chunks()))
        else:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(self, body: bytes) -> None:
        if self.headers.get("Authorization") != self.wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_USER": USER,
            "CONTENT_TYPE": self.headers.get("Content-Type") or "",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(("git", "http-backend"), input=body, env=environment, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
