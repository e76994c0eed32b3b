"""What the programs that we are compared with need: a folder of their own, and the store's authority in it.

They copy the server's files, so that they run as the user who runs the server.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.backup.errors import ToolMissingError
from include.backup.postgres.account import PASSABLE, give, runtime_dir, source_user
from include.backup.process import Command, dying_with_parent
from tests.benchmarks.site import Site
from tests.benchmarks.watch import Watched, watched


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFolder:
    """``folder`` can be read by the server's user, ``work`` below it belongs to that user."""

    folder: Path
    work: Path
    authority: Path
    user: str | None

    @classmethod
    def make(cls, site: Site, name: str) -> PeerFolder:
        """Make it, with a copy of the store's authority that the user can read."""
        user = source_user()
        folder = runtime_dir(site.folder / name, user)
        folder.chmod(PASSABLE)
        authority = folder / "ca.pem"
        shutil.copy(str(site.store.ca_bundle), authority)
        authority.chmod(0o644)
        work = folder / "work"
        work.mkdir()
        give(work, user)
        return cls(folder=folder, work=work, authority=authority, user=user)

    def run(self, *argv: str, environment: Mapping[str, str]) -> Watched:
        """Run a program to its end as that user; raises BenchmarkError with its last words."""
        command = Command(argv=argv, user=self.user)
        return watched(dying_with_parent(command), environment=environment, folder=self.work)


def peer_program(name: str, *, package: str) -> str:
    """Return the path of a program; raises ToolMissingError with the Debian package that has it."""
    program = shutil.which(name)
    if program is None:
        raise ToolMissingError(f"{name} is not installed; run apt-get install {package}, or leave PEERS out")
    return program
