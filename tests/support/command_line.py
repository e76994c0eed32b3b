"""The command line as a person runs it: a process of its own, with nothing in its environment but what it needs."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from include.backup.chain import user_name
from include.backup.cli.main import main
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.evidence import EventKind, open_ledger
from include.backup.policy import PROJECT, SHIPPED_POLICY, load_policy
from include.backup.postgres.session import connection_string
from include.backup.postgres.tools import find_tools
from include.backup.process import minimal_environment
from include.backup.store import ObjectStore
from tests.support.proofs import StoredBackup

SOURCE = "pulse_messages"
TARGET = ("--connection", "restore_target")
SECONDS = 120.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Answer:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The only line about the error."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.err
        return line


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """Runs commands; no secret may be on a stream or in any process's argv."""

    environment: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    folder: Path

    def with_environment(self, **changes: str) -> CommandLine:
        return replace(self, environment={**self.environment, **changes})

    def run(self, *argv: str) -> Answer:
        """Run in a process of its own."""
        with self.started(*argv) as child, self._no_secret_in_argv():
            out, err = child.communicate(timeout=SECONDS)
        return self._answer(child.returncode, out, err)

    def here(self, *argv: str) -> Answer:
        """Run in this process, which is quicker."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv, self.environment)
        return self._answer(code, out.getvalue(), err.getvalue())

    @contextmanager
    def started(self, *argv: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
        """Start a process in a session of its own; it is killed at the end of the block if it still runs."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen(
            [sys.executable, "-m", "include.backup", *argv],
            env=self.environment,
            cwd=self.folder,
            text=True,
            start_new_session=True,
            **{**pipes, **streams},
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(SECONDS)

    def _answer(self, code: int, out: str, err: str) -> Answer:
        for secret in self.secrets:
            assert secret not in out
            assert secret not in err
        return Answer(code=code, out=out, err=err)

    @contextmanager
    def _no_secret_in_argv(self) -> Iterator[None]:
        """Look at the arguments of all processes again and again."""
        seen: list[str] = []
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(POLL_SECONDS):
                for path in Path("/proc").glob("[0-9]*/cmdline"):
                    with contextlib.suppress(OSError):
                        argv = path.read_bytes().decode(errors="replace")
                        seen.extend(argv for secret in self.secrets if secret in argv)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not seen


def command_environment(environment: dict[str, str], **connections: DatabaseConnection) -> dict[str, str]:
    """Return a stack's variables and further connections by their ids, and nothing else but the path."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PROJECT),
        **environment,
        **{f"AIRFLOW_CONN_{name.upper()}": connection_json(value) for name, value in connections.items()},
    }


def restore_on_record(store: ObjectStore, document: dict[str, Any]) -> Mapping[str, Any]:
    """Return what the evidence says of the restore that a command's document tells of."""
    assert document["recorded"] is True
    event = open_ledger(load_policy(SHIPPED_POLICY).source(SOURCE), store).find(f"restore:{document['restore_id']}")
    assert event is not None
    assert (event.kind, event.subject) == (EventKind.RESTORE, document["restore_id"])
    assert event.actor.endswith(f" by {user_name()}")
    return event.facts


def connection_json(connection: DatabaseConnection) -> str:
    extra = {"sslmode": connection.sslmode, "sslrootcert": connection.sslrootcert}
    return json.dumps(
        {
            "conn_type": "postgres",
            "host": connection.host,
            "port": connection.port,
            "schema": connection.dbname,
            "login": connection.user,
            "password": connection.password,
            "extra": {name: value for name, value in extra.items() if value},
        }
    )


def store_json(connection: StoreConnection) -> str:
    return json.dumps(
        {
            "conn_type": "aws",
            "login": connection.access_key,
            "password": str(connection.secret_key),
            "extra": {
                "endpoint_url": connection.endpoint_url,
                "region_name": connection.region,
                "verify": connection.ca_bundle,
            },
        }
    )


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until something is so; fails the test after a while."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen in {SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Server:
    """A server with a superuser: what is there is looked at without the code that is tested."""

    superuser: DatabaseConnection

    def session(self, database: str) -> psycopg.Connection[Any]:
        parameters = {**self.superuser.libpq_parameters(), "dbname": database}
        return psycopg.connect("", **parameters, password=self.superuser.password, autocommit=True)

    def databases(self) -> set[str]:
        with self.session(self.superuser.dbname) as session:
            return {row[0] for row in session.execute("SELECT datname FROM pg_database").fetchall()}

    def drop(self, database: str) -> None:
        with self.session(self.superuser.dbname) as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def contents(self, database: str, *options: str, client: int | None = None) -> list[str]:
        """Return every line of a plain dump, sorted: the order of rows and grants is no content.

        It is made by the server's own client, or by one of another major version.
        """
        with self.session(database) as session:
            major = session.info.server_version // 10000
        tools = find_tools(client or major)
        endpoint = replace(self.superuser, dbname=database)
        answer = subprocess.run(
            [tools.path("pg_dump"), *options, f"--dbname={connection_string(endpoint)}"],
            env=minimal_environment(endpoint.environment()),
            capture_output=True,
            check=True,
            text=True,
        )
        kept = (
            line for line in answer.stdout.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict"))
        )
        return sorted(kept)


class Forger:
    """Puts backups into the store that are not as they should be."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._count = 0
        self._keys: list[str] = []

    def new_id(self) -> str:
        self._count += 1
        return f"pulse_messages_daily_full_20200101T000000Z_{self._count:06x}"

    def put(self, key: str, body: bytes) -> None:
        self._store.s3.put_object(Bucket=self._store.bucket, Key=key, Body=body)
        self._keys.append(key)

    def remove(self) -> None:
        for key in self._keys:
            self._store.s3.delete_object(Bucket=self._store.bucket, Key=key)

    def backup(self, forged: StoredBackup) -> str:
        """Store a manifest under an id of its own; return the id."""
        backup_id = self.new_id()
        manifest = replace(forged.manifest, backup_id=backup_id)
        self.put(f"daily/{backup_id}.manifest.json", manifest.to_json())
        return backup_id
