"""Runs of the command line that are killed at a chosen moment, and what must be true after each of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml

from include.backup.policy import PROJECT, SHIPPED_POLICY, SourcePolicy, load_policy
from include.backup.wal.chain import Chain
from include.backup.wal.lsn import parse_lsn
from include.backup.wal.stored import read_chain
from tests.support.command_line import command_environment
from tests.support.wal_source import WalSource

RUN_SECONDS = 240.0


class Moment(StrEnum):
    """When a run is killed: the word of its log that says it is there."""

    PREFLIGHT = "preflight: "
    STREAMING = "pg_receivewal --directory"
    RECEIVER = "the receiver alone"
    RECEIVED = "receive: "
    UPLOADING = "while it uploads"
    STORED = "upload: "
    ADVANCED = "advance: "


SEEN: dict[Moment, str] = {
    Moment.STREAMING: "pg_receivewal --directory",
    Moment.RECEIVER: "pg_receivewal --directory",
    Moment.UPLOADING: "receive: ",
}


@dataclass(frozen=True, kw_only=True)
class Killer:
    """Starts runs and kills them."""

    source: WalSource
    environment: dict[str, str]
    chance: random.Random

    def run(self) -> None:
        """Let a run go on to its end."""
        with self._started() as child:
            out, err = child.communicate(timeout=RUN_SECONDS)
        assert child.returncode == 0, out + err

    def kill_at(self, moment: Moment) -> bool:
        """Kill a run; return whether it got as far as that."""
        with self._started() as child:
            reached = self._wait(child, SEEN.get(moment, moment.value))
            if moment in (Moment.UPLOADING, Moment.STREAMING):
                time.sleep(self.chance.random() * 0.3)
            if moment is Moment.RECEIVER:
                reached = self._kill_receiver(child)
                child.communicate(timeout=RUN_SECONDS)
                assert child.returncode != 0 or not reached
            else:
                child.kill()
                child.communicate(timeout=RUN_SECONDS)
        return reached

    def kill_after(self, seconds: float, *, port: int) -> tuple[int, int]:
        """Kill a run that streams for longer; return where its slots were: ``hold`` and ``run``."""
        with self._started(port=port) as child:
            assert self._wait(child, SEEN[Moment.STREAMING]), "the run did not stream"
            time.sleep(seconds)
            assert child.poll() is None, "the run ended before it was to be killed"
            slots = self.slots()
            child.kill()
            child.communicate(timeout=RUN_SECONDS)
        return slots

    def slots(self) -> tuple[int, int]:
        policy = self.source.source.incremental
        assert policy is not None
        return tuple(  # type: ignore[return-value]
            parse_lsn(self.source.one(f"SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{name}'"))
            for name in (policy.hold_slot, policy.run_slot)
        )

    def delete_staging(self) -> None:
        shutil.rmtree(self.source.staging_root)
        self.source.staging_root.mkdir()

    def _kill_receiver(self, child: subprocess.Popen[str]) -> bool:
        """Kill pg_receivewal as soon as it is there; return whether it was."""
        policy = self.source.source.incremental
        assert policy is not None
        needle = f"--slot={policy.run_slot}\0".encode()
        while child.poll() is None:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if needle in entry.read_bytes():
                        os.kill(int(entry.parent.name), signal.SIGKILL)
                        return True
                except (OSError, ProcessLookupError):
                    continue
        return False

    def _wait(self, child: subprocess.Popen[str], needle: str) -> bool:
        assert child.stderr is not None
        return any(needle in line for line in child.stderr)

    @contextmanager
    def _started(self, *, port: int | None = None) -> Iterator[subprocess.Popen[str]]:
        environment = dict(self.environment)
        if port is not None:
            slow = replace(self.source.database, port=port)
            environment.update(command_environment({}, **{f"{self.source.source.name}_db": slow}))
        child = subprocess.Popen(
            [sys.executable, "-m", "include.backup", "wal", self.source.source.name, "--run", "--verbose"],
            env=environment, cwd=PROJECT, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait(RUN_SECONDS)


def policy_with(path: Path, name: str) -> SourcePolicy:
    """Write the shipped policy with one more source in it, and return that."""
    policy = yaml.safe_load(SHIPPED_POLICY.read_text())
    shipped = policy["sources"]["pulse_messages"]
    policy["sources"] = {
        name: {
            "connection": f"{name}_db",
            "store": shipped["store"],
            "incremental": {},
            "tiers": {"daily": {**shipped["tiers"]["daily"]}},
        }
    }
    path.write_text(json.dumps(policy, indent=1))
    return load_policy(path, strict=True).source(name)


def stored_chain(source: WalSource) -> Chain:
    return read_chain(source.context().store, source.keys, size=source.context_segment_size())


def assert_nothing_left_unstored(source: WalSource, base_start: int) -> None:
    """The store is whole from the base backup up to where the source still has its log, whatever was killed."""
    policy = source.source.incremental
    assert policy is not None
    hold = source.one(f"SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{policy.hold_slot}'")
    size = source.context_segment_size()
    reach = stored_chain(source).reach(base_start, timeline=1)
    assert reach.end >= parse_lsn(hold) // size * size or parse_lsn(hold) // size == base_start // size, (
        f"{reach.missing.name} is neither stored nor kept: the slot begins at {hold}"
    )
