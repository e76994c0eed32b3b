"""Make Airflow's pools as the policy says: ``python -m include.sync_pools``.

Run where Airflow's metadata database is reached: in the first container of docker-compose.yaml, in a job of the Helm
chart, by hand after the policy's ``pools`` were changed. A second run changes nothing; other pools stay as they are.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.backup.errors import BackupError
from include.backup.policy import load_policy, policy_path
from include.local.airflow_command import export, import_objects

DESCRIPTION = "of the backup policy; its slots are set by include.sync_pools"


def main() -> int:
    """Make the pools of the policy that ``BACKUP_POLICY`` names; returns an exit code."""
    try:
        pools = load_policy(policy_path(os.environ)).pools
    except BackupError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    changed = sync_pools(pools)
    sys.stdout.write(f"pools: {', '.join(changed) or 'nothing to change'}\n")
    return 0


def sync_pools(pools: Mapping[str, int]) -> list[str]:
    """Make what is missing and set the slots of what differs; return what was done, as lines for the log."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        existing = export("pools", folder)
        wanted = pools_to_set(pools, existing)
        import_objects("pools", wanted, folder)
    return [
        f"{name} {pool['slots']} slots" + (f" instead of {existing[name]['slots']}" if name in existing else "")
        for name, pool in wanted.items()
    ]


def pools_to_set(pools: Mapping[str, int], existing: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pools to set, by name, as Airflow exports them; what an existing one has besides slots is kept.

    >>> pools_to_set({"scratch": 2}, {"scratch": {"slots": 2, "description": "mine"}, "other": {"slots": 9}})
    {}
    """
    found = {}
    for name, slots in pools.items():
        has = existing.get(name)
        if has is None:
            found[name] = {"slots": slots, "description": DESCRIPTION, "include_deferred": False}
        elif has["slots"] != slots:
            found[name] = {**has, "slots": slots}
    return found


if __name__ == "__main__":
    sys.exit(main())
