"""Errors of child processes."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class CommandError(BackupError):
    """Raised when a child process ends with another exit code than 0."""


class CommandKilledError(CommandError):
    """Raised when a child process was ended by a signal."""


class CommandTimeoutError(CommandError):
    """Raised when a child process was ended because it took too long."""


class ToolMissingError(RetryWorthlessError):
    """Raised when a PostgreSQL tool of the needed version is not installed."""
