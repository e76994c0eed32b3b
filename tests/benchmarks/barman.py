"""Debian's barman-cloud-backup: a full backup of the source's own files to the benchmark's store."""

from __future__ import annotations

from tests.benchmarks.peer_folder import PeerFolder, peer_program
from tests.benchmarks.rclone import BUCKET
from tests.benchmarks.site import Site

PROGRAM = "barman-cloud-backup"
OPTIONS = ("--gzip", "--jobs", "2", "--immediate-checkpoint")


class Barman:
    """It copies files, so that it runs as the user who runs the server."""

    def __init__(self, site: Site, *, password: str) -> None:
        self._program = peer_program(PROGRAM, package="barman-cli-cloud")
        self._site = site
        self._place = PeerFolder.make(site, "barman")
        self._environment = {
            "PGPASSWORD": password,
            "AWS_ACCESS_KEY_ID": str(site.store.access_key),
            "AWS_SECRET_ACCESS_KEY": str(site.store.secret_key),
            "AWS_DEFAULT_REGION": str(site.store.region),
            "AWS_CA_BUNDLE": str(self._place.authority),
            "HOME": str(self._place.work),
            "TMPDIR": str(self._place.work),
        }

    def backup(self) -> float:
        """Take a full backup; return the seconds of the whole process."""
        source = self._site.source
        argv = (
            self._program,
            *OPTIONS,
            *("--endpoint-url", str(self._site.store.endpoint_url)),
            *("--host", source.host, "--port", str(source.port), "--user", self._site.target.user),
            *("--dbname", "postgres"),
            f"s3://{BUCKET}/barman",
            "bench",
        )
        return self._place.run(*argv, environment=self._environment).seconds
