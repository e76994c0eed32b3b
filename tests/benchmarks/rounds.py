"""Run every way in turn, several times, and put the figures together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg

from tests.benchmarks.figures import MEBIBYTE, Figures, Series, Target, median_of_ratios, medians
from tests.benchmarks.machine import idle_share, machine_facts, wait_until_quiet
from tests.benchmarks.ours import Chain, Ours, Restored
from tests.benchmarks.rclone import empty_store
from tests.benchmarks.rivals import Rivals
from tests.benchmarks.site import Site, login, recreate_target
from tests.benchmarks.watch import BenchmarkError

MEMORY_LIMIT_MIB = 256
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to do it; ``restores`` says that it needs an empty target, ``empties`` an empty store."""

    key: str
    label: str
    run: Callable[[], float]
    restores: bool = False
    empties: bool = False


@dataclass(slots=True)
class Rounds:
    """One benchmark: what is run, and what came out so far."""

    site: Site
    say: Say
    patience: float
    chains: list[Chain] = field(default_factory=list)
    restored: list[Restored] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, repeat: int) -> Figures:
        """Return the figures of ``repeat`` rounds. Each begins with another way, so that none is always first."""
        ours, rivals = Ours(self.site), Rivals(self.site)
        backups = (
            Way(key="a", label="pg_dump -Fc -Z0 > /dev/null: the bound of pg_dump", run=rivals.extraction),
            Way(key="b", label="the strategy's script: pg_dump, gzip, copy, ls", run=rivals.strategy_backup),
            Way(key="c", label="pg_dump -Fd -j2, recursive copy", run=rivals.directory_backup),
            Way(key="d", label="ours: dump, compress, upload, verify", run=lambda: self._backup(ours), empties=True),
        )
        restores = (
            Way(key="e", label="gunzip | psql, from local disk", run=rivals.strategy_restore, restores=True),
            Way(key="f", label="pg_restore -Fd -j2, from local disk", run=rivals.directory_restore, restores=True),
            Way(key="g", label="ours: restore, from the store", run=lambda: self._restore(ours), restores=True),
        )
        self.say("one extraction that does not count, to warm the caches")
        rivals.extraction()
        for number in range(repeat):
            for way in (*_rotated(backups, number), *_rotated(restores, number)):
                self._run(way, number + 1)
        return self._figures((*backups, *restores))

    def _run(self, way: Way, number: int) -> None:
        if way.restores:
            recreate_target(self.site)
        if way.empties:
            empty_store(self.site.store)
        os.sync()
        before = wait_until_quiet(self.patience)
        seconds = way.run()
        self.idle.append(min(before, idle_share()))
        self.seconds.setdefault(way.key, []).append(seconds)
        self.say(f"round {number} ({way.key}) {way.label}: {seconds:.2f} s")
        if way.restores:
            self._check_restored(way)

    def _backup(self, ours: Ours) -> float:
        self.chains.append(ours.backup())
        return self.chains[-1].seconds

    def _restore(self, ours: Ours) -> float:
        self.restored.append(ours.restore())
        return self.restored[-1].seconds

    def _check_restored(self, way: Way) -> None:
        with psycopg.connect(login(self.site.target)) as connection:
            row = connection.execute("SELECT count(*) FROM public.messages").fetchone()
        if row is None or row[0] != self.site.sample.messages:
            raise BenchmarkError(f"({way.key}) {way.label} restored {row} of {self.site.sample.messages} messages")

    def _figures(self, ways: Sequence[Way]) -> Figures:
        series = tuple(Series(key=way.key, label=way.label, seconds=tuple(self.seconds[way.key])) for way in ways)
        return Figures(
            machine={**machine_facts(self.site), **self._sizes(), "least_idle": min(self.idle)},
            series=series,
            parts={
                "backup steps": medians([chain.steps for chain in self.chains]),
                "backup process": medians([{"whole process": chain.process_seconds} for chain in self.chains]),
                "restore parts": medians([restored.parts for restored in self.restored]),
            },
            targets=targets(self.seconds, self.chains, self.restored),
        )

    def _sizes(self) -> dict[str, int]:
        return {
            "uncompressed_bytes": self.chains[-1].uncompressed_bytes,
            "compressed_bytes": self.chains[-1].compressed_bytes,
        }


def targets(
    seconds: dict[str, list[float]], chains: Sequence[Chain], restored: Sequence[Restored]
) -> tuple[Target, ...]:
    """Return the targets with what was measured."""
    return (
        Target(name="backup (d) : bound (a)", value=median_of_ratios(seconds["d"], seconds["a"]), limit=1.6),
        Target(name="backup (d) : strategy (b)", value=median_of_ratios(seconds["d"], seconds["b"]), limit=0.2),
        Target(name="restore (g) : gunzip | psql (e)", value=median_of_ratios(seconds["g"], seconds["e"]), limit=0.8),
        Target(
            name="memory of a backup",
            value=max(chain.memory for chain in chains) / MEBIBYTE,
            limit=MEMORY_LIMIT_MIB,
            unit=" MiB",
        ),
        Target(
            name="memory of a restore",
            value=max(run.memory for run in restored) / MEBIBYTE,
            limit=MEMORY_LIMIT_MIB,
            unit=" MiB",
        ),
        Target(
            name="staging : compressed size",
            value=max(chain.staging / chain.compressed_bytes for chain in chains),
            limit=1.1,
        ),
    )


def _rotated(ways: Sequence[Way], number: int) -> tuple[Way, ...]:
    first = number % len(ways)
    return (*ways[first:], *ways[:first])
