"""Base backups beside those of pgBackRest and Barman, to the same store, in one run.

Debian 12's pgBackRest knows PostgreSQL up to 15, so all of them copy a cluster of 15. Each is one process from its
start to its end, zstd 3 (Barman: gzip) with two workers, and none waits for WAL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from include.backup.errors import ToolMissingError
from include.backup.postgres.account import PASSABLE, give, runtime_dir, source_user
from include.backup.process import Command, dying_with_parent
from tests.benchmarks.figures import MEBIBYTE, Series, Target, median_of_ratios
from tests.benchmarks.machine import idle_share, wait_until_quiet
from tests.benchmarks.ours import Base, Ours
from tests.benchmarks.rclone import BUCKET
from tests.benchmarks.site import Site
from tests.benchmarks.watch import BenchmarkError, watched

MAJOR = 15
STANZA = "bench"
MEMORY_LIMIT_MIB = 256
CONFIGURATION = """\
[global]
repo1-type=s3
repo1-path=/pgbackrest
repo1-s3-bucket={bucket}
repo1-s3-endpoint={host}
repo1-storage-port={port}
repo1-storage-ca-file={authority}
repo1-s3-region={region}
repo1-s3-uri-style=path
repo1-retention-full=9
compress-type=zst
compress-level=3
process-max=2
start-fast=y
archive-check=n
log-level-file=off
log-level-console=warn
log-path={folder}
lock-path={folder}
spool-path={folder}

[bench]
pg1-path={data}
pg1-socket-path={socket}
pg1-port={pg_port}
pg1-user={user}
pg1-database=postgres
"""


class Peers:
    """One comparison: what came out so far."""

    def __init__(self, site: Site, *, superuser_password: str, say: Callable[[str], None], patience: float) -> None:
        self._site = site
        self._say = say
        self._patience = patience
        self._ours = Ours(site)
        self._pgbackrest = PgBackRest(site, password=superuser_password)
        self._bases: list[Base] = []
        self._seconds: dict[str, list[float]] = {"ours": [], "pgBackRest": []}
        self._idle: list[float] = []

    def measure(self, repeat: int) -> Iterator[str]:
        """Run both in turn, and yield the figures as lines; each round begins with the other one."""
        ways = [("ours", self._base), ("pgBackRest", self._pgbackrest.backup)]
        for number in range(repeat):
            for name, run in ways if number % 2 == 0 else reversed(ways):
                os.sync()
                before = wait_until_quiet(self._patience)
                seconds = run()
                self._idle.append(min(before, idle_share()))
                self._seconds[name].append(seconds)
                self._say(f"round {number + 1} {name}: {seconds:.2f} s")
        yield from self._lines()

    def targets(self) -> tuple[Target, ...]:
        """Return the targets with what was measured."""
        ratio = median_of_ratios(self._seconds["ours"], self._seconds["pgBackRest"])
        memory = max(base.memory for base in self._bases) / MEBIBYTE
        return (
            Target(name="base backup : pgBackRest full", value=ratio, limit=0.6),
            Target(name="memory of a base backup", value=memory, limit=MEMORY_LIMIT_MIB, unit=" MiB"),
        )

    def _base(self) -> float:
        self._bases.append(self._ours.base_backup())
        return self._bases[-1].seconds

    def _lines(self) -> Iterator[str]:
        for name, seconds in self._seconds.items():
            series = Series(key=name, label=name, seconds=tuple(seconds))
            least, most = series.spread
            yield f"{name}: median {series.median:.2f} s ({least:.2f} - {most:.2f})"
        last = self._bases[-1]
        parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in last.steps.items())
        yield f"ours, last: {parts}; {last.stored_bytes} bytes stored; least idle {min(self._idle):.0%}"
        for target in self.targets():
            yield "  ".join(target.line())


class PgBackRest:
    """Debian's pgBackRest on the source's own files, as the user who runs the server."""

    def __init__(self, site: Site, *, password: str) -> None:
        self._site = site
        program = shutil.which("pgbackrest")
        if program is None:
            raise ToolMissingError("pgbackrest is not installed; run apt-get install pgbackrest, or leave PEERS out")
        self._program = program
        self._user = source_user()
        self._folder = runtime_dir(site.folder / "pgbackrest", self._user)
        self._folder.chmod(PASSABLE)
        self._environment = {
            "PGPASSWORD": password,
            "PGBACKREST_REPO1_S3_KEY": str(site.store.access_key),
            "PGBACKREST_REPO1_S3_KEY_SECRET": str(site.store.secret_key),
        }
        self._configure()
        self._run("stanza-create")

    def backup(self) -> float:
        """Take a full backup; return the seconds of the whole process."""
        return self._run("backup", "--type=full")

    def _configure(self) -> None:
        work = self._folder / "work"
        work.mkdir()
        give(work, self._user)
        authority = self._folder / "ca.pem"
        shutil.copy(str(self._site.store.ca_bundle), authority)
        authority.chmod(0o644)
        endpoint = urlsplit(str(self._site.store.endpoint_url))
        text = CONFIGURATION.format(
            bucket=BUCKET,
            host=endpoint.hostname,
            port=endpoint.port,
            authority=authority,
            region=self._site.store.region,
            folder=work,
            data=Path(self._site.source.host).parent / "data",
            socket=self._site.source.host,
            pg_port=self._site.source.port,
            user=self._site.target.user,
        )
        (self._folder / "pgbackrest.conf").write_text(text)

    def _run(self, *arguments: str) -> float:
        argv = (
            self._program,
            f"--config={self._folder / 'pgbackrest.conf'}",
            f"--stanza={STANZA}",
            *arguments,
        )
        command = Command(argv=argv, user=self._user)
        done = watched(dying_with_parent(command), environment=self._environment, folder=self._folder / "work")
        if "ERROR" in done.output:
            raise BenchmarkError(f"pgbackrest {arguments[0]}: {done.output[-1000:]}")
        return done.seconds
