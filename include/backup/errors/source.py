"""Errors of the source database."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class SourceError(BackupError):
    """Raised when the source database cannot be backed up."""


class SourceUnreachableError(SourceError):
    """Raised when no connection to the source can be made."""

    exit_code = 3


class SourceLoginError(SourceError, RetryWorthlessError):
    """Raised when the source refuses user, password or database name."""

    exit_code = 3


class SourceTlsError(SourceError, RetryWorthlessError):
    """Raised when the source's certificate is not trusted, expired, or TLS is refused."""

    exit_code = 3


class ClientTooOldError(SourceError, RetryWorthlessError):
    """Raised when the installed pg_dump is older than the server."""


class RoleCannotReadError(SourceError, RetryWorthlessError):
    """Raised when the backup role cannot read everything, so that the dump would be partial."""


class TornReferenceError(SourceError, RetryWorthlessError):
    """Raised when what the policy keeps cannot be made without what it leaves out, so that no backup would restore."""


class PoolerError(SourceError, RetryWorthlessError):
    """Raised when the connection goes through a pooler that does not keep a session."""


class SourceBusyError(SourceError):
    """Raised when another backup of the same source is running."""


class SourceLockedError(SourceError):
    """Raised when pg_dump could not lock every table in time."""


class TableRewrittenError(SourceError):
    """Raised when a table was truncated or rewritten while the dump took its snapshot."""


class ReplicationRefusedError(SourceError, RetryWorthlessError):
    """Raised when the source does not allow physical replication, so that its files and log cannot be copied."""


class CriticalTableMissingError(SourceError, RetryWorthlessError):
    """Raised when a table that the policy calls critical does not exist under that name."""

    exit_code = 2
