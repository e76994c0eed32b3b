"""Airflow's own command line, run in this process, and objects that it imports and exports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.local.credentials import write_private


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
