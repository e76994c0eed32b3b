"""Stored backups that tests prove: as they are, forged in the store, or with a fault in the restored copy."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import logging
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from psycopg import sql

from include.backup.archive.reader import ArchiveReader
from include.backup.connections import DatabaseConnection
from include.backup.manifest import Manifest, Member
from include.backup.postgres.session import connect
from include.backup.postgres.toc import Toc, read_toc
from include.backup.process import Runner
from include.backup.proof import prove as prove_module
from include.backup.proof.loading import Loaded, ScratchLoader
from include.backup.proof.makers import is_property
from include.backup.proof.prove import ProofRequest, prove
from include.backup.proof.record import Level, Proof
from include.backup.proof.scratch import ScratchServer
from include.backup.steps import upload
from include.backup.steps.context import StepContext, utc_now
from include.backup.store import ObjectStore
from tests.support.contexts import run_chain

LOG = logging.getLogger("tests.proof")
KEPT = "kept"
_NUMBERS = itertools.count(1)
Fault = Callable[[ScratchServer, str], None]


@dataclass(frozen=True, kw_only=True)
class StoredBackup:
    """One backup in the store, and where it may be proven. ``manifest`` may say other things than the stored one."""

    store: ObjectStore
    manifest: Manifest
    scratch_root: Path

    @classmethod
    def take(cls, ctx: StepContext) -> StoredBackup:
        """Back up with the real steps, and leave no staging."""
        run_chain(ctx, until=upload)
        ctx.staging.remove()
        return cls(store=ctx.store, manifest=ctx.catalog.manifest(ctx.backup_id), scratch_root=ctx.scratch_root)

    @cached_property
    def archive(self) -> bytes:
        """The stored bytes of the whole archive."""
        return self.store.get(self.manifest.archive.key)

    @cached_property
    def toc(self) -> Toc:
        return read_toc(self.content("dump/toc.dat"))

    def stored(self, name: str) -> bytes:
        """Return a member's bytes as stored."""
        member = self.manifest.member(name)
        return self.archive[member.offset : member.offset + member.stored_length]

    def content(self, name: str) -> bytes:
        """Return a member's bytes uncompressed."""
        return b"".join(ArchiveReader(self.store, self.manifest).content(self.manifest.member(name)))

    def data_member(self, table: str) -> Member:
        """Return the member that holds a table's rows."""
        (found,) = (
            member
            for member in self.manifest.members
            if member.table_data and f"{member.table_data.schema}.{member.table_data.table}" == table
        )
        return found

    def request(self, *, level: Level = Level.COMPLETE, **options: Any) -> ProofRequest:
        return ProofRequest(
            store=self.store,
            manifest=self.manifest,
            manifest_bytes=self.manifest.to_json(),
            scratch_root=self.scratch_root,
            jobs=2,
            level_needed=level,
            **options,
        )

    def prove(self, **options: Any) -> Proof:
        """Restore and compare as restore_test does."""
        return prove(self.request(**options), runner=Runner(log=LOG), log=LOG, clock=utc_now)

    def put(self, archive: bytes) -> str:
        """Store other bytes as an archive; return its key."""
        key = f"forged/{next(_NUMBERS)}.tar"
        self.store.s3.put_object(Bucket=self.store.bucket, Key=key, Body=archive)
        return key

    def saying(self, **changes: Any) -> StoredBackup:
        """Return the same archive under a manifest that says something else."""
        return StoredBackup(
            store=self.store, manifest=replace(self.manifest, **changes), scratch_root=self.scratch_root
        )

    def with_member(self, name: str, **changes: Any) -> StoredBackup:
        """Return the same archive under a manifest that says something else of one member."""
        members = tuple(replace(m, **changes) if m.name == name else m for m in self.manifest.members)
        return self.saying(members=members)

    def repacked(self, contents: Mapping[str, bytes], *, rehashed: bool) -> StoredBackup:
        """Store a tar with other bytes for some members, under a manifest that fits it as a tar.

        ``rehashed`` makes the hashes of what is stored fit too, so that only the comparison can tell; what the
        manifest says of the content (rows, hashes of the uncompressed bytes) stays.
        """
        archive, members = _tar(self, contents)
        if not rehashed:
            members = tuple(
                replace(member, stored_sha256=self.manifest.member(member.name).stored_sha256) for member in members
            )
        facts = replace(
            self.manifest.archive,
            key=self.put(archive),
            size=len(archive),
            checksum=composite_checksum(archive, self.manifest.archive.part_size),
        )
        return self.saying(members=members, archive=facts)


