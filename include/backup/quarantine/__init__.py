"""Keep a restored copy from acting on the world: what it would do by itself is switched off until it is released."""

from include.backup.quarantine.quarantine import (
    QuarantineReport,
    ReleaseReport,
    changed_tables,
    quarantine,
    quarantined,
    release,
    release_command,
)
from include.backup.quarantine.record import Seclusion

__all__ = [
    "QuarantineReport",
    "ReleaseReport",
    "Seclusion",
    "changed_tables",
    "quarantine",
    "quarantined",
    "release",
    "release_command",
]
