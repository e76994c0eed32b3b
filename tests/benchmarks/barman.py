"""Debian's barman-cloud-backup: a full backup of the source's own files to the benchmark's store."""

from __future__ import annotations

import shutil
from pathlib import Path

from include.backup.errors import ToolMissingError
from include.backup.postgres.account import PASSABLE, give, runtime_dir, source_user
from include.backup.process import Command, dying_with_parent
from tests.benchmarks.rclone import BUCKET
from tests.benchmarks.site import Site
from tests.benchmarks.watch import watched

PROGRAM = "barman-cloud-backup"
OPTIONS = ("--gzip", "--jobs", "2", "--immediate-checkpoint")


class Barman:
    """It copies files, so that it runs as the user who runs the server."""

    def __init__(self, site: Site, *, password: str) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise ToolMissingError(f"{PROGRAM} is not installed; run apt-get install barman-cli-cloud")
        self._program = program
        self._site = site
        self._user = source_user()
        self._folder = runtime_dir(site.folder / "barman", self._user)
        self._folder.chmod(PASSABLE)
        authority = self._folder / "ca.pem"
        shutil.copy(str(site.store.ca_bundle), authority)
        authority.chmod(0o644)
        work = self._folder / "work"
        work.mkdir()
        give(work, self._user)
        self._environment = {
            "PGPASSWORD": password,
            "AWS_ACCESS_KEY_ID": str(site.store.access_key),
            "AWS_SECRET_ACCESS_KEY": str(site.store.secret_key),
            "AWS_DEFAULT_REGION": str(site.store.region),
            "AWS_CA_BUNDLE": str(authority),
            "HOME": str(work),
            "TMPDIR": str(work),
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
        command = Command(argv=argv, user=self._user)
        folder = Path(self._environment["HOME"])
        return watched(dying_with_parent(command), environment=self._environment, folder=folder).seconds
