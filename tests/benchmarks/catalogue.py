"""``python -m tests.benchmarks.catalogue 1000 20000``: health, a cleanup's plan and an audit over real HTTP.

Fills the embedded S3 server with backups, their proofs and segments of a log, and then does each of the three as its
DAG does. What it takes is printed with the requests that were made: how they grow with the catalogue says what a larger
one, on S3 itself, would take.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.backup.audit.html import page
from include.backup.cli.output import columns
from include.backup.store import ObjectStore
from include.backup.wal.segments import Segment
from include.local.s3 import BUCKET
from include.local.stack import Stack
from tests.support.at_scale import audited, looked_at, planned, with_log
from tests.support.big_store import KEYS
from tests.support.store_owner import owner_of

PORT_BASE = 26400
WRITERS = 16
OPERATIONS = ("ListObjectsV2", "GetObject", "HeadObject")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one of the three took: seconds of the clock and of our processor, and requests by operation."""

    name: str
    seconds: float
    processor_seconds: float
    requests: Counter[str]


def main(arguments: Sequence[str]) -> int:
    """Fill a store and measure; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.catalogue", description=__doc__)
    parser.add_argument("backups", type=int, nargs="?", default=1000)
    parser.add_argument("segments", type=int, nargs="?", default=20_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="catalogue-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - PostgreSQL runs as another user when this runs as root
        stack = Stack(PORT_BASE, Path(folder) / "stack")
        try:
            _say("starting the store")
            stack.up(sample_mb=None, airflow=False)
            started = time.monotonic()
            count = fill(stack, backups=options.backups, segments=options.segments)
            _say(f"{count} objects stored in {time.monotonic() - started:.0f} s")
            store = ObjectStore.connect(stack.store_connection(), bucket=BUCKET)
            taken = [
                measure("health", store, lambda: looked_at(store)),
                measure("cleanup plan", store, lambda: planned(store)),
                measure("audit with its page", store, lambda: page(audited(store))),
            ]
        finally:
            stack.remove()
    print("\n".join(report(taken, objects=count, load=os.getloadavg()[0])))
    return 0


def fill(stack: Stack, *, backups: int, segments: int) -> int:
    """Store the objects of so many backups and segments of the log; return how many there are."""
    s3: Any = owner_of(stack)
    objects = with_log(backups, segments).objects
    log = (KEYS.segment(Segment(timeline=1, number=number)) for number in range(1, segments + 1))

    def put(item: tuple[str, bytes]) -> None:
        s3.put_object(Bucket=BUCKET, Key=item[0], Body=item[1])

    with ThreadPoolExecutor(WRITERS) as pool:
        everything: Iterable[tuple[str, bytes]] = [*objects.items(), *((key, b"") for key in log)]
        return sum(1 for _ in pool.map(put, everything))


def measure(name: str, store: ObjectStore, work: Callable[[], object]) -> Taken:
    """Do one of the three, and count what it asks the store."""
    requests: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        requests[model.name] += 1

    store.s3.meta.events.register("before-call.s3", count)
    clock, processor = time.monotonic(), time.process_time()
    work()
    taken = Taken(
        name=name,
        seconds=time.monotonic() - clock,
        processor_seconds=time.process_time() - processor,
        requests=requests,
    )
    store.s3.meta.events.unregister("before-call.s3", count)
    _say(f"{name}: {taken.seconds:.1f} s")
    return taken


def report(taken: Iterable[Taken], *, objects: int, load: float) -> Iterator[str]:
    """Yield the figures as a table."""
    yield f"{objects} objects in the embedded S3 server, over TLS; load average {load:.1f}"
    rows = [
        (
            one.name,
            f"{one.seconds:.1f}",
            f"{one.processor_seconds:.1f}",
            *(str(one.requests[name]) for name in OPERATIONS),
            str(sum(one.requests.values()) - sum(one.requests[name] for name in OPERATIONS)),
        )
        for one in taken
    ]
    yield from columns(("what", "seconds", "ours", "lists", "reads", "heads", "others"), rows)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
