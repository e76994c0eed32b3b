"""airflow_settings.yaml for the Astro CLI, which fills in no ``${NAME}`` itself.

``python -m include.local.astro_settings FILE`` writes one with the secrets of the environment, for its owner alone, and
``astro dev start --settings-file FILE`` takes it. Keep it out of git: ``.astro/`` is.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from include.backup.connection_spec import ConnectionSpec
from include.backup.errors import BackupError, SettingsError
from include.backup.settings import SHIPPED_SETTINGS, Settings, load_settings
from include.local.credentials import write_private

QUOTE = "'"


def main() -> int:
    """Write the file that the one argument names; returns an exit code."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m include.local.astro_settings .astro/airflow_settings.yaml\n")
        return 2
    try:
        document = astro_settings(load_settings(SHIPPED_SETTINGS, os.environ))
    except BackupError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, yaml.safe_dump(document, sort_keys=False))
    sys.stdout.write(f"{path} is written; astro dev start --settings-file {path}\n")
    return 0


def astro_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings with the fields and types that the Astro CLI reads; raises SettingsError.

    It hands each value to a shell in single quotes, so that one with a quote in it would be something else there.
    """
    return {
        "airflow": {
            "connections": [_connection(spec) for spec in settings.connections],
            "pools": [
                {"pool_name": pool.name, "pool_slot": pool.slots, "pool_description": pool.description}
                for pool in settings.pools
            ],
            "variables": [
                {"variable_name": variable.name, "variable_value": _quotable(variable.name, str(variable.value))}
                for variable in settings.variables
            ],
        }
    }


def _connection(spec: ConnectionSpec) -> dict[str, Any]:
    given = spec.to_airflow()
    extra = given.pop("extra", None)
    fields = {f"conn_{name}": value for name, value in given.items() if value not in (None, "")}
    found = {"conn_id": spec.conn_id, "conn_type": fields.pop("conn_conn_type"), **fields}
    if port := found.get("conn_port"):
        found["conn_port"] = int(port)
    values: Mapping[str, Any] = json.loads(extra) if isinstance(extra, str) else extra or {}
    for value in (*found.values(), *values.values()):
        _quotable(spec.conn_id, str(value))
    return {**found, "conn_extra": {name: value for name, value in values.items() if value not in (None, "")}}


def _quotable(name: str, value: str) -> str:
    if QUOTE in value:
        raise SettingsError(
            f"{name} has a value with a single quote in it, which the Astro CLI cannot pass on; give this one as "
            f"AIRFLOW_CONN_{name.upper()} in .env instead"
        )
    return value


if __name__ == "__main__":
    sys.exit(main())
