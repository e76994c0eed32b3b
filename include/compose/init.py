"""The first container of docker-compose.yaml: metadata database, roles, administrator, connections, pools.

Everything is made when it is missing, and nothing that a person changed is put back but what files of this project say:
the permissions of our roles, the slots of the policy's pools, and how tasks reach Airflow itself.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.backup.errors import BackupError, SettingsError
from include.backup.policy import load_policy, policy_path
from include.backup.settings import SHIPPED_SETTINGS, load_settings
from include.compose.roles import ROLES, Permissions
from include.local.airflow_command import airflow
from include.local.airflow_setup import load
from include.sync_pools import sync_pools

FILE_SUFFIX = "_FILE"
ADMIN = "admin"
SERVICE = "backup_service"
# Made of what the compose file says, which may change: a new certificate, a new name. By what says it.
OWN_CONNECTIONS = {"PULSE_AIRFLOW_URL": "pulse_airflow_api", "PULSE_AIRFLOW_METADATA_URL": "pulse_airflow_metadata"}


def main() -> int:
    """Make what is missing; returns an exit code."""
    try:
        environ = with_files(os.environ)
        wanted = objects(environ)
        pools = load_policy(policy_path(environ)).pools
        password = environ.get("PULSE_ADMIN_PASSWORD")
        if not password:
            raise SettingsError("PULSE_ADMIN_PASSWORD_FILE names no file with a password; make it with make_secrets")
    except BackupError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    airflow("db", "migrate")
    made = make_roles(ROLES)
    made += make_user(ADMIN, password, role="Admin", called=("Backup", "Administrator"))
    if service := environ.get("PULSE_AIRFLOW_SERVICE_PASSWORD"):
        # The tasks' own: restores ask Airflow who approved them, and health what waits. It may only look.
        user = environ.get("PULSE_AIRFLOW_SERVICE_USER") or SERVICE
        made += make_user(user, service, role="BackupViewer", called=("Backup", "Service"))
    with tempfile.TemporaryDirectory() as name:
        load(wanted, Path(name))
    made += [f"pool {line}" for line in sync_pools(pools)]
    sys.stdout.write(f"init: {', '.join(made) or 'nothing to make'}\n")
    return 0


def with_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with each ``PULSE_…_FILE`` replaced by what that file holds; raises SettingsError."""
    found = dict(environ)
    for name, path in environ.items():
        if not (name.startswith("PULSE_") and name.endswith(FILE_SUFFIX) and path):
            continue
        try:
            found[name.removesuffix(FILE_SUFFIX)] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SettingsError(f"{name}: cannot read {path}: {error.strerror}; mount the secret") from error
        del found[name]
    return found


def objects(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the connections, pools and variables of airflow_settings.yaml."""
    settings = load_settings(SHIPPED_SETTINGS, environ)
    return {
        "connections": {spec.conn_id: spec.to_airflow() for spec in settings.connections},
        "pools": {pool.name: {"slots": pool.slots, "description": pool.description} for pool in settings.pools},
        "variables": {variable.name: str(variable.value) for variable in settings.variables},
        "overwrite": [conn_id for name, conn_id in OWN_CONNECTIONS.items() if environ.get(name)],
    }


def make_roles(roles: Mapping[str, Permissions]) -> list[str]:
    """Give our roles exactly these permissions; return what was changed, as lines for the log."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    changed: list[str] = []
    with get_application_builder() as builder:
        security: Any = builder.sm
        for name, permissions in roles.items():
            role = security.find_role(name) or security.add_role(name)
            wanted = {(action, resource) for resource, actions in permissions.items() for action in actions}
            found = {(item.action.name, item.resource.name): item for item in role.permissions}
            # What DAGs give by access_control is theirs.
            surplus = {key for key in found if key not in wanted and not key[1].startswith(("DAG:", "DAG Run:"))}
            for action, resource in sorted(wanted - found.keys()):
                security.add_permission_to_role(role, security.create_permission(action, resource))
            for key in surplus:
                security.remove_permission_from_role(role, found[key])
            if wanted - found.keys() or surplus:
                changed.append(f"role {name}")
    return changed


def make_user(name: str, password: str, *, role: str, called: tuple[str, str]) -> list[str]:
    """Make a user unless there is one; the password is never an argument of a process."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        security: Any = builder.sm
        if security.find_user(username=name):
            return []
        security.add_user(
            username=name,
            first_name=called[0],
            last_name=called[1],
            email=f"{name}@localhost",
            role=security.find_role(role),
            password=password,
        )
    return [f"user {name}"]


if __name__ == "__main__":
    sys.exit(main())