BackUp = Callable[[DatabaseConnection], StoredBackup]


def _tar(backup: StoredBackup, contents: Mapping[str, bytes]) -> tuple[bytes, tuple[Member, ...]]:
    """Write a tar with Python's own module, and find its members' offsets by reading it back."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in backup.manifest.members:
            data = contents.get(member.name, backup.stored(member.name))
            info = tarfile.TarInfo(member.name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    archive = file.getvalue()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        places = {info.name: (info.offset_data, info.size) for info in tar}
    members = tuple(
        replace(
            member,
            offset=places[member.name][0],
            stored_length=places[member.name][1],
            stored_sha256=hashlib.sha256(contents.get(member.name, backup.stored(member.name))).hexdigest(),
        )
        for member in backup.manifest.members
    )
    return archive, members


def composite_checksum(archive: bytes, part_size: int) -> str:
    """Return what S3 says of an object that was stored in parts."""
    parts = [archive[start : start + part_size] for start in range(0, len(archive), part_size)]
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return f"{base64.b64encode(hashlib.sha256(digests).digest()).decode()}-{len(parts)}"


def frames(content: bytes, count: int) -> list[bytes]:
    """Compress content to several zstd frames, cut at ends of lines."""
    lines = content.splitlines(keepends=True)
    size = -(-len(lines) // count)
    return [zstd.compress(b"".join(lines[start : start + size])) for start in range(0, len(lines), size)]


@contextmanager
def fault_after_load(fault: Fault) -> Iterator[None]:
    """Let ``fault`` change the restored database between the real load and the comparison."""
    real = ScratchLoader.load

    def load(self: ScratchLoader, *arguments: Any, **options: Any) -> Loaded:
        loaded = real(self, *arguments, **options)
        fault(self._scratch, loaded.database)
        return loaded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScratchLoader, "load", load)
        yield


def run_sql(scratch: ScratchServer, database: str, statements: str) -> None:
    """Run statements in a restored copy as the scratch server's superuser."""
    with connect(scratch.admin.on(database), settings={}) as connection:
        connection.execute(statements.encode())


