"""Errors of the object store, and of the evidence that is kept there."""

from __future__ import annotations

from include.backup.errors.root import BackupError, RetryWorthlessError


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


class EvidenceError(StoreError, RetryWorthlessError):
    """Raised when the evidence of a source cannot be added to, or is not what was recorded."""

    exit_code = 4


class CleanupError(StoreError):
    """Raised when some of what has expired could not be deleted, or an archive was lost."""
