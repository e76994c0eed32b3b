"""Errors of services beside database and store: the git remote and Supabase's Management API."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class GitError(BackupError):
    """Raised when git or the remote of the schema's history does not do what was asked."""


class GitUnreachableError(GitError):
    """Raised when the host of the remote does not answer."""

    exit_code = 3


class GitDeniedError(GitError, RetryWorthlessError):
    """Raised when the remote refuses the key or the token."""

    exit_code = 3


class GitHostKeyError(GitError, RetryWorthlessError):
    """Raised when the host of the remote is not known, or is another than it was."""

    exit_code = 3


class GitTlsError(GitError, RetryWorthlessError):
    """Raised when the remote's certificate is not trusted."""

    exit_code = 3


class GitRepositoryMissingError(GitError, RetryWorthlessError):
    """Raised when there is no repository under the remote's address."""

    exit_code = 2


class GitPushRejectedError(GitError, RetryWorthlessError):
    """Raised when the remote takes the commit and then refuses it; the commit is kept."""


class GitDivergedError(GitError, RetryWorthlessError):
    """Raised when the remote's branch and the kept commits contradict each other; nothing is overwritten."""

    exit_code = 5


class SupabaseError(BackupError):
    """Raised when Supabase's Management API does not do what was asked."""


class SupabaseUnreachableError(SupabaseError):
    """Raised when the Management API does not answer, answers 5xx, or is not done within the deadline."""

    exit_code = 3


class SupabaseRateLimitError(SupabaseError):
    """Raised when the Management API asks to wait longer than the deadline allows."""

    exit_code = 3


class SupabaseTokenError(SupabaseError, RetryWorthlessError):
    """Raised when the Management API refuses the token, or refuses it this project, or HTTP does not let it be sent."""

    exit_code = 3


class SupabaseTlsError(SupabaseError, RetryWorthlessError):
    """Raised when the Management API's certificate is not trusted."""

    exit_code = 3


class SupabaseProjectMissingError(SupabaseError, RetryWorthlessError):
    """Raised when there is no such project, or no such thing in it."""

    exit_code = 2


class SupabaseRefusedError(SupabaseError, RetryWorthlessError):
    """Raised when the Management API understands a request and refuses it, such as PITR that is not enabled."""

    exit_code = 5


class SupabaseAnswerError(SupabaseError):
    """Raised when the Management API answers with what is not its documented form."""