class KeptRestore:
    """One backup that was restored once by the real loader, for many comparisons.

    Each comparison gets a fresh copy of the restored database (CREATE DATABASE … TEMPLATE) with a fault in it;
    everything else of ``prove`` runs as always, the reading of the archive included.
    """

    def __init__(self, backup: StoredBackup, scratch: ScratchServer) -> None:
        self.backup = backup
        self._scratch = scratch
        self._loaded: Loaded | None = None
        with self._patched(keeping(self)):
            self.honest = backup.prove()
        if self._loaded is None:
            raise AssertionError("the backup could not be restored")
        run_sql(scratch, "template1", f"ALTER DATABASE {self._loaded.database} RENAME TO {KEPT}")

    @classmethod
    @contextmanager
    def of(cls, backup: StoredBackup) -> Iterator[KeptRestore]:
        major = backup.manifest.dump.server.major
        tools = prove_module.find_tools(major, server=True)
        with ScratchServer(root=backup.scratch_root, tools=tools, runner=Runner(log=LOG), log=LOG) as scratch:
            yield cls(backup, scratch)

    def prove(self, fault: str = "", *, undo: str = "", **options: Any) -> Proof:
        """Compare with a copy in which ``fault`` was run; ``undo`` is for what belongs to the whole server."""
        try:
            with self._patched(ready_made(self, fault)):
                return self.backup.prove(**options)
        finally:
            run_sql(self._scratch, "template1", undo or "SELECT")

    def prove_forged(self, forged: StoredBackup) -> Proof:
        """Read and compare a forgery, with an honest copy in place of what its restore would give."""
        with self._patched(ready_made(self, "")):
            return forged.prove()

    def keep(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def copy(self, fault: str) -> Loaded:
        """Make a copy of the restored database by its name, and run the fault in it."""
        if self._loaded is None:
            raise AssertionError("nothing was restored yet")
        name = sql.Identifier(self._loaded.database)
        owner = sql.Identifier(self.backup.manifest.dump.server.owner)
        with connect(self._scratch.admin.on("template1"), settings={}) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE kept OWNER {}").format(name, owner))
            for entry in self.backup.toc.entries:  # what CREATE DATABASE does not copy
                if is_property(entry):
                    connection.execute(entry.definition.encode())
        if fault:
            run_sql(self._scratch, self._loaded.database, fault)
        return self._loaded

    @contextmanager
    def _patched(self, loader: type) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prove_module, "ScratchServer", lambda **_: _Shared(self._scratch))
            patch.setattr(prove_module, "ScratchLoader", loader)
            yield


class Arena:
    """One empty scratch server for many proofs, each with the real restore; only its start is saved."""

    def __init__(self, scratch: ScratchServer) -> None:
        self._scratch = scratch

    @classmethod
    @contextmanager
    def of(cls, scratch_root: Path, *, major: int = 17) -> Iterator[Arena]:
        tools = prove_module.find_tools(major, server=True)
        with ScratchServer(root=scratch_root, tools=tools, runner=Runner(log=LOG), log=LOG) as scratch:
            yield cls(scratch)

    def prove(self, backup: StoredBackup, **options: Any) -> Proof:
        """Restore and compare, and leave the server empty."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prove_module, "ScratchServer", lambda **_: _Shared(self._scratch))
            try:
                return backup.prove(**options)
            finally:
                self._empty()

    def _empty(self) -> None:
        ours = (self._scratch.admin.user, self._scratch.loader.user)
        with connect(self._scratch.admin.on("template1"), settings={}) as connection:
            databases = connection.execute("SELECT datname::text AS name FROM pg_database WHERE NOT datistemplate")
            for row in databases.fetchall():
                if row["name"] != "postgres":
                    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(row["name"])))
            roles = connection.execute(
                "SELECT rolname::text AS name FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> ALL (%s)",
                (list(ours),),
            )
            names = sql.SQL(", ").join(sql.Identifier(row["name"]) for row in roles.fetchall())
            connection.execute(sql.SQL("DROP OWNED BY {}; DROP ROLE {}").format(names, names))


class _Shared:
    """A running scratch server that looks like a new one: with a folder of its own for each proof."""

    def __init__(self, scratch: ScratchServer) -> None:
        self._scratch = scratch
        self.folder = scratch.folder / f"proof-{next(_NUMBERS)}"

    def __enter__(self) -> _Shared:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the server running."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scratch, name)


def keeping(kept: KeptRestore) -> type[ScratchLoader]:
    """Return the real loader, which tells what it loaded."""

    class Keeping(ScratchLoader):
        def load(self, *arguments: Any, **options: Any) -> Loaded:
            loaded = super().load(*arguments, **options)
            kept.keep(loaded)
            return loaded

    return Keeping


def ready_made(kept: KeptRestore, fault: str) -> type:
    """Return a loader that hands out a copy of what the real one loaded."""

    class ReadyMade:
        def __init__(self, **_: Any) -> None:
            """Take what the real loader takes."""

        def load(self, *_: Any, **__: Any) -> Loaded:
            return kept.copy(fault)

    return ReadyMade
