"""Verification queries on a restored copy: include/sql/checks/common and include/sql/checks/<source>.

Each file holds one SELECT that returns the violations, so that no row means passed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from include.backup.errors import SourceUnreachableError
from include.backup.proof.own_faults import own_fault
from include.backup.proof.record import CheckResult, Difference

CHECKS = Path(__file__).resolve().parents[2] / "sql" / "checks"
SHOWN = 3


def run_checks(
    connection: psycopg.Connection[dict[str, Any]], source: str | None, *, folder: Path = CHECKS
) -> tuple[CheckResult, ...]:
    """Run all queries, read-only, as the session's role; without a source only those that fit any database.

    Raises SourceUnreachableError when the server failed, which is no violation.
    """
    folders = ["common"] if source is None else ["common", source]
    files = [path for name in folders for path in sorted((folder / name).glob("*.sql"))]
    return tuple(_run(connection, path) for path in files)


def failures(results: tuple[CheckResult, ...]) -> tuple[Difference, ...]:
    """Return failed checks as differences."""
    return tuple(
        Difference(what="check", name=result.name, detail=result.detail) for result in results if not result.passed
    )


def _run(connection: psycopg.Connection[dict[str, Any]], path: Path) -> CheckResult:
    name = f"{path.parent.name}/{path.stem}"
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            rows = connection.execute(path.read_bytes()).fetchmany(SHOWN)
    except psycopg.Error as error:
        if own_fault(error):
            said = " ".join(str(error).split())
            raise SourceUnreachableError(
                f"the server failed under the check {name}: {said}; look at its disk, memory and log, and retry"
            ) from error
        return CheckResult(name=name, passed=False, detail=f"the query failed: {' '.join(str(error).split())}")
    if not rows:
        return CheckResult(name=name, passed=True, detail="no violation")
    return CheckResult(name=name, passed=False, detail="; ".join(str(row) for row in rows))
