"""Debian's pgBackRest: a full backup of the source's own files to the benchmark's store."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from include.backup.errors import ToolMissingError
from include.backup.postgres.account import PASSABLE, give, runtime_dir, source_user
from include.backup.process import Command, dying_with_parent
from tests.benchmarks.rclone import BUCKET
from tests.benchmarks.site import Site
from tests.benchmarks.watch import BenchmarkError, watched

STANZA = "bench"
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
