"""The form of a point-in-time recovery, for a person under stress: what is left empty is chosen well.

No `code` in its help texts: Airflow paints it over the line above.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

TO, FROM, WHERE = "To when", "From what", "Where to"
UNTOUCHED = "Nothing was changed."
ADVICE = {
    "preview_recovery": f"{UNTOUCHED} The reason says what can be recovered; correct the form, and trigger a new run.",
    "approve": f"{UNTOUCHED} Trigger a new run, and let another person answer it under Required Actions.",
    "check_approval": f"{UNTOUCHED} Without a yes of another person nothing is recovered in place.",
    "recover": "Nothing of the source was changed, and what was built is removed. Put it right, trigger a new run.",
}
# ``$`` also matches before a last newline, hence what follows it.
BASE_PATTERN = r"^[a-z][a-z0-9_]{0,80}_incremental_base_[0-9]{8}T[0-9]{6}Z_[0-9a-f]{6}$(?!\n)"
VALUE_PATTERN = r"^[^\x00-\x1f\x7f]{1,63}$(?!\n)"
FOLDER_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,40}$(?!\n)"
PORT = 5499


def parameters() -> dict[str, Param]:
    """Return the form's fields in their order."""
    return {**_to(), **_from(), **_where()}


def _to() -> dict[str, Param]:
    return {
        "target_kind": Param(
            "time",
            type="string",
            enum=["time", "lsn", "xid", "name", "latest"],
            title="Recover to",
            description_md="A time needs the field below; a position, a transaction or a restore point the one after. "
            "**latest** is the end of the stored log.",
            section=TO,
        ),
        "target_time": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Time",
            description_md="For **time**, in the time zone that the menu at the left shows. The last commit before it "
            "is the last that will be there: give the moment just before the mistake.",
            section=TO,
        ),
        "target_value": _text(
            "Position, transaction or name",
            VALUE_PATTERN,
            "For **lsn** e.g. 16/B374D848, for **xid** e.g. 123456, for **name** what pg_create_restore_point() got.",
            TO,
        ),
    }


def _from() -> dict[str, Param]:
    return {
        "base_backup": _text("Base backup", BASE_PATTERN, "Empty: the one that fits best.", FROM),
        "timeline": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=4_000_000_000,
            title="Timeline",
            description_md="Empty: the newest one. Another one after an earlier recovery or a failover.",
            section=FROM,
        ),
        "system_identifier": _text(
            "Cluster",
            r"^[0-9]{1,20}$(?!\n)",
            "Empty: that of the newest base backup. An earlier server's is a number.",
            FROM,
        ),
        "unproven": Param(
            False,
            type="boolean",
            title="Also a base backup that nobody has proven",
            description_md="Nobody has shown that it starts.",
            section=FROM,
        ),
    }


def _where() -> dict[str, Param]:
    return {
        "folder": Param(
            "recovered",
            type="string",
            pattern=FOLDER_PATTERN,
            title="Folder",
            description_md="A new one, made where the worker's BACKUP_RESTORE_DIR points; must not exist yet.",
            section=WHERE,
        ),
        "port": Param(
            PORT,
            type="integer",
            minimum=1024,
            maximum=65535,
            title="Port",
            description_md="Of the new server, on the worker's 127.0.0.1; must be free.",
            section=WHERE,
        ),
        "preview_only": Param(
            False,
            type="boolean",
            title="Only show what would happen",
            description_md="On: the run ends after the preview, whose log says what can be. **Off: it is done.**",
            section=WHERE,
        ),
    }


def _text(title: str, pattern: str, description: str, section: str) -> Param:
    options: dict[str, Any] = {"type": ["null", "string"], "pattern": pattern}
    return Param(None, title=title, description_md=description, section=section, **options)
