"""Make an unpacked base backup start as a copy: its own port and socket, nothing of the source's surroundings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from include.backup.base.stored import StoredBase
from include.backup.errors import RestoreError
from include.backup.point_in_time.target import RecoveryTarget
from include.backup.postgres.account import give
from include.backup.postgres.cluster import write_private
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Command, Runner

# What recovery needs at least as high as the source had it, by the name that pg_controldata gives it.
CONTROLLED = {
    "max_connections setting": "max_connections",
    "max_worker_processes setting": "max_worker_processes",
    "max_wal_senders setting": "max_wal_senders",
    "max_prepared_xacts setting": "max_prepared_transactions",
    "max_locks_per_xact setting": "max_locks_per_transaction",
}
# What a copy must not do: archive over the source's log, follow it, run its jobs, or reach out to others.
QUIET: Mapping[str, str] = {
    "archive_mode": "off",
    "archive_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "max_logical_replication_workers": "0",
    "logging_collector": "off",
    "log_destination": "stderr",
    "synchronous_standby_names": "",
}
AUTO_CONFIGURATION = "postgresql.auto.conf"
SOURCE_SUFFIX = ".source"
USER_MAP = "pulse_copy"
_SETTINGS_FILES = ("postgresql.conf", AUTO_CONFIGURATION, "pg_hba.conf", "pg_ident.conf")
_STALE = ("postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal")
_CONTROL_LINE = re.compile(r"^(?P<name>[^:]+):\s*(?P<value>.*)$")
_OCTAL_LIBRARIES = "shared_preload_libraries"


def prepare_data(data: Path, *, user: str | None) -> None:
    """Put the source's configuration aside under ``.source`` and ask for a recovery."""
    for name in _STALE:
        (data / name).unlink(missing_ok=True)
    for name in _SETTINGS_FILES:
        if (data / name).is_file():
            (data / name).rename(data / f"{name}{SOURCE_SUFFIX}")
        write_private(data / name, "", user=user)
    write_private(data / "recovery.signal", "", user=user)
    for name in ("pg_replslot", "pg_stat_tmp"):
        _empty(data / name)


def recovery_settings(
    target: RecoveryTarget, *, controlled: Mapping[str, str], restore_command: str, timeline: int
) -> dict[str, str]:
    """Return the settings with which the copy recovers and then goes on as a server of its own.

    >>> target = RecoveryTarget.parse("lsn", "0/5000000")
    >>> found = recovery_settings(target, controlled={}, restore_command="r %f %p", timeline=2)
    >>> found["recovery_target_lsn"], found["recovery_target_timeline"], found["archive_mode"]
    ('0/5000000', '2', 'off')
    """
    return {
        **QUIET,
        **controlled,
        "wal_level": "replica",
        # Nobody is let in before the target is reached; and "ready" then means promoted.
        "hot_standby": "off",
        "restore_command": restore_command,
        "recovery_target_timeline": str(timeline),
        **target.settings(),
    }


def settled_settings(controlled: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the copy once it has recovered."""
    return {**QUIET, **controlled, "wal_level": "replica"}


def controlled_settings(tools: PostgresTools, data: Path, *, user: str | None, runner: Runner) -> dict[str, str]:
    """Return what pg_control says that recovery needs; raises RestoreError when it says nothing."""
    lines: list[str] = []
    runner.run(Command(argv=(tools.path("pg_controldata"), str(data)), user=user, folder=data), on_line=lines.append)
    found = {}
    for line in lines:
        match = _CONTROL_LINE.match(line)
        if match is not None and match["name"].strip() in CONTROLLED:
            found[CONTROLLED[match["name"].strip()]] = match["value"].strip()
    if not found:
        raise RestoreError(f"pg_controldata of {tools.version} says nothing of {data}; the base backup is damaged")
    return found


def left_off(base: StoredBase) -> tuple[str, ...]:
    """Return, in words, what of the source's configuration the copy goes without."""
    settings = base.base.settings
    if settings is None:
        return ("the source's configuration was not readable to the backup role; the copy has PostgreSQL's defaults",)
    applied = {one.name: one.value for one in settings if one.applied}
    notes = []
    if libraries := applied.get(_OCTAL_LIBRARIES):
        notes.append(f"{_OCTAL_LIBRARIES} is empty, so that no job runs (cron, webhooks); the source has {libraries!r}")
    notes.append(
        f"{len(applied)} settings and {len(base.base.hba or ())} lines of pg_hba.conf of the source are recorded in "
        "the manifest and not applied"
    )
    return tuple(notes)


def peer_access(superuser: str, users: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return pg_hba.conf and pg_ident.conf that let the copy's makers in as its superuser, and all else by password.

    >>> peer_access("postgres", ("root",))[1]
    'pulse_copy "root" "postgres"\\n'
    """
    name = superuser.replace('"', '""')
    hba = (
        f'local all "{name}" peer map={USER_MAP}',
        "local all all scram-sha-256",
        "host all all 127.0.0.1/32 scram-sha-256",
        "host all all ::1/128 scram-sha-256",
    )
    return hba, "".join(f'{USER_MAP} "{user}" "{name}"\n' for user in users)


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def give_folder(folder: Path, user: str | None) -> Path:
    """Make a folder of the user's own, which others cannot enter."""
    folder.mkdir(mode=0o700, exist_ok=True)
    give(folder, user)
    return folder
