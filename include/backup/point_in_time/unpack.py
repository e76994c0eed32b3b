"""Fetch a base backup and unpack it into a data folder, as the user who will run the server."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from include.backup.archive.members import Compression, uncompressed
from include.backup.base.stored import StoredBase
from include.backup.base.stream import FILE_SUFFIX, MANIFEST_FILE
from include.backup.errors import CommandError, MemberHashError, RestoreError
from include.backup.manifest import Manifest, Member
from include.backup.postgres.account import give
from include.backup.postgres.cluster import write_private
from include.backup.process import Command, Runner, dying_with_parent, minimal_environment
from include.backup.store import ObjectStore

RANGE_BYTES = 8 << 20
IN_FLIGHT = 4
BASE_MEMBER = f"base{FILE_SUFFIX}"
TABLESPACE_MAP = "tablespace_map"
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A base backup on disk: its data folder, and a folder for each tablespace by oid."""

    data: Path
    tablespaces: dict[int, Path]


class Unpacker:
    """Unpacks base backups below folders of one user; ``progress`` gets the bytes that were read from the store."""

    def __init__(self, store: ObjectStore, *, user: str | None, runner: Runner, progress: Progress) -> None:
        self._store = store
        self._user = user
        self._runner = runner
        self._progress = progress

    def unpack(self, base: StoredBase, folder: Path, *, name: str = "data") -> Unpacked:
        """Fetch and unpack one base backup into new folders below ``folder``.

        Raises MemberHashError for a member that is not what was stored, RestoreError when tar refuses it.
        """
        data = self._new(folder / name)
        places = {one.oid: self._new(folder / f"{name}-tablespace-{one.oid}") for one in base.base.tablespaces}
        manifest = base.manifest
        for member in manifest.members:
            if member.name == BASE_MEMBER:
                self._extract(manifest, member, data)
            elif member.name.endswith(FILE_SUFFIX):
                self._extract(manifest, member, places[int(member.name.removesuffix(FILE_SUFFIX))])
        self._manifest_file(manifest, data)
        for oid, place in places.items():
            link = data / "pg_tblspc" / str(oid)
            with suppress(FileNotFoundError):
                link.unlink()
            link.symlink_to(place)
            give(link, self._user)
        return Unpacked(data=data, tablespaces=places)

    def _new(self, path: Path) -> Path:
        path.mkdir(mode=0o700)
        give(path, self._user)
        return path

    def _manifest_file(self, manifest: Manifest, data: Path) -> None:
        content = b"".join(self._checked(manifest, manifest.member(MANIFEST_FILE)))
        write_private(data / MANIFEST_FILE, content.decode(), user=self._user)

    def _extract(self, manifest: Manifest, member: Member, target: Path) -> None:
        """Let tar, as the server's user, unpack what is read, checked and decompressed here."""
        command = Command(
            argv=("tar", "--extract", "--file=-", f"--directory={target}", "--no-same-owner", "--preserve-permissions"),
            user=self._user,
        )
        child = subprocess.Popen(
            dying_with_parent(command),
            env=minimal_environment({}),
            cwd=target if self._user is None else "/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if child.stdin is None or child.stderr is None:
            raise CommandError("tar was started without an input")
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.append(child.stderr.read() if child.stderr else b""), daemon=True)
        reader.start()
        try:
            with suppress(BrokenPipeError), child.stdin as pipe:
                for chunk in uncompressed(self._checked(manifest, member), Compression.ZSTD, name=member.name):
                    pipe.write(chunk)
        except BaseException:
            child.kill()
            raise
        finally:
            child.wait()
            reader.join()
            child.stderr.close()
        if child.returncode != 0:
            text = b"".join(said).decode(errors="replace").strip()[-500:]
            raise RestoreError(f"{member.name} of {manifest.backup_id} cannot be unpacked into {target}: {text}")

    def _checked(self, manifest: Manifest, member: Member) -> Iterator[bytes]:
        """Yield a member's bytes, several ranges being read at a time, and compare their hash at the end."""
        digest = hashlib.sha256()
        for piece in self._ranges(manifest.archive.key, member):
            digest.update(piece)
            self._progress(len(piece))
            yield piece
        if digest.hexdigest() != member.stored_sha256:
            raise MemberHashError(
                f"member {member.name} of {manifest.backup_id} is damaged: its SHA-256 is not the recorded one; use "
                "another base backup"
            )

    def _ranges(self, key: str, member: Member) -> Iterator[bytes]:
        end = member.offset + member.stored_length
        starts = iter(range(member.offset, end, RANGE_BYTES))

        def read(start: int) -> bytes:
            return b"".join(self._store.read(key, start, min(RANGE_BYTES, end - start)))

        with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="range") as pool:
            waiting: list[Future[bytes]] = []
            for start in starts:
                waiting.append(pool.submit(read, start))
                if len(waiting) == IN_FLIGHT:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()


def write_tablespace_map(unpacked: Unpacked, *, user: str | None) -> None:
    """Tell recovery where the tablespaces are now; it makes the links in pg_tblspc from this."""
    lines = [f"{oid} {_escaped(place)}\n" for oid, place in unpacked.tablespaces.items()]
    write_private(unpacked.data / TABLESPACE_MAP, "".join(lines), user=user)


def _escaped(place: Path) -> str:
    return str(place).replace("\\", "\\\\").replace("\n", "\\\n")
