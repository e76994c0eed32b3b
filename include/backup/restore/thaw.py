"""Archives in Glacier: ask once that one is made readable, and say when and at which price that will be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from botocore.exceptions import ClientError

from include.backup.errors import RestoreRefusedError
from include.backup.manifest import Manifest
from include.backup.policy import ThawPolicy
from include.backup.store import ObjectStore

FROZEN_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
# What AWS promises for most requests; Expedited is not offered for Deep Archive.
EXPECTED = {
    ("GLACIER", "Expedited"): timedelta(minutes=5),
    ("GLACIER", "Standard"): timedelta(hours=5),
    ("GLACIER", "Bulk"): timedelta(hours=12),
    ("DEEP_ARCHIVE", "Standard"): timedelta(hours=12),
    ("DEEP_ARCHIVE", "Bulk"): timedelta(hours=48),
}
TIERS: Mapping[str, Literal["Expedited", "Standard", "Bulk"]] = {
    "Expedited": "Expedited",
    "Standard": "Standard",
    "Bulk": "Bulk",
}
PRICES = {"Expedited": "the dearest", "Standard": "the middle one", "Bulk": "the cheapest"}
_ONGOING = re.compile(r'ongoing-request="true"')


class Thawing(StrEnum):
    """Whether an archive can be read."""

    READABLE = "readable"
    FROZEN = "frozen"
    ONGOING = "ongoing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawReport:
    """How far a thaw is; ``expected_by`` None: the archive can be read now."""

    backup_id: str
    state: Thawing
    storage_class: str
    tier: str | None
    price: str | None
    expected_by: datetime | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        expected = None if self.expected_by is None else self.expected_by.isoformat()
        return {**asdict(self), "state": self.state.value, "expected_by": expected}

    def line(self) -> str:
        if self.state is Thawing.READABLE:
            return f"the archive of {self.backup_id} can be read ({self.storage_class})"
        return (
            f"the archive of {self.backup_id} is in {self.storage_class}; its thaw was asked for at the "
            f"tier {self.tier} ({self.price} price), and is expected by {self.expected_by:%Y-%m-%d %H:%M} UTC"
        )


def thaw_state(store: ObjectStore, manifest: Manifest) -> tuple[Thawing, str]:
    """Return whether the store lets the archive be read, and its storage class."""
    key = manifest.archive.key
    with store.errors(key, "look at"):
        found = store.s3.head_object(Bucket=store.bucket, Key=key)
    storage_class = str(found.get("StorageClass", "STANDARD"))
    restored = found.get("Restore")
    if storage_class not in FROZEN_CLASSES or (restored and not _ONGOING.search(restored)):
        return Thawing.READABLE, storage_class
    return (Thawing.ONGOING if restored else Thawing.FROZEN), storage_class


def thaw(store: ObjectStore, manifest: Manifest, policy: ThawPolicy, *, asked_at: datetime) -> ThawReport:
    """Ask for the thaw of a frozen archive, once; raises RestoreRefusedError for a tier that its class lacks.

    ``asked_at`` is when who waits has asked first: the store does not say since when it works on it.
    """
    state, storage_class = thaw_state(store, manifest)
    if state is Thawing.READABLE:
        return ThawReport(
            backup_id=manifest.backup_id,
            state=state,
            storage_class=storage_class,
            tier=None,
            price=None,
            expected_by=None,
        )
    takes = EXPECTED.get((storage_class, policy.tier))
    if takes is None:
        raise RestoreRefusedError(
            f"{storage_class} cannot be thawed at the tier {policy.tier}; set restore.thaw.tier of the policy to "
            "Standard or Bulk"
        )
    if state is Thawing.FROZEN:
        _request(store, manifest.archive.key, policy)
    return ThawReport(
        backup_id=manifest.backup_id,
        state=Thawing.ONGOING,
        storage_class=storage_class,
        tier=policy.tier,
        price=PRICES[policy.tier],
        expected_by=asked_at + takes,
    )


def _request(store: ObjectStore, key: str, policy: ThawPolicy) -> None:
    with store.errors(key, "thaw"):
        try:
            store.s3.restore_object(
                Bucket=store.bucket,
                Key=key,
                RestoreRequest={"Days": policy.days, "GlacierJobParameters": {"Tier": TIERS[policy.tier]}},
            )
        except ClientError as error:
            # Somebody else has asked meanwhile.
            if error.response.get("Error", {}).get("Code") != "RestoreAlreadyInProgress":
                raise
