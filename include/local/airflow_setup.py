"""Make Airflow's metadata database and fill it, in one process: importing Airflow is what takes long.

Run as a program. Standard input is one JSON object, ``{"connections", "pools", "variables", "overwrite"}``;
it is read once the database is made, so that the sender may still be waiting for a part of it. The policy's pools come
from the policy that BACKUP_POLICY names.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.backup.policy import load_policy, policy_path
from include.local.airflow_command import airflow, export, import_objects
from include.sync_pools import sync_pools


def main() -> None:
    """Migrate, then import what is missing."""
    airflow("db", "migrate")
    with tempfile.TemporaryDirectory() as name:
        load(json.loads(sys.stdin.read()), Path(name))
    sync_pools(load_policy(policy_path(os.environ)).pools)


def load(wanted: Mapping[str, Any], folder: Path) -> None:
    """Import connections, pools and variables; those that are there stay as they are unless told otherwise.

    ``overwrite`` is True, False, or the ids of the connections whose secret has changed.
    """
    everything = wanted["overwrite"] is True
    changed = [] if everything else list(wanted["overwrite"] or ())
    connections = dict(wanted["connections"])
    new = {name: value for name, value in connections.items() if everything or name in changed}
    pools = dict(wanted["pools"])
    if not everything:
        existing = export("pools", folder)
        pools = {name: pool for name, pool in pools.items() if name not in existing}
    skip = () if everything else ("--action-on-existing-key", "skip")
    import_objects("connections", new, folder, "--overwrite")
    import_objects("connections", connections, folder)
    import_objects("pools", pools, folder)
    import_objects("variables", wanted["variables"], folder, *skip)
    # The import command ends with 0 when it could not import a connection.
    missing = connections.keys() - export("connections", folder).keys()
    if missing:
        raise SystemExit(f"Airflow did not take these connections: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
