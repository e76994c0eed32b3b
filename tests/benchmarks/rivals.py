"""How it is done without this project: the bound of pg_dump itself, the strategy's scripts, the directory format."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from include.backup.connections import DatabaseConnection
from include.backup.policy import PROJECT
from include.backup.postgres.commands import pg_restore_command
from include.backup.postgres.session import connection_string
from tests.benchmarks import transfer
from tests.benchmarks.site import Site
from tests.benchmarks.watch import BenchmarkError

JOBS = 2
PLAIN = "pulse_messages_full.sql"
# The strategy's own lines; TRANSFER stands for `aws s3 cp` and `aws s3 ls`.
STRATEGY_BACKUP = f"""
pg_dump "$DATABASE_URL" > {PLAIN}
gzip {PLAIN}
$TRANSFER put full/{PLAIN}.gz {PLAIN}.gz
$TRANSFER ls full/{PLAIN}.gz
"""
DIRECTORY_BACKUP = f"""
pg_dump "$DATABASE_URL" -Fd -j{JOBS} -f dump
$TRANSFER put directory dump
"""
EXTRACTION = 'pg_dump "$DATABASE_URL" -Fc -Z0 > /dev/null'
GUNZIP_PSQL = f'gunzip -c {PLAIN}.gz | psql -X -q -v ON_ERROR_STOP=1 "$DATABASE_URL" > /dev/null'


class Rivals:
    """Each method runs one way once and returns its seconds. What a backup leaves, the restores read."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def extraction(self) -> float:
        """Read everything with pg_dump and throw it away."""
        return self._script(EXTRACTION, self._site.source, self._site.work("extraction"))

    def strategy_backup(self) -> float:
        """Run the strategy's full backup script."""
        return self._script(STRATEGY_BACKUP, self._site.source, self._site.work("strategy"))

    def directory_backup(self) -> float:
        """Dump into the directory format, which pg_dump compresses with gzip, and copy all files."""
        return self._script(DIRECTORY_BACKUP, self._site.source, self._site.work("directory"))

    def strategy_restore(self) -> float:
        """Unpack the strategy's file from the local disk into psql."""
        return self._script(GUNZIP_PSQL, self._site.target, self._site.folder / "strategy")

    def directory_restore(self) -> float:
        """Restore the directory format from the local disk."""
        command = pg_restore_command(
            self._site.tools, self._site.target, dump=self._site.folder / "directory" / "dump", jobs=JOBS
        )
        started = time.monotonic()
        subprocess.run(command.argv, env={**os.environ, **command.environment}, check=True)
        return time.monotonic() - started

    def _script(self, script: str, database: DatabaseConnection, folder: Path) -> float:
        started = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env={**os.environ, **self._environment(database)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise BenchmarkError(f"{script.strip()}\nended with {done.returncode}: {done.stderr[-2000:]}")
        return seconds

    def _environment(self, database: DatabaseConnection) -> Mapping[str, str]:
        return {
            **database.environment(),
            **transfer.environment(self._site.store),
            "PATH": f"{self._site.tools.bin_dir}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "DATABASE_URL": connection_string(database),
            "TRANSFER": f"{sys.executable} -m tests.benchmarks.transfer",
        }
