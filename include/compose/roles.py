"""Who may do what in Airflow: the roles of the platform, as FAB's permissions.

A restore into production takes two people. So whoever may ask for one may neither answer the approval, nor mark a
task as done, nor write an XCom. The destructive task asks Airflow itself who answered, besides.
"""

from __future__ import annotations

from collections.abc import Mapping

Permissions = Mapping[str, tuple[str, ...]]

READ, CREATE, EDIT, DELETE, MENU = "can_read", "can_create", "can_edit", "can_delete", "menu_access"
_SEEN = (
    *(
        "DAGs",
        "DAG Code",
        "DAG Runs",
        "DAG Versions",
        "DAG Warnings",
        "DAG Dependencies",
        "Task Instances",
        "Task Logs",
    ),
    *("XComs", "HITL Detail", "Assets", "Pools", "Jobs", "ImportError", "Website", "Cluster Activity"),
)
_MENUS = ("Browse", "DAGs", "DAG Runs", "Task Instances", "Assets", "Documentation", "Docs")


def _role(**more: tuple[str, ...]) -> Permissions:
    """Return what everybody sees, and ``more``; a resource's name has _ for a space."""
    base: dict[str, tuple[str, ...]] = dict.fromkeys(_SEEN, (READ,))
    for name in _MENUS:
        base[name] = (*base.get(name, ()), MENU)
    base |= {"My Password": (READ, EDIT), "My Profile": (READ, EDIT)}
    for name, actions in more.items():
        resource = name.replace("_", " ")
        base[resource] = tuple(dict.fromkeys((*base.get(resource, ()), *actions)))
    return base


ROLES: Mapping[str, Permissions] = {
    "BackupViewer": _role(),
    "BackupAuditor": _role(Audit_Logs=(READ, MENU), All_Audit_Logs=(READ,), Configurations=(READ,)),
    # Triggers and clears backups; Airflow wants DAGs.can_edit for a trigger, which also allows pausing.
    "BackupOperator": _role(DAGs=(EDIT,), DAG_Runs=(CREATE, EDIT), Task_Instances=(CREATE, EDIT)),
    "RestoreRequester": _role(DAGs=(EDIT,), DAG_Runs=(CREATE,)),
    # An answer changes something below the DAG, which again wants DAGs.can_edit.
    "RestoreApprover": _role(DAGs=(EDIT,), HITL_Detail=(EDIT,)),
    # For the deployment's script.
    "Deployer": _role(DAGs=(EDIT,), DAG_Runs=(CREATE,)),
}
