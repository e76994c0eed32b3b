"""The two kinds of all errors: those that another try may mend, and those that it cannot."""

from __future__ import annotations


class BackupError(Exception):
    """Root of everything that the core raises on purpose."""

    exit_code = 1


class RetryWorthlessError(BackupError):
    """Root of what stays wrong until a person changes something; a retry would only lose time."""
