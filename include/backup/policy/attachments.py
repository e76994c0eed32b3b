"""The policy's ``attachments`` block: the buckets of files that belong to a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentsPolicy:
    """Where the files are, and which buckets of them; endpoint, region and keys are in the connection."""

    connection: str
    buckets: tuple[str, ...]


def attachments_policy(data: Mapping[str, Any] | None) -> AttachmentsPolicy | None:
    """Return the block as checked data has it."""
    if data is None:
        return None
    return AttachmentsPolicy(connection=data["connection"], buckets=tuple(data["buckets"]))
