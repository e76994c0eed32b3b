"""Errors of the write-ahead log."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class WalError(BackupError):
    """Raised when the write-ahead log cannot be read from the source, or not be stored."""


class WalNameError(WalError, RetryWorthlessError):
    """Raised when a name, position or history of the write-ahead log is none."""

    exit_code = 4


class WalRefusedError(WalError, RetryWorthlessError):
    """Raised when the source does not let this role stream its log, or its settings do not allow it."""


class WalBrokenError(WalError, RetryWorthlessError):
    """Raised when a run found the chain of stored WAL broken: a new base backup is needed."""

    exit_code = 4


class WalDiffersError(WalError, RetryWorthlessError):
    """Raised when a segment is stored already with other content, or a received one is not what its name says."""

    exit_code = 4


class WalTimeoutError(WalError):
    """Raised when the source did not send its log within the policy's time."""
