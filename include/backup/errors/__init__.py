"""Errors of the backup platform: one root, one base per area, named leaves.

A message says what went wrong, with which object, and what to do next. It never holds a password. All are imported
from here; those of restores and of services outside are defined in modules of their own.

Exit codes of the command line: 1 failed, 2 a person wrote something that is not acceptable, 3 a server or the
store does not answer or refuses the login, 4 the backup is damaged or differs, 5 refused for safety.
"""

from __future__ import annotations

from include.backup.errors.outside import GitDeniedError as GitDeniedError
from include.backup.errors.outside import GitDivergedError as GitDivergedError
from include.backup.errors.outside import GitError as GitError
from include.backup.errors.outside import GitHostKeyError as GitHostKeyError
from include.backup.errors.outside import GitPushRejectedError as GitPushRejectedError
from include.backup.errors.outside import GitRepositoryMissingError as GitRepositoryMissingError
from include.backup.errors.outside import GitTlsError as GitTlsError
from include.backup.errors.outside import GitUnreachableError as GitUnreachableError
from include.backup.errors.outside import SupabaseAnswerError as SupabaseAnswerError
from include.backup.errors.outside import SupabaseError as SupabaseError
from include.backup.errors.outside import SupabaseProjectMissingError as SupabaseProjectMissingError
from include.backup.errors.outside import SupabaseRateLimitError as SupabaseRateLimitError
from include.backup.errors.outside import SupabaseRefusedError as SupabaseRefusedError
from include.backup.errors.outside import SupabaseTlsError as SupabaseTlsError
from include.backup.errors.outside import SupabaseTokenError as SupabaseTokenError
from include.backup.errors.outside import SupabaseUnreachableError as SupabaseUnreachableError
from include.backup.errors.restore import AirflowApiError as AirflowApiError
from include.backup.errors.restore import ApprovalError as ApprovalError
from include.backup.errors.restore import HealthError as HealthError
from include.backup.errors.restore import ProofFailedError as ProofFailedError
from include.backup.errors.restore import QuarantineError as QuarantineError
from include.backup.errors.restore import RestoreDiffersError as RestoreDiffersError
from include.backup.errors.restore import RestoreError as RestoreError
from include.backup.errors.restore import RestoreRefusedError as RestoreRefusedError
from include.backup.errors.restore import RunRefusedError as RunRefusedError
from include.backup.errors.restore import ScratchError as ScratchError
from include.backup.errors.restore import SwapError as SwapError
from include.backup.errors.restore import TargetBusyError as TargetBusyError
from include.backup.errors.restore import TargetFullError as TargetFullError
from include.backup.errors.restore import TargetNotReachedError as TargetNotReachedError
from include.backup.errors.restore import TargetOutsideWindowError as TargetOutsideWindowError
from include.backup.errors.restore import TimelineMissingError as TimelineMissingError
from include.backup.errors.restore import VerifierBrokenError as VerifierBrokenError
from include.backup.errors.restore import WalSegmentMissingError as WalSegmentMissingError
from include.backup.errors.root import BackupError as BackupError
from include.backup.errors.root import RetryWorthlessError as RetryWorthlessError

# --- what a person wrote ---------------------------------------------------------------------------


class PolicyError(RetryWorthlessError):
    """Raised when the policy file is not acceptable; names the file, the line and what is allowed."""

    exit_code = 2


class SettingsError(RetryWorthlessError):
    """Raised when airflow_settings.yaml is not acceptable; names the file and the line."""

    exit_code = 2


class ConnectionDefinitionError(RetryWorthlessError):
    """Raised when a connection is missing, incomplete, or holds what is not allowed."""

    exit_code = 2


class ParameterError(RetryWorthlessError):
    """Raised when a parameter of a run or a command is not acceptable."""

    exit_code = 2


class AmbiguousChoiceError(ParameterError):
    """Raised when what a person wrote fits more than one backup; names them."""


class UnknownSourceError(ParameterError):
    """Raised when the policy has no such source."""


class UnknownTierError(ParameterError):
    """Raised when a source has no such tier."""


# --- child processes -------------------------------------------------------------------------------


class CommandError(BackupError):
    """Raised when a child process ends with another exit code than 0."""


class CommandKilledError(CommandError):
    """Raised when a child process was ended by a signal."""


class CommandTimeoutError(CommandError):
    """Raised when a child process was ended because it took too long."""


class ToolMissingError(RetryWorthlessError):
    """Raised when a PostgreSQL tool of the needed version is not installed."""


# --- the source database ---------------------------------------------------------------------------


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


# --- staging ---------------------------------------------------------------------------------------


class StagingError(BackupError):
    """Raised when the staging folder is not in the state that a step needs."""


class StagingFullError(StagingError):
    """Raised when the staging disk has no room."""


class StagingMissingError(StagingError, RetryWorthlessError):
    """Raised when an earlier step's files are no longer there."""


class StagingBusyError(StagingError):
    """Raised when another process works on the same backup."""


# --- the archive -----------------------------------------------------------------------------------


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


# --- the store -------------------------------------------------------------------------------------


class StoreError(BackupError):
    """Raised when the object store does not do what was asked."""


class StoreUnreachableError(StoreError):
    """Raised when the object store does not answer."""

    exit_code = 3


class BucketMissingError(StoreError, RetryWorthlessError):
    """Raised when the bucket does not exist."""

    exit_code = 3


class StoreDeniedError(StoreError, RetryWorthlessError):
    """Raised when the store refuses the credentials, or refuses them this operation."""

    exit_code = 3


class KmsKeyError(StoreError, RetryWorthlessError):
    """Raised when the KMS key does not exist or is not enabled."""


class ObjectMissingError(StoreError):
    """Raised when an object is not there."""


class ObjectShortError(StoreError):
    """Raised when an object has another size than its manifest says."""

    exit_code = 4


class ObjectExistsError(StoreError, RetryWorthlessError):
    """Raised when an object is already there with other content."""


class ObjectDiffersError(StoreError):
    """Raised when what the store says of an object differs from its manifest."""

    exit_code = 4


class ObjectColdError(StoreError, RetryWorthlessError):
    """Raised when an object lies in a class that cannot be read at once."""


class CopyRefusedError(StoreError, RetryWorthlessError):
    """Raised when a backup that is not proven would be copied, or moved to where it cannot be read back."""

    exit_code = 5


class BackupMissingError(StoreError, RetryWorthlessError):
    """Raised when no backup has this id."""

    exit_code = 2


class ArchiveWithoutManifestError(BackupMissingError):
    """Raised when an archive has no manifest, so that it does not count as a backup."""

    exit_code = 4


class ManifestWithoutArchiveError(StoreError):
    """Raised when a manifest's archive is gone."""

    exit_code = 4


# --- the write-ahead log ---------------------------------------------------------------------------


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


# --- evidence and holds ----------------------------------------------------------------------------


class EvidenceError(StoreError, RetryWorthlessError):
    """Raised when the evidence of a source cannot be added to, or is not what was recorded."""

    exit_code = 4


class CleanupError(StoreError):
    """Raised when some of what has expired could not be deleted, or an archive was lost."""


class HoldError(ParameterError):
    """Raised when a hold cannot be set or released as asked."""


class MetadataCleanupError(BackupError):
    """Raised when Airflow could not clean a table of its own database."""


class MessageError(BackupError):
    """Raised when people had to be told of something, and nobody was."""
