"""Before and after a restore test: room for its server, and nothing left of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from backup_operators.lifeline import die_with_parent
from backup_operators.step import folder_from, keep_reason, step_log
from include.backup.errors import BackupError, RetryWorthlessError, ScratchError

if TYPE_CHECKING:
    from airflow.sdk import Context

SCRATCH_VARIABLE = "BACKUP_SCRATCH_DIR"


class PrepareScratchOperator(BaseOperator):
    """Make the scratch folder and remove the servers that dead workers left, or skip the proof.

    The server itself lives inside the restore test, so that it dies with that task's worker.

    :param prove: ``True`` or ``False``; ``False`` skips the proof of this run (templated)
    :param lease: how long a restore test may hold a server

    Returns the ids of the servers that were removed.
    """

    template_fields: Sequence[str] = ("prove",)
    ui_color = "#f1f3f4"

    def __init__(self, *, prove: str, lease: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prove = prove
        self.lease = lease

    def execute(self, context: Context) -> dict[str, Any]:
        if self.prove not in ("True", "False"):
            raise AirflowFailException(f"prove is {self.prove!r}; allowed: True, False")
        if self.prove == "False":
            raise AirflowSkipException("this run is not to be proven; the backup is stored, not yet proven")
        return _clear(context, self.lease)


class RemoveScratchOperator(BaseOperator):
    """Remove what a restore test that was killed left behind; there may be nothing.

    :param lease: how long a restore test may hold a server

    Returns the ids of the servers that were removed.
    """

    ui_color = "#f1f3f4"

    def __init__(self, *, lease: timedelta, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lease = lease

    def execute(self, context: Context) -> dict[str, Any]:
        return _clear(context, self.lease)


def _clear(context: Context, lease: timedelta) -> dict[str, Any]:
    """Remove dead servers; a failure leaves its reason for ``notify``."""
    die_with_parent()
    try:
        return _reap(lease)
    except RetryWorthlessError as error:
        keep_reason(context, error, str(error), retry=False)
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except (Exception, AirflowTaskTimeout) as error:
        keep_reason(context, error, str(error) if isinstance(error, BackupError) else "", retry=True)
        raise


def _reap(lease: timedelta) -> dict[str, Any]:
    from include.backup.proof.scratch_lease import reap_scratch

    root = folder_from(SCRATCH_VARIABLE)
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ScratchError(
            f"cannot make the scratch folder {root}: {error.strerror}; make room for it, or set {SCRATCH_VARIABLE} "
            "to another folder"
        ) from error
    removed = reap_scratch(root, older_than_seconds=lease.total_seconds(), now=datetime.now(UTC))
    step_log().info("scratch folder %s is ready; %d dead servers removed", root, len(removed))
    return {"removed": list(removed)}
