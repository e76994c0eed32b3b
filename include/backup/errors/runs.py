"""Errors of runs, of Airflow itself, and of telling people."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class RunRefusedError(RetryWorthlessError):
    """Raised when a run is a backfill, or an old run that was cleared and has no backup to look at."""


class AirflowApiError(BackupError):
    """Raised when Airflow's own API does not answer, or refuses the service user."""

    exit_code = 3


class MetadataCleanupError(BackupError):
    """Raised when Airflow could not clean a table of its own database."""


class HealthError(BackupError):
    """Raised when alerts were found and nobody could be told of them."""


class MessageError(BackupError):
    """Raised when people had to be told of something, and nobody was."""
