"""Base backups beside those of pgBackRest and Barman, to the same store, in one run.

Debian 12's pgBackRest knows PostgreSQL up to 15, so all of them copy a cluster of 15. Each is one process from its
start to its end, zstd 3 (Barman: gzip) with two workers, and none waits for WAL. Only ours reads back what it stored,
since this store keeps no SHA-256; what is compared is the time until the backup is in the store, and both are told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from tests.benchmarks.barman import Barman
from tests.benchmarks.figures import MEBIBYTE, Series, Target, median_of_ratios
from tests.benchmarks.machine import idle_share, wait_until_quiet
from tests.benchmarks.ours import Base, Ours
from tests.benchmarks.pgbackrest import PgBackRest
from tests.benchmarks.rclone import empty_store
from tests.benchmarks.site import Site

MAJOR = 15
OURS, PGBACKREST, BARMAN = "ours, read back", "pgBackRest", "Barman"
LIMITS = {PGBACKREST: 0.6, BARMAN: 0.5}
MEMORY_LIMIT_MIB = 256


class Peers:
    """One comparison: what came out so far."""

    def __init__(self, site: Site, *, superuser_password: str, say: Callable[[str], None], patience: float) -> None:
        self._site = site
        self._say = say
        self._patience = patience
        self._ours = Ours(site)
        self._ways = {
            OURS: self._base,
            PGBACKREST: PgBackRest(site, password=superuser_password).backup,
            BARMAN: Barman(site, password=superuser_password).backup,
        }
        self._bases: list[Base] = []
        self._seconds: dict[str, list[float]] = {name: [] for name in self._ways}
        self._idle: list[float] = []

    def measure(self, repeat: int) -> Iterator[str]:
        """Run all in turn, and yield the figures as lines; each round begins with another one."""
        names = list(self._ways)
        for number in range(repeat):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                empty_store(self._site.store)
                os.sync()
                before = wait_until_quiet(self._patience)
                seconds = self._ways[name]()
                self._idle.append(min(before, idle_share()))
                self._seconds[name].append(seconds)
                self._say(f"round {number + 1} {name}: {seconds:.2f} s")
        yield from self._lines()

    def targets(self) -> tuple[Target, ...]:
        """Return the targets with what was measured."""
        stored = [base.stored_seconds for base in self._bases]
        memory = max(base.memory for base in self._bases) / MEBIBYTE
        return (
            *(
                Target(name=f"base backup in the store : {name}", value=self._ratio(stored, name), limit=limit)
                for name, limit in LIMITS.items()
            ),
            Target(name="memory of a base backup", value=memory, limit=MEMORY_LIMIT_MIB, unit=" MiB"),
        )

    def _ratio(self, ours: list[float], name: str) -> float:
        return median_of_ratios(ours, self._seconds[name])

    def _base(self) -> float:
        self._bases.append(self._ours.base_backup())
        return self._bases[-1].seconds

    def _lines(self) -> Iterator[str]:
        for name, seconds in self._seconds.items():
            series = Series(key=name, label=name, seconds=tuple(seconds))
            least, most = series.spread
            yield f"{name}: median {series.median:.2f} s ({least:.2f} - {most:.2f})"
        whole = ", ".join(f"{self._ratio(self._seconds[OURS], name):.2f} x {name}" for name in LIMITS)
        yield f"ours with reading back: {whole}"
        last = self._bases[-1]
        parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in last.steps.items())
        yield f"ours, last: {parts}; {last.stored_bytes} bytes stored; least idle {min(self._idle):.0%}"
        for target in self.targets():
            yield "  ".join(target.line())
