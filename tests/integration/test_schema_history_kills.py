"""A schema backup that is killed, and tried again: one commit in the remote, whenever the kill came."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.policy import PROJECT
from include.backup.process import minimal_environment
from tests.support.git_servers import git, make_remote
from tests.support.proof_source import Site

pytest_plugins = ["tests.support.proof_fixtures"]

DATABASE = "history_kills"
SECONDS = 120.0


@dataclass(kw_only=True)
class Killable:
    """A remote and a local repository, and backups in processes of their own."""

    database: DatabaseConnection
    remote: Path
    staging: Path
    site: Site

    def start(self, run_id: str, at: int = 0, where: str = "never") -> tuple[int, str]:
        """Run one backup; return its exit code and what it printed."""
        config = {
            "database": {
                "host": self.database.host,
                "port": self.database.port,
                "dbname": self.database.dbname,
                "user": self.database.user,
                "password": str(self.database.password),
                "sslmode": self.database.sslmode,
                "sslrootcert": self.database.sslrootcert,
            },
            "url": f"file://{self.remote}",
            "staging": str(self.staging),
            "run_id": run_id,
        }
        done = subprocess.run(
            (sys.executable, "-m", "tests.support.schema_run", str(at), where),
            input=json.dumps(config),
            env=minimal_environment({"PYTHONPATH": str(PROJECT)}),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout if done.returncode in (0, -signal.SIGKILL) else done.stderr

    def finish(self, run_id: str) -> dict[str, Any]:
        code, text = self.start(run_id)
        assert code == 0, text
        report: dict[str, Any] = json.loads(text)
        return report

    def change(self, number: int) -> None:
        with self.site.session(DATABASE) as session:
            session.execute(f"CREATE TABLE public.t{number} (id int)".encode())

    def commits(self) -> list[str]:
        return git(self.remote, "log", "--format=%s", "main").splitlines()


@pytest.fixture
def killable(site: Site, tmp_path: Path) -> Iterator[Killable]:
    with site.database(DATABASE, "CREATE TABLE public.users (id int)") as database:
        yield Killable(
            database=replace(database),
            remote=make_remote(tmp_path / "remote.git"),
            staging=tmp_path / "staging",
            site=site,
        )


@pytest.mark.long
def test_killed_before_after_and_within_what_changes_something(killable: Killable) -> None:
    """The last commands are those that write: hash, index, tree, commit, ref, push, ref."""
    killable.finish("first")
    killable.change(0)
    commands = killable.finish("counted")["commands"]
    points = [(number, where) for number in range(commands - 10, commands + 1, 3) for where in ("before", "after")]
    _kill_at(killable, [*points, (commands - 8, "inside"), (commands - 7, "inside")])


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_at_every_command(killable: Killable) -> None:
    killable.finish("first")
    killable.change(0)
    commands = killable.finish("counted")["commands"]
    assert commands > 20
    _kill_at(
        killable, [(number, where) for number in range(1, commands + 1) for where in ("before", "inside", "after")]
    )


def _kill_at(killable: Killable, points: list[tuple[int, str]]) -> None:
    for count, (at, where) in enumerate(points, 1):
        killable.change(count)
        run_id = f"run {count}"
        code, _ = killable.start(run_id, at, where)
        assert code == -signal.SIGKILL, (at, where)
        report = killable.finish(run_id)
        assert report["commit"] == report["head"] == git(killable.remote, "rev-parse", "main").strip(), (at, where)
        assert (report["added"], report["removed"], report["changed"]) == (1, 0, 0), (at, where)
        subjects = killable.commits()
        assert len(subjects) == count + 2, (at, where, subjects)
        assert subjects[0] == f"pulse_messages: TABLE public.t{count} added"
    left = [path.name for path in killable.staging.rglob("work-*")]
    assert left == []
    git(killable.remote, "fsck", "--strict")


def test_killed_while_the_remote_thinks_about_a_push(killable: Killable) -> None:
    """The remote's hook goes on after the kill and lets the commit in, or does not live to do so."""
    killable.finish("first")
    killable.change(1)
    commands = killable.finish("counted")["commands"]
    hook = killable.remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nsleep 0.3\n")
    hook.chmod(0o755)
    for number in range(commands - 2, commands + 1):
        killable.change(number)
        assert killable.start(f"run {number}", number, "inside")[0] == -signal.SIGKILL
        report = killable.finish(f"run {number}")
        assert (report["added"], report["commit"]) == (1, git(killable.remote, "rev-parse", "main").strip())
    assert len(killable.commits()) == 2 + 3
