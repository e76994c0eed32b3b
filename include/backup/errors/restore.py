"""Errors of restores, recoveries and proofs."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


class ScratchError(BackupError):
    """Raised when the scratch server cannot be made or does not start."""


class RestoreError(BackupError):
    """Raised when pg_restore fails or the target is not fit."""


class TargetOutsideWindowError(RestoreError, RetryWorthlessError):
    """Raised when a point in time cannot be recovered; says what can be."""

    exit_code = 2


class TargetNotReachedError(RestoreError, RetryWorthlessError):
    """Raised when the log ended before a transaction or a named restore point was found in it."""

    exit_code = 2


class TimelineMissingError(RestoreError, RetryWorthlessError):
    """Raised when no way leads to the timeline that was asked for; says which there are."""

    exit_code = 2


class WalSegmentMissingError(RestoreError, RetryWorthlessError):
    """Raised when a WAL segment that a recovery needs is not stored; names it."""

    exit_code = 4


class RestoreRefusedError(RestoreError, RetryWorthlessError):
    """Raised when a restore would overwrite something, or the target cannot take the archive as it is."""

    exit_code = 5


class QuarantineError(RestoreError, RetryWorthlessError):
    """Raised when a copy is not quarantined, or what was switched off cannot be put back."""


class RestoreDiffersError(RestoreError, RetryWorthlessError):
    """Raised when a restored database differs from what the dump read."""

    exit_code = 4


class ApprovalError(RetryWorthlessError):
    """Raised when nobody who may has said yes to exactly what is about to be done."""

    exit_code = 5


class TargetBusyError(RestoreError):
    """Raised when another restore into the same target is under way; names who holds it."""

    exit_code = 5


class TargetFullError(RestoreError):
    """Raised when the disk of the target's server is full; what was made there is removed again."""


class SwapError(RestoreError):
    """Raised when a swap by rename failed; says whether it was undone."""


class ProofFailedError(RetryWorthlessError):
    """Raised when a restored backup differs from what the dump read."""

    exit_code = 4


class VerifierBrokenError(RetryWorthlessError):
    """Raised when the verifier passed a copy that was damaged on purpose: no proof of it can be relied on."""

    exit_code = 4
