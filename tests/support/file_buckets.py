"""A source with files: its storage.objects, its bucket, and the archive of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.policy import SourcePolicy
from include.backup.policy.attachments import AttachmentsPolicy
from include.backup.steps import archive_attachments, restore_test, upload, verify
from include.backup.steps.context import StepContext
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, make_run, run_chain
from tests.support.store_owner import clients_of, owners_connection

OCTOBER = datetime(2026, 10, 1, 4, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, 4, tzinfo=UTC)
TABLE = """
CREATE SCHEMA storage;
CREATE TABLE storage.objects (id bigint GENERATED ALWAYS AS IDENTITY, bucket_id text, name text, metadata jsonb)
"""


@dataclass(kw_only=True)
class FileSource:
    """One database and one bucket of a test's own."""

    name: str
    s3: Any
    make: ContextMaker
    source: SourcePolicy
    attachments: StoreConnection
    superuser: str
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def on(cls, stack: Stack, make: ContextMaker, *, test: str) -> FileSource:
        """Make one on the embedded stack whose archives are those of a source of its own.

        Its files are read by the store's owner: the backups' user may only read the sample's.
        """
        name = f"files-{hashlib.sha256(test.encode()).hexdigest()[:12]}"
        return cls.create(
            name,
            s3=clients_of(stack)("s3"),
            make=make,
            source=replace(make.source, name=name.replace("-", "_")),
            conninfo=stack.source.superuser_conninfo("postgres"),
            attachments=owners_connection(stack),
        )

    @classmethod
    def create(
        cls,
        name: str,
        *,
        s3: Any,
        make: ContextMaker,
        source: SourcePolicy,
        conninfo: str,
        attachments: StoreConnection,
    ) -> FileSource:
        """Make the database, its table and the bucket."""
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        own = psycopg.conninfo.make_conninfo(conninfo, dbname=name)
        with psycopg.connect(own) as connection:
            connection.execute(TABLE.encode())
        s3.create_bucket(Bucket=name)
        database: DatabaseConnection = replace(make.database, dbname=name)
        policy = AttachmentsPolicy(connection="files", buckets=(name,))
        return cls(
            name=name,
            s3=s3,
            make=make.on(database),
            source=replace(source, attachments=policy),
            attachments=attachments,
            superuser=own,
        )

    def put(self, key: str, body: bytes = b"x", *, row: bool = True, **arguments: Any) -> None:
        """Write a file, and its row unless told otherwise."""
        etag = self.s3.put_object(Bucket=self.name, Key=key, Body=body, **arguments)["ETag"]
        if row:
            self.rows({key: {"size": len(body), "eTag": etag}})

    def rows(self, rows: Mapping[str, Mapping[str, Any] | None], *, bucket: str | None = None) -> None:
        """Write rows of storage.objects, in place of those of the same names."""
        with psycopg.connect(self.superuser) as connection:
            for key, metadata in rows.items():
                connection.execute("DELETE FROM storage.objects WHERE name = %s", (key,))
                connection.execute(
                    "INSERT INTO storage.objects (bucket_id, name, metadata) VALUES (%s, %s, %s)",
                    (bucket or self.name, key, None if metadata is None else json.dumps(metadata)),
                )

    def contexts(self, *, due: datetime = OCTOBER, **changes: Any) -> tuple[StepContext, StepContext]:
        """Return the contexts of the database's and of the files' archive of one run."""
        run = make_run(run_after=due)
        given: dict[str, Any] = {"tier": "monthly", "run": run, "source": self.source, **changes}
        return self.make(**given), self.make(kind="attachments", **{"attachments": self.attachments, **given})

    def archive(self, *, due: datetime = OCTOBER, **changes: Any) -> StepContext:
        """Back up the database, archive and prove the files; return the context of the latter."""
        full, files = self.contexts(due=due, **changes)
        run_chain(full, until=upload)
        archive_attachments.run(files)
        verify.run(files)
        restore_test.run(files)
        return files


def names(notes: Iterable[Any]) -> list[str]:
    """Return the keys of notes."""
    return [note.key for note in notes]
