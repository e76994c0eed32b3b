"""Errors of the backup platform: one root, one base per area, named leaves.

A message says what went wrong, with which object, and what to do next. It never holds a password. All are imported
from here, and defined by subject in the modules beside.

Exit codes of the command line: 1 failed, 2 a person wrote something that is not acceptable, 3 a server or the
store does not answer or refuses the login, 4 the backup is damaged or differs, 5 refused for safety.
"""

from __future__ import annotations

from include.backup.errors.archive import ArchiveError as ArchiveError
from include.backup.errors.archive import FormatVersionError as FormatVersionError
from include.backup.errors.archive import ManifestError as ManifestError
from include.backup.errors.archive import MemberHashError as MemberHashError
from include.backup.errors.archive import MemberMissingError as MemberMissingError
from include.backup.errors.archive import StagingBusyError as StagingBusyError
from include.backup.errors.archive import StagingError as StagingError
from include.backup.errors.archive import StagingFullError as StagingFullError
from include.backup.errors.archive import StagingMissingError as StagingMissingError
from include.backup.errors.archive import TocError as TocError
from include.backup.errors.archive import TruncatedMemberError as TruncatedMemberError
from include.backup.errors.commands import CommandError as CommandError
from include.backup.errors.commands import CommandKilledError as CommandKilledError
from include.backup.errors.commands import CommandTimeoutError as CommandTimeoutError
from include.backup.errors.commands import ToolMissingError as ToolMissingError
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
from include.backup.errors.restore import ApprovalError as ApprovalError
from include.backup.errors.restore import ProofFailedError as ProofFailedError
from include.backup.errors.restore import QuarantineError as QuarantineError
from include.backup.errors.restore import RestoreDiffersError as RestoreDiffersError
from include.backup.errors.restore import RestoreError as RestoreError
from include.backup.errors.restore import RestoreRefusedError as RestoreRefusedError
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
from include.backup.errors.runs import AirflowApiError as AirflowApiError
from include.backup.errors.runs import HealthError as HealthError
from include.backup.errors.runs import MessageError as MessageError
from include.backup.errors.runs import MetadataCleanupError as MetadataCleanupError
from include.backup.errors.runs import RunRefusedError as RunRefusedError
from include.backup.errors.source import ClientTooOldError as ClientTooOldError
from include.backup.errors.source import CriticalTableMissingError as CriticalTableMissingError
from include.backup.errors.source import PoolerError as PoolerError
from include.backup.errors.source import ReplicationRefusedError as ReplicationRefusedError
from include.backup.errors.source import RoleCannotReadError as RoleCannotReadError
from include.backup.errors.source import SourceBusyError as SourceBusyError
from include.backup.errors.source import SourceError as SourceError
from include.backup.errors.source import SourceLockedError as SourceLockedError
from include.backup.errors.source import SourceLoginError as SourceLoginError
from include.backup.errors.source import SourceTlsError as SourceTlsError
from include.backup.errors.source import SourceUnreachableError as SourceUnreachableError
from include.backup.errors.source import TableRewrittenError as TableRewrittenError
from include.backup.errors.source import TornReferenceError as TornReferenceError
from include.backup.errors.store import ArchiveWithoutManifestError as ArchiveWithoutManifestError
from include.backup.errors.store import BackupMissingError as BackupMissingError
from include.backup.errors.store import BucketMissingError as BucketMissingError
from include.backup.errors.store import CleanupError as CleanupError
from include.backup.errors.store import CopyRefusedError as CopyRefusedError
from include.backup.errors.store import EvidenceError as EvidenceError
from include.backup.errors.store import KmsKeyError as KmsKeyError
from include.backup.errors.store import ManifestWithoutArchiveError as ManifestWithoutArchiveError
from include.backup.errors.store import ObjectColdError as ObjectColdError
from include.backup.errors.store import ObjectDiffersError as ObjectDiffersError
from include.backup.errors.store import ObjectExistsError as ObjectExistsError
from include.backup.errors.store import ObjectMissingError as ObjectMissingError
from include.backup.errors.store import ObjectShortError as ObjectShortError
from include.backup.errors.store import StoreDeniedError as StoreDeniedError
from include.backup.errors.store import StoreError as StoreError
from include.backup.errors.store import StoreUnreachableError as StoreUnreachableError
from include.backup.errors.wal import WalBrokenError as WalBrokenError
from include.backup.errors.wal import WalDiffersError as WalDiffersError
from include.backup.errors.wal import WalError as WalError
from include.backup.errors.wal import WalNameError as WalNameError
from include.backup.errors.wal import WalRefusedError as WalRefusedError
from include.backup.errors.wal import WalTimeoutError as WalTimeoutError
from include.backup.errors.written import AmbiguousChoiceError as AmbiguousChoiceError
from include.backup.errors.written import ConnectionDefinitionError as ConnectionDefinitionError
from include.backup.errors.written import HoldError as HoldError
from include.backup.errors.written import ParameterError as ParameterError
from include.backup.errors.written import PolicyError as PolicyError
from include.backup.errors.written import SettingsError as SettingsError
from include.backup.errors.written import UnknownSourceError as UnknownSourceError
from include.backup.errors.written import UnknownTierError as UnknownTierError
