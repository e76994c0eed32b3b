"""Put a server's WAL into the store under the platform's keys, in one process and at once: for tests of recoveries."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from backports import zstd

from include.backup.connections import DatabaseConnection
from include.backup.postgres.replication import identify
from include.backup.postgres.session import connection_string
from include.backup.postgres.tools import find_tools
from include.backup.process import minimal_environment
from include.backup.store import ObjectStore
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment

SECONDS = 60.0
SLOT = "shipped"


@dataclass(kw_only=True)
class WalShipper:
    """pg_receivewal of one server, and a store; ``ship`` stores every segment that is complete."""

    connection: DatabaseConnection
    store: ObjectStore
    folder: Path
    keys: ClusterKeys
    shipped: list[Segment] = field(default_factory=list)

    @classmethod
    @contextmanager
    def of(
        cls, connection: DatabaseConnection, store: ObjectStore, folder: Path, *, major: int
    ) -> Iterator[WalShipper]:
        folder.mkdir(parents=True)
        parameters: dict[str, Any] = connection.libpq_parameters()
        with psycopg.connect("", **parameters, password=str(connection.password), autocommit=True) as session:
            session.execute("SELECT pg_create_physical_replication_slot(%s, true)", (SLOT,))
        keys = ClusterKeys(system_identifier=identify(connection).system_identifier)
        with subprocess.Popen(
            [
                find_tools(major).path("pg_receivewal"),
                f"--directory={folder}",
                f"--slot={SLOT}",
                "--synchronous",
                "--no-password",
                f"--dbname={connection_string(connection)}",
            ],
            env=minimal_environment(connection.environment()),
        ) as child:
            shipper = cls(connection=connection, store=store, folder=folder, keys=keys)
            try:
                shipper._wait(lambda: any(folder.iterdir()), "WAL to come")
                yield shipper
            finally:
                child.kill()

    def ship(self, session: psycopg.Connection, *, leave_out: int = 0) -> Segment:
        """End the current segment and store all up to it, but the last ``leave_out``; return the last stored."""
        row = session.execute("SELECT pg_walfile_name(pg_logical_emit_message(true, 'test', 'x'))").fetchone()
        name = row[0] if row else ""
        session.execute("SELECT pg_switch_wal()")
        self._wait(lambda: (self.folder / name).is_file(), f"{name} to come")
        names = sorted(path.name for path in self.folder.iterdir() if len(path.name) == 24)
        for done in names[: len(names) - leave_out]:
            segment = Segment.parse(done, size=16 << 20)
            if segment not in self.shipped:
                self._put(segment)
        return self.shipped[-1]

    def remove(self, segment: Segment) -> None:
        """Take a segment out of the store."""
        self.store.s3.delete_object(Bucket=self.store.bucket, Key=self.keys.segment(segment))

    def put_empty(self, segment: Segment) -> None:
        """Store something that has a segment's key."""
        self.store.s3.put_object(Bucket=self.store.bucket, Key=self.keys.segment(segment), Body=zstd.compress(b""))

    def put_again(self, segment: Segment) -> None:
        self._put(segment)

    def _put(self, segment: Segment) -> None:
        content = (self.folder / segment.name).read_bytes()
        body = zstd.compress(content)
        self.store.s3.put_object(
            Bucket=self.store.bucket,
            Key=self.keys.segment(segment),
            Body=body,
            ChecksumSHA256=base64.b64encode(hashlib.sha256(body).digest()).decode(),
            Metadata={"length": str(len(content)), "sha256": hashlib.sha256(content).hexdigest()},
        )
        if segment not in self.shipped:
            self.shipped.append(segment)

    def _wait(self, condition: object, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():  # type: ignore[operator]
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {SECONDS:.0f} s for {what}")
            time.sleep(0.05)
