"""The form of a restore, for a person under stress: what is left empty is safe.

Airflow paints `code` in a help text over the line above it, and lets nobody trigger while a text that must not be null
is empty.
"""

from __future__ import annotations

from airflow.sdk import Param

from include.backup.policy import RestorePolicy
from include.backup.restore.words import Choosing, Where

WHICH, WHERE, SURE = "Which backup", "Where to", "Are you sure"
NO_SERVER = "the only one"
# ``$`` also matches before a last newline, hence what follows it.
ID_PATTERN = r"^[a-z][a-z0-9_]{0,80}_[0-9]{8}T[0-9]{6}Z_[0-9a-f]{6}$(?!\n)"
RELEASE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$(?!\n)"
SHA_PATTERN = r"^[0-9a-f]{7,40}$(?!\n)"
DATABASE_PATTERN = r"^[^\x00-\x1f\x7f]{1,63}$(?!\n)"


def parameters(restore: RestorePolicy) -> dict[str, Param]:
    """Return the form's fields in their order."""
    return {**_which(), **_where(restore), **_sure()}


def _which() -> dict[str, Param]:
    return {
        "choose": Param(
            Choosing.LATEST_PROVEN.value,
            type="string",
            enum=[how.value for how in Choosing],
            title="Choose by",
            description_md="**latest proven** needs nothing else, and is one that can be read at once, unless it would "
            "be more than a day older than one in Glacier. The others need the field of their name below.",
            section=WHICH,
        ),
        "backup_id": _text(
            "Backup id", ID_PATTERN, "For **id**, e.g. pulse_messages_daily_full_20250119T020000Z_3fa9c1.", WHICH
        ),
        "before": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Before",
            description_md="For **latest before**: the newest backup whose data is not younger. In the time zone that "
            "the menu at the left shows.",
            section=WHICH,
        ),
        "release": _text(
            "Release", RELEASE_PATTERN, "For **release**: the backup that was taken before it was deployed.", WHICH
        ),
        "git_sha": _text(
            "Git commit", SHA_PATTERN, "Only beside a release, when it was deployed twice: 7 to 40 digits of it.", WHICH
        ),
        "unproven": _yes("Also a backup that nobody has proven", "Nobody has shown that it restores.", WHICH),
    }


def _where(restore: RestorePolicy) -> dict[str, Param]:
    return {
        "where": Param(
            Where.SCRATCH.value,
            type="string",
            enum=[where.value for where in Where],
            title="Target",
            description_md=(
                "**scratch database**: a new one, for looking at. **named database**: with the name below. "
                "**production**: the source itself is **replaced**, after approval."
            ),
            section=WHERE,
        ),
        "server": Param(
            None,
            type=["null", "string"],
            enum=[None, *restore.servers],
            title="Server",
            values_display={"null": NO_SERVER},
            description_md="Of the scratch or named database; the policy lists them in restore.servers.",
            section=WHERE,
        ),
        "database": _text("Database", DATABASE_PATTERN, "For **named database**.", WHERE),
        "with_roles": _yes("Make roles that are missing", "From the backup, without their superuser rights.", WHERE),
        "in_place": _yes(
            "In place instead of a swap",
            "Only where databases cannot be renamed (hosted Supabase): drops and makes anew, in one transaction.",
            WHERE,
        ),
    }


def _sure() -> dict[str, Param]:
    return {
        "dry_run": Param(
            True,
            type="boolean",
            title="Only show what would happen",
            description_md="On: the run ends after the preview. **Off: it is done.**",
            section=SURE,
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            maxLength=500,
            title="Reason",
            description_md="What happened, for who approves and for the evidence.",
            section=SURE,
        ),
        "replace": _yes("Replace a named database", "It is backed up first, and kept beside.", SURE),
        "end_sessions": _yes(
            "End the sessions of the target", "Whoever is connected loses the connection; in place nobody does.", SURE
        ),
        "give_up_slots": _yes(
            "Give up slots and subscriptions", "Logical slots and subscriptions stay with the old database.", SURE
        ),
        "give_up_writes": _yes(
            "Give up what is written meanwhile",
            "In place: what is written once the safety backup has begun is lost, and no copy has it.",
            SURE,
        ),
    }


def _text(title: str, pattern: str, help_text: str, section: str) -> Param:
    return Param(None, type=["null", "string"], pattern=pattern, title=title, description_md=help_text, section=section)


def _yes(title: str, help_text: str, section: str) -> Param:
    return Param(False, type="boolean", title=title, description_md=help_text, section=section)
