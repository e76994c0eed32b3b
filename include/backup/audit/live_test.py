"""The live restore test of a report: the newest backup that can be read at once, restored and compared now."""

from __future__ import annotations

import logging
from pathlib import Path

from include.backup.backup_id import parse_backup_id
from include.backup.errors import BackupMissingError
from include.backup.inventory import FULL
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.proof.record import Proof
from include.backup.restore.thaw import FROZEN_CLASSES
from include.backup.steps.context import open_catalog
from include.backup.steps.restore_test import StoredBackup, prove_stored
from include.backup.store import ObjectStore

logger = logging.getLogger(__name__)


def newest_readable(source: SourcePolicy, store: ObjectStore) -> str:
    """Return the newest whole full backup that lies in no class from which it would have to be thawed.

    Raises BackupMissingError when there is none.
    """
    for item in reversed(open_catalog(source, store).list()):
        if item.archive is None or item.manifest is None or parse_backup_id(item.backup_id).kind != FULL:
            continue
        if item.archive.storage_class not in FROZEN_CLASSES:
            return item.backup_id
    raise BackupMissingError(f"{source.name} has no full backup that can be read at once; start a daily backup")


def prove_newest(source: SourcePolicy, store: ObjectStore, *, scratch_root: Path, actor: str, runner: Runner) -> Proof:
    """Restore and compare the newest backup; the proof and its evidence are written, passed or failed.

    ``actor`` is named in the evidence, by which the report finds this test.
    """
    stored = StoredBackup(
        backup_id=newest_readable(source, store),
        source=source,
        store=store,
        catalog=open_catalog(source, store),
        scratch_root=scratch_root,
        actor=actor,
    )
    return prove_stored(stored, runner=runner, log=logger)
