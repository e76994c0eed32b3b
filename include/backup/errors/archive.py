"""Errors of staging and of archives."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class StagingError(BackupError):
    """Raised when the staging folder is not in the state that a step needs."""


class StagingFullError(StagingError):
    """Raised when the staging disk has no room."""


class StagingMissingError(StagingError, RetryWorthlessError):
    """Raised when an earlier step's files are no longer there."""


class StagingBusyError(StagingError):
    """Raised when another process works on the same backup."""


class ArchiveError(BackupError):
    """Raised when an archive does not hold what its manifest says."""

    exit_code = 4


class TruncatedMemberError(ArchiveError):
    """Raised when a member ends before its end mark, its frame or its recorded length."""


class MemberHashError(ArchiveError):
    """Raised when a member's bytes differ from what the manifest recorded."""


class MemberMissingError(ArchiveError):
    """Raised when a member that the manifest or the table of contents names is not there."""


class TocError(ArchiveError):
    """Raised when toc.dat cannot be read, or does not fit the data members."""


class FormatVersionError(ArchiveError, RetryWorthlessError):
    """Raised when a manifest or a proof was written by a version that this one does not know."""


class ManifestError(ArchiveError):
    """Raised when a manifest is not valid JSON or lacks a field."""
