"""Delete objects for good, all their versions, and look afterwards whether they are gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from include.backup.errors import StoreDeniedError, StoreError
from include.backup.store import ObjectStore

if TYPE_CHECKING:
    from types_boto3_s3.type_defs import ObjectIdentifierTypeDef

BATCH = 500
ATTEMPTS = 4
BACKOFF_SECONDS = 0.5
_DENIED = {"AccessDenied", "MethodNotAllowed"}
# What it means that only a marker could be set, for whoever reads a report.
MARKER_MEANS = (
    "hidden by a delete marker: no list and no restore sees it, its bytes are kept and paid for until a lifecycle rule "
    "or somebody with s3:DeleteObjectVersion removes the versions"
)

logger = logging.getLogger(__name__)


class Gone(StrEnum):
    """What became of an object, as the store said when it was asked again."""

    DELETED = "deleted"
    HIDDEN = "hidden"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One object after a deletion; ``error`` is what the store said, or that it said nothing and did nothing."""

    key: str
    gone: Gone
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, or a delete marker."""

    key: str
    version_id: str
    marker: bool
    latest: bool


def delete_objects(
    store: ObjectStore, keys: Iterable[str], *, sleep: Callable[[float], None] = time.sleep
) -> tuple[Outcome, ...]:
    """Delete all versions of objects; return what became of each, which is never an exception.

    What fails for a passing reason is tried again. Where versions may not be deleted, a delete marker is set. The
    answer to a deletion is not trusted: each object is looked for afterwards.
    """
    found: list[Outcome] = []
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        try:
            found.extend(list(_delete_batch(store, batch, sleep)))
        except StoreError as error:
            # Whether they are there can only be told by a list, and there is none.
            logger.warning("%d objects are not known to be deleted: %s", len(batch), error)
            found.extend(Outcome(key=key, gone=Gone.LEFT, error=str(error)) for key in batch)
    return tuple(found)


def _delete_batch(store: ObjectStore, keys: Sequence[str], sleep: Callable[[float], None]) -> Iterator[Outcome]:
    errors: dict[str, str] = {}
    for attempt in range(ATTEMPTS):
        versions = list(_versions(store, keys))
        if not versions:
            break
        if attempt:
            sleep(BACKOFF_SECONDS * 2**attempt)
        targets: list[ObjectIdentifierTypeDef] = [
            {"Key": version.key, "VersionId": version.version_id} for version in versions
        ]
        errors = _request(store, targets)
        if errors and all(code.partition(":")[0] in _DENIED for code in errors.values()):
            break
    left = list(_versions(store, keys))
    denied = sorted({one.key for one in left if one.latest and not one.marker and _is_denied(errors.get(one.key))})
    if denied:
        errors.update(_request(store, [{"Key": key} for key in denied]))
        left = list(_versions(store, keys))
    visible = {version.key for version in left if version.latest and not version.marker}
    hidden = {version.key for version in left if not version.marker}
    for key in keys:
        if key in visible:
            error = errors.get(key) or "the store said that it was deleted, and it is there"
            logger.warning("%s is still there: %s", store.url(key), error)
            yield Outcome(key=key, gone=Gone.LEFT, error=error)
        elif key in hidden:
            yield Outcome(key=key, gone=Gone.HIDDEN, error=errors.get(key))
        else:
            yield Outcome(key=key, gone=Gone.DELETED)


def _request(store: ObjectStore, targets: Sequence[ObjectIdentifierTypeDef]) -> dict[str, str]:
    """Ask for deletions; return the objects that the store refused, with code and text."""
    errors: dict[str, str] = {}
    for start in range(0, len(targets), BATCH):
        batch = targets[start : start + BATCH]
        try:
            with store.errors(batch[0]["Key"], "delete"):
                answer = store.s3.delete_objects(Bucket=store.bucket, Delete={"Objects": list(batch), "Quiet": True})
        except StoreError as refused:
            errors |= {target["Key"]: _as_answer(refused) for target in batch}
            continue
        for error in answer.get("Errors", []):
            errors[error.get("Key", "")] = f"{error.get('Code', '')}: {error.get('Message', '')}"
    return errors


def _as_answer(error: StoreError) -> str:
    """Return what a store that refused a whole request would have said of each object."""
    return f"AccessDenied: {error}" if isinstance(error, StoreDeniedError) else str(error)


def _is_denied(error: str | None) -> bool:
    return error is not None and error.partition(":")[0] in _DENIED


def _versions(store: ObjectStore, keys: Sequence[str]) -> Iterator[Version]:
    """Yield all versions and markers of some sorted keys, by listing from the first to the last of each folder."""
    folders: dict[str, list[str]] = {}
    for key in keys:
        folders.setdefault(f"{key.rpartition('/')[0]}/", []).append(key)
    for folder, inside in folders.items():
        wanted = set(inside)
        for version in list_versions(store, folder, first=inside[0], last=inside[-1]):
            if version.key in wanted:
                yield version


def list_versions(store: ObjectStore, prefix: str, *, first: str, last: str) -> Iterator[Version]:
    """Yield versions and markers of the keys of a prefix from ``first`` to ``last``, both included."""
    # A listing begins behind a key: behind the key without its last character, it has the key itself.
    arguments: dict[str, Any] = {"Bucket": store.bucket, "Prefix": prefix, "KeyMarker": first[:-1]}
    pages = store.s3.get_paginator("list_object_versions").paginate(**arguments)
    with store.errors(prefix, "list the versions of"):
        for page in pages:
            entries = [
                *(
                    (entry["Key"], entry.get("VersionId"), False, entry.get("IsLatest"))
                    for entry in page.get("Versions", [])
                ),
                *(
                    (entry["Key"], entry.get("VersionId"), True, entry.get("IsLatest"))
                    for entry in page.get("DeleteMarkers", [])
                ),
            ]
            for key, version_id, marker, latest in entries:
                if first <= key <= last:
                    yield Version(key=key, version_id=version_id or "null", marker=marker, latest=bool(latest))
            if any(key > last for key, *_ in entries):
                return
