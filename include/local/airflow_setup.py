"""Make Airflow's metadata database and fill it, in one process: importing Airflow is what takes long.

Run as a program. Standard input is one JSON object, ``{"connections", "pools", "variables", "overwrite"}``;
it is read once the database is made, so that the sender may still be waiting for a part of it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.local.credentials import write_private


def main() -> None:
    """Migrate, then import what is missing."""
    airflow("db", "migrate")
    with tempfile.TemporaryDirectory() as name:
        load(json.loads(sys.stdin.read()), Path(name))


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


def import_objects(kind: str, objects: Mapping[str, Any], folder: Path, *options: str) -> None:
    """Import objects of one kind through a file that only its owner can read."""
    if objects:
        file = folder / f"{kind}.json"
        write_private(file, json.dumps(objects))
        airflow(kind, "import", *options, str(file))


def export(kind: str, folder: Path) -> dict[str, Any]:
    """Return what Airflow has of one kind."""
    file = folder / f"existing_{kind}.json"
    write_private(file, "")
    airflow(kind, "export", str(file))
    exported: dict[str, Any] = json.loads(file.read_text())
    return exported


def airflow(*words: str) -> None:
    """Run one command of Airflow's command line in this process."""
    # Here, since the import alone writes into Airflow's home.
    from airflow.cli import cli_parser

    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)


if __name__ == "__main__":
    main()
