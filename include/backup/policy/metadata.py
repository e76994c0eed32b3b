"""The policy's block ``metadata``: how long Airflow's own database remembers runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPolicy:
    """Runs that began longer than ``keep`` ago are removed; ``connection`` has the database's URL as its password."""

    connection: str
    keep: timedelta


def metadata_policy(data: Mapping[str, Any] | None) -> MetadataPolicy | None:
    """Build the block from checked data; without it nothing is removed."""
    return (
        None if data is None else MetadataPolicy(connection=data["connection"], keep=timedelta(days=data["keep_days"]))
    )
