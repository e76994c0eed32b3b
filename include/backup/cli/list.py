"""list: what the store holds of a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from include.backup.cli.output import columns
from include.backup.cli.session import Session
from include.backup.inventory import StoredBackup, list_backups
from include.backup.restore.progress import size_text

_HEADER = ("backup", "stored (UTC)", "size", "objects", "proof", "note")


def run(session: Session) -> int:
    """Print all backups, oldest first."""
    source = session.source
    session.store.check_bucket()
    backups = list_backups(session.whole_catalog, tier=session.arguments.tier)
    document = {
        "source": source.name,
        "bucket": source.store.bucket,
        "backups": [{**asdict(backup), "run_after": backup.run_after.isoformat()} for backup in backups],
    }
    empty = [f"{source.name} has no backup in s3://{source.store.bucket}"]
    session.output.result("list", document, _lines(backups) if backups else empty)
    return 0


def _lines(backups: Sequence[StoredBackup]) -> Sequence[str]:
    rows = [
        (
            backup.backup_id,
            "-" if backup.stored_at is None else f"{backup.stored_at:%Y-%m-%d %H:%M}",
            size_text(backup.size),
            backup.completeness.value,
            "-" if backup.standing is None else backup.standing.value,
            backup.left_out,
        )
        for backup in backups
    ]
    return list(columns(_HEADER, rows))
