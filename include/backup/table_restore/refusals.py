"""What a server refuses in a restore of tables, in words that help; never with a row's values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from include.backup.errors import RestoreError, RestoreRefusedError, TargetFullError
from include.backup.proof.masking import without_row
from include.backup.restore.target import disk_full

UNCHANGED = "nothing was changed"
# PostgreSQL's class "operator intervention": the session ended, perhaps while it was committing.
ENDED = "57P"


@contextmanager
def refusals_named() -> Iterator[None]:
    """Say what PostgreSQL refused in a merge; the transaction is rolled back by then.

    Raises RestoreRefusedError for tables in use, TargetFullError for a full disk, RestoreError for the rest.
    """
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise RestoreRefusedError(
            f"the tables could not be locked in time, others are at work on them ({said(error)}); "
            f"stop what writes to them and try again; {UNCHANGED}"
        ) from None
    except psycopg.errors.DiskFull as error:
        raise full(error, "the merge") from None
    except psycopg.Error as error:
        if error.sqlstate is None or error.sqlstate.startswith(ENDED):
            raise RestoreError(
                f"the session at the target ended in the merge ({said(error)}): it is there as a whole or not at all; "
                "a new run's preview says which"
            ) from None
        raise RestoreError(f"PostgreSQL refused the merge: {said(error)}; {UNCHANGED}") from None


def full(error: psycopg.Error, what: str) -> TargetFullError:
    """Return what is said when the target's disk was full; all was rolled back or removed."""
    return TargetFullError(f"{disk_full(what, said(error))}; {UNCHANGED}")


def said(error: psycopg.Error) -> str:
    """Return the server's words; details and context are left out, since they hold rows."""
    return without_row(error.diag.message_primary or " ".join(str(error).split()))
