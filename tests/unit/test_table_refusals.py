"""What a person is told when PostgreSQL refuses a merge: never that nothing was changed where nobody can know."""

from __future__ import annotations

import psycopg
import pytest

from include.backup.errors import RestoreError, RestoreRefusedError, TargetFullError
from include.backup.table_restore.refusals import refusals_named


@pytest.mark.parametrize(
    ("error", "kind", "words", "unchanged"),
    [
        (psycopg.errors.LockNotAvailable("canceling"), RestoreRefusedError, "others are at work on them", True),
        (psycopg.errors.DiskFull("No space left on device"), TargetFullError, "free space there", True),
        (psycopg.errors.ForeignKeyViolation("violates"), RestoreError, "refused the merge: violates", True),
        (psycopg.errors.AdminShutdown("terminating"), RestoreError, "as a whole or not at all", False),
        (psycopg.OperationalError("the connection is lost"), RestoreError, "as a whole or not at all", False),
    ],
)
def test_a_merge_is_called_undone_only_when_it_surely_is(
    error: psycopg.Error, kind: type[Exception], words: str, unchanged: bool
) -> None:
    with pytest.raises(kind, match=words) as told, refusals_named():
        raise error
    assert ("nothing was changed" in str(told.value)) is unchanged
