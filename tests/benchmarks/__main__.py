"""``python -m tests.benchmarks``: measure backup and restore beside the usual ways; docs/benchmarks.md explains."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from include.backup.cli.output import columns
from include.backup.errors import BackupError
from include.backup.restore.progress import size_text
from tests.benchmarks.figures import Figures
from tests.benchmarks.machine import QUIET
from tests.benchmarks.peers import MAJOR, Peers
from tests.benchmarks.rounds import Rounds
from tests.benchmarks.site import open_site
from tests.benchmarks.watch import BenchmarkError

DEFAULT_MB = 1000
MISSED = 1
FAILED = 2


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return 0 when every target is met, 1 when one is missed, 2 when it cannot be measured."""
    options = _parser().parse_args(arguments)
    if options.peers:
        return _peers(options)
    try:
        _say(f"making servers and a sample of {options.size_mb} MB below {options.folder}")
        with open_site(size_mb=options.size_mb, base=options.folder) as site:
            _say(f"{site.sample.database_bytes / 1e6:.0f} MB, {site.sample.rows} rows")
            figures = Rounds(site=site, say=_say, patience=options.patience).measure(options.repeat)
    except (BackupError, BenchmarkError) as error:
        _say(f"error: {error}")
        return FAILED
    if options.json:
        print(json.dumps(figures.to_dict(), indent=1))
    else:
        print("\n".join(report(figures)))
    return 0 if figures.passed else MISSED


def _peers(options: argparse.Namespace) -> int:
    """Compare base backups with those of other programs; return 0, 1 or 2 as ``main`` does."""
    try:
        _say(f"making a server of PostgreSQL {MAJOR} and a sample of {options.size_mb} MB below {options.folder}")
        with open_site(size_mb=options.size_mb, base=options.folder, major=MAJOR) as site:
            password = str(site.target.password)
            peers = Peers(site, superuser_password=password, say=_say, patience=options.patience)
            print("\n".join(peers.measure(options.repeat)))
            return 0 if all(target.passed for target in peers.targets()) else MISSED
    except (BackupError, BenchmarkError) as error:
        _say(f"error: {error}")
        return FAILED


def report(figures: Figures) -> Iterator[str]:
    """Yield the figures as tables."""
    machine = figures.machine
    bound = figures.series[0].median
    yield ""
    yield (
        f"{size_text(machine['database_bytes'])} database, {machine['messages_share']:.0%} in one table; "
        f"{size_text(machine['uncompressed_bytes'])} dumped, {size_text(machine['compressed_bytes'])} stored"
    )
    yield (
        f"{machine['processors']} x {machine['processor']}, PostgreSQL {machine['postgresql']} (fsync off), "
        f"{machine['rclone']} over TLS, Python {machine['python']}"
    )
    if machine["least_idle"] < QUIET:
        yield f"the machine was busy with other work: {machine['least_idle']:.0%} idle beside one of the runs"
    yield ""
    rows = [
        (f"({item.key}) {item.label}", f"{item.median:.2f}", _span(item.spread), f"{item.median / bound:.2f}")
        for item in figures.series
    ]
    yield from columns(("way", "median s", "least - most", ": bound"), rows)
    for name, parts in figures.parts.items():
        yield ""
        yield f"{name}: " + ", ".join(f"{part} {seconds:.2f} s" for part, seconds in parts.items())
    yield ""
    yield from columns(("target", "measured", "limit", ""), [target.line() for target in figures.targets])


def _span(spread: tuple[float, float]) -> str:
    return f"{spread[0]:.2f} - {spread[1]:.2f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Measure backup and restore beside the usual ways, on a sample database and servers of its own.",
    )
    size = int(os.environ.get("BENCH_MB", DEFAULT_MB))
    parser.add_argument("--size-mb", type=int, default=size, help="size of the sample (default: BENCH_MB or 1000)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="wait so long at most, before each way, for other work on the machine to end (default: 60)",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        default=bool(os.environ.get("PEERS")),
        help="compare base backups with pgBackRest's instead (default: if PEERS is set)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where it all lies (default: /var/tmp)")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
