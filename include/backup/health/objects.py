"""Whether an object in the store is encrypted and locked as it should be: what the store says, nothing is read back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from include.backup.evidence import Ledger
from include.backup.evidence.record import record_key
from include.backup.manifest import Manifest
from include.backup.policy import SourcePolicy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.steps.verify import differences
from include.backup.store import Encryption, ObjectStore


def archive_problem(store: ObjectStore, manifest: Manifest, source: SourcePolicy) -> str | None:
    """Return what of an archive is not as its manifest or the policy says, None when all is."""
    info = store.head(manifest.archive.key)
    if info is None:
        return "the archive is gone"
    if info.size != manifest.archive.size:
        return f"the archive has {info.size} bytes instead of {manifest.archive.size}"
    found = [*differences(info, manifest, checksum=info.checksum), *_against_policy(manifest, source)]
    return "; ".join(found) or None


def evidence_problems(store: ObjectStore, source: SourcePolicy) -> Mapping[str, str]:
    """Return what is wrong with the lock of the newest record, by its name; nothing where the bucket has no lock."""
    if not store.has_object_lock():
        return {}
    policy = source.evidence or EvidencePolicy()
    last = Ledger(store, source=source.name, encryption=Encryption(algorithm=None), policy=policy).last_sequence()
    if last == 0:
        return {}
    lock = store.lock_of(record_key(source.name, last))
    if lock is not None and lock.startswith(policy.lock_mode):
        return {}
    return {f"evidence record {last}": f"its lock is {lock or 'none'}, and the policy says {policy.lock_mode}"}


def _against_policy(manifest: Manifest, source: SourcePolicy) -> Iterator[str]:
    wanted, found = source.store.encryption.sse, manifest.archive.encryption
    if wanted is not None and found != wanted:
        yield f"its encryption is {found}, and the policy says {wanted}"
