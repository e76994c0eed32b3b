"""Errors of the embedded stack."""

from __future__ import annotations

from include.backup.errors import BackupError


class StackError(BackupError):
    """Raised when a part of the embedded stack cannot be started, stopped or asked."""


class PortTakenError(StackError):
    """Raised when another process holds a port that the stack needs."""


class ServiceFailedError(StackError):
    """Raised when a service ends, or does not become healthy, after it was started."""


class StackBusyError(StackError):
    """Raised when another command is starting or stopping the same stack."""


class StackDownError(StackError):
    """Raised when something is asked of a stack that does not run."""
