"""Command line: `python -m include.local.sample`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import psycopg

from include.local.sample.amounts import DEFAULT_SEED
from include.local.sample.loader import SampleError, load_sample, replace_database


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the sample database as the arguments say; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        named = psycopg.conninfo.conninfo_to_dict(options.dsn).get("dbname")
        database = named or os.environ.get("PGDATABASE") or "pulse_messages"
        conninfo = psycopg.conninfo.make_conninfo(options.dsn, dbname=database)
        if options.replace:
            replace_database(conninfo)
        summary = load_sample(
            conninfo,
            size_mb=options.size_mb,
            seed=options.seed,
            backup_password=os.environ.get("SAMPLE_BACKUP_PASSWORD"),
            on_progress=None if options.quiet else lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (SampleError, psycopg.Error) as error:
        print(f"sample: {str(error).strip()}", file=sys.stderr)
        return 1
    done = f"loaded in {summary.seconds:.1f} s" if summary.seconds else "there already"
    print(
        f"{summary.database}: {done}; {summary.database_bytes / 1e6:,.0f} MB, {len(summary.tables)} tables, "
        f"{summary.rows:,} rows, {summary.messages:,} messages ({summary.messages_bytes / summary.database_bytes:.0%} "
        f"of the bytes), {summary.large_objects} large objects"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m include.local.sample",
        description="Load the sample database Pulse Messages into an empty database, as a superuser.",
        epilog="SAMPLE_BACKUP_PASSWORD, if set, becomes the password of the role pulse_backup.",
    )
    parser.add_argument("--dsn", default="", help="connection string; what it leaves out comes from PGHOST, PGPORT ...")
    parser.add_argument("--size-mb", type=_size, default=100, help="size of the database in megabytes (default: 100)")
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, help=f"same seed, same rows (default: {DEFAULT_SEED})"
    )
    parser.add_argument("--replace", action="store_true", help="drop the database first, with all it holds")
    parser.add_argument("--quiet", action="store_true", help="print no progress")
    return parser


def _size(text: str) -> int:
    size = int(text)
    if not 1 <= size <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{size} is not between 1 and 1000000")
    return size


if __name__ == "__main__":
    raise SystemExit(main())
