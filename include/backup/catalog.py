"""The catalogue: which backups the store holds, read from the store alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from include.backup.backup_id import parse_backup_id
from include.backup.errors import (
    ArchiveWithoutManifestError,
    BackupMissingError,
    ManifestError,
    ManifestWithoutArchiveError,
    ObjectMissingError,
    ObjectShortError,
)
from include.backup.manifest import Manifest, read_manifest
from include.backup.proof.record import Proof, read_proof
from include.backup.store import ObjectInfo, ObjectStore

MANIFEST_SUFFIX = ".manifest.json"
ARCHIVE_SUFFIX = ".tar"


def archive_key(prefix: str, backup_id: str) -> str:
    """Return the key of an archive.

    >>> archive_key("daily/", "x")
    'daily/x.tar'
    """
    return f"{prefix.rstrip('/')}/{backup_id}{ARCHIVE_SUFFIX}"


def manifest_key(prefix: str, backup_id: str) -> str:
    """Return the key of a manifest.

    >>> manifest_key("daily/", "x")
    'daily/x.manifest.json'
    """
    return f"{prefix.rstrip('/')}/{backup_id}{MANIFEST_SUFFIX}"


def proof_prefix(backup_id: str) -> str:
    """Return where the proofs of a backup lie."""
    return f"proofs/{backup_id}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBackup:
    """One backup as a listing shows it; ``proof_keys`` are in the order in which the proofs were made."""

    backup_id: str
    prefix: str
    archive: ObjectInfo | None
    manifest: ObjectInfo | None
    proof_keys: tuple[str, ...] = ()

    @property
    def proofs(self) -> int:
        return len(self.proof_keys)


class Catalog:
    """The backups of one source below its prefixes."""

    def __init__(self, store: ObjectStore, *, source: str, prefixes: Sequence[str]) -> None:
        self.store = store
        self._source = source
        self._prefixes = tuple(dict.fromkeys(prefix.rstrip("/") for prefix in prefixes))

    def list(self) -> tuple[ListedBackup, ...]:
        """Return all backups, also archives without manifest and manifests without archive, oldest first."""
        proofs = self._proof_keys()
        found = [backup for prefix in self._prefixes for backup in self._below(prefix, proofs)]
        return tuple(sorted(found, key=lambda backup: (parse_backup_id(backup.backup_id).run_after, backup.backup_id)))

    def locate(self, backup_id: str) -> str:
        """Return the prefix that holds a backup.

        Raises BackupMissingError, or ArchiveWithoutManifestError when only the archive is there.
        """
        for prefix in self._prefixes:
            if self.store.head(manifest_key(prefix, backup_id)):
                return prefix
        for prefix in self._prefixes:
            if self.store.head(archive_key(prefix, backup_id)):
                raise ArchiveWithoutManifestError(
                    f"{self.store.url(archive_key(prefix, backup_id))} has no manifest, so it is no backup: its upload "
                    "never finished, or its manifest was deleted; look for a version of that, or use another backup"
                )
        raise BackupMissingError(
            f"{self._source} has no backup {backup_id}; `python -m include.backup list {self._source}` shows what "
            "there is"
        )

    def manifest_bytes(self, backup_id: str) -> bytes:
        """Return a manifest as stored; raises BackupMissingError or ArchiveWithoutManifestError."""
        return self.store.get(manifest_key(self.locate(backup_id), backup_id))

    def read(self, backup_id: str) -> tuple[Manifest, bytes]:
        """Return a manifest and its bytes, and check that it is this backup's and that the archive is whole.

        Raises ManifestError, ManifestWithoutArchiveError or ObjectShortError besides what reading it raises.
        """
        content = self.manifest_bytes(backup_id)
        manifest = read_manifest(content, name=backup_id)
        if manifest.backup_id != backup_id:
            raise ManifestError(f"the manifest of {backup_id} is that of {manifest.backup_id}; use another backup")
        self.check_archive(manifest)
        return manifest, content

    def manifest(self, backup_id: str) -> Manifest:
        """Return a backup's manifest and check that its archive is there in full length.

        Raises ManifestWithoutArchiveError or ObjectShortError besides what reading the manifest raises.
        """
        return self.read(backup_id)[0]

    def check_archive(self, manifest: Manifest) -> ObjectInfo:
        """Return what the store says of the archive; raises when it is gone or has another size."""
        info = self.store.head(manifest.archive.key)
        where = self.store.url(manifest.archive.key)
        if info is None:
            raise ManifestWithoutArchiveError(
                f"the archive {where} is gone though its manifest is there; look for another version of the "
                "object or another copy, and use another backup"
            )
        if info.size != manifest.archive.size:
            raise ObjectShortError(
                f"{where} has {info.size} bytes and its manifest says {manifest.archive.size}; "
                "it is damaged, use another backup"
            )
        return info

    def proofs(self, backup_id: str) -> tuple[Proof, ...]:
        """Return the proofs of a backup, oldest first."""
        return self._read_proofs(sorted(item.key for item in self.store.list(proof_prefix(backup_id))))

    def manifest_of(self, listed: ListedBackup) -> bytes:
        """Return the manifest of a backup that was listed, by one request; raises BackupMissingError."""
        try:
            return self.store.get(manifest_key(listed.prefix, listed.backup_id))
        except ObjectMissingError as error:
            raise BackupMissingError(f"{listed.backup_id} has lost its manifest since it was listed") from error

    def proofs_of(self, listed: ListedBackup) -> tuple[Proof, ...]:
        """Return the proofs that a backup had when it was listed, oldest first, by one request for each."""
        return self._read_proofs(listed.proof_keys)

    def _read_proofs(self, keys: Iterable[str]) -> tuple[Proof, ...]:
        return tuple(read_proof(self.store.get(key), name=key) for key in keys)

    def _below(self, prefix: str, proofs: Mapping[str, Sequence[str]]) -> Iterator[ListedBackup]:
        archives: dict[str, ObjectInfo] = {}
        manifests: dict[str, ObjectInfo] = {}
        for item in self.store.list(f"{prefix}/"):
            name = item.key.removeprefix(f"{prefix}/")
            for suffix, found in ((MANIFEST_SUFFIX, manifests), (ARCHIVE_SUFFIX, archives)):
                if name.endswith(suffix) and self._is_ours(name.removesuffix(suffix)):
                    found[name.removesuffix(suffix)] = item
                    break
        for backup_id in {**archives, **manifests}:
            yield ListedBackup(
                backup_id=backup_id,
                prefix=prefix,
                archive=archives.get(backup_id),
                manifest=manifests.get(backup_id),
                proof_keys=tuple(sorted(proofs.get(backup_id, ()))),
            )

    def _is_ours(self, name: str) -> bool:
        parsed = parse_backup_id(name, strict=False)
        return parsed is not None and parsed.source == self._source

    def _proof_keys(self) -> Mapping[str, Sequence[str]]:
        found: dict[str, tuple[str, ...]] = {}
        for item in self.store.list(f"proofs/{self._source}_"):
            backup_id = item.key.split("/")[1]
            found[backup_id] = (*found.get(backup_id, ()), item.key)
        return found
