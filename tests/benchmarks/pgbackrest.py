"""Debian's pgBackRest: a full backup of the source's own files to the benchmark's store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.peer_folder import PeerFolder, peer_program
from tests.benchmarks.rclone import BUCKET
from tests.benchmarks.site import Site
from tests.benchmarks.watch import BenchmarkError

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
        self._program = peer_program("pgbackrest", package="pgbackrest")
        self._place = PeerFolder.make(site, "pgbackrest")
        self._settings = self._place.folder / "pgbackrest.conf"
        self._settings.write_text(_settings(site, self._place))
        self._environment = {
            "PGPASSWORD": password,
            "PGBACKREST_REPO1_S3_KEY": str(site.store.access_key),
            "PGBACKREST_REPO1_S3_KEY_SECRET": str(site.store.secret_key),
        }

    def backup(self) -> float:
        """Take a full backup into an empty store; return the seconds of the whole process."""
        self._run("stanza-create")
        return self._run("backup", "--type=full")

    def _run(self, *arguments: str) -> float:
        options = (f"--config={self._settings}", f"--stanza={STANZA}")
        done = self._place.run(self._program, *options, *arguments, environment=self._environment)
        if "ERROR" in done.output:
            raise BenchmarkError(f"pgbackrest {arguments[0]}: {done.output[-1000:]}")
        return done.seconds


def _settings(site: Site, place: PeerFolder) -> str:
    endpoint = urlsplit(str(site.store.endpoint_url))
    return CONFIGURATION.format(
        bucket=BUCKET,
        host=endpoint.hostname,
        port=endpoint.port,
        authority=place.authority,
        region=site.store.region,
        folder=place.work,
        data=Path(site.source.host).parent / "data",
        socket=site.source.host,
        pg_port=site.source.port,
        user=site.target.user,
    )
