"""PgBouncer in transaction mode in front of the embedded source."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from include.backup.connections import DatabaseConnection
from include.local.stack import Stack

START_SECONDS = 15.0


@contextmanager
def transaction_pooler(stack: Stack, folder: Path) -> Iterator[DatabaseConnection]:
    """Run PgBouncer; yield a connection through it."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    direct = stack.database_connection()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir(mode=0o755)
    users = folder / "users.txt"
    users.write_text(f'"{direct.user}" "{direct.password}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        "[databases]\n"
        f"{direct.dbname} = host=localhost port={direct.port}\n"
        "[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\npool_mode = transaction\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\nserver_tls_sslmode = require\n"
        "ignore_startup_parameters = options,extra_float_digits\n"
        f"client_tls_sslmode = require\nclient_tls_key_file = {folder / 'key.pem'}\n"
        f"client_tls_cert_file = {folder / 'cert.pem'}\n"
    )
    shutil.copy(stack.layout.key, folder / "key.pem")
    shutil.copy(stack.layout.certificate, folder / "cert.pem")
    owner = "nobody" if os.geteuid() == 0 else None
    for path in folder.iterdir():
        path.chmod(0o600)
        if owner:
            shutil.chown(path, owner)
    child = subprocess.Popen([program, str(config)], user=owner, stderr=subprocess.PIPE)
    try:
        _wait(child, port)
        yield replace(direct, host="localhost", port=port)
    finally:
        child.terminate()
        child.wait(10)


def _wait(child: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    error = child.stderr.read().decode() if child.poll() is not None and child.stderr else "it does not listen"
    pytest.fail(f"pgbouncer did not start: {error}")
