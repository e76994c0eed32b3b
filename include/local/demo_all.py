"""The rest of the demo: every other DAG of the shipped policy, once, on the stack that the demo started."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from include.local.demo import SOURCE, message_text, run_dag
from include.local.progress import progress_on
from include.local.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDag:
    """A DAG that the demo runs; ``conf`` makes its parameters from the id of the demo's daily backup.

    ``pauses`` is a DAG that is paused before, so that there is something to be seen.
    """

    dag_id: str
    shows: str
    conf: Callable[[str], Mapping[str, object]] = lambda backup_id: {}
    pauses: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """How one of them ended; a run that fails ends the demo with its log."""

    dag_id: str
    shows: str
    seconds: float
    slack: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"dag": self.dag_id, "seconds": round(self.seconds, 1), "slack": list(self.slack)}


OTHERS: Sequence[OtherDag] = (
    OtherDag(dag_id=f"{SOURCE}.weekly_backup", shows="everything, and the schema on its own"),
    OtherDag(
        dag_id=f"{SOURCE}.pre_deployment_backup",
        shows="a backup that a release waits for",
        conf=lambda backup_id: {"release": "demo-1", "git_sha": "0123456789abcdef0123456789abcdef01234567"},
    ),
    OtherDag(dag_id=f"{SOURCE}.monthly_archive", shows="everything with the attachments, moved to GLACIER"),
    OtherDag(dag_id=f"{SOURCE}.critical_tables_backup", shows="four tables in one snapshot"),
    OtherDag(dag_id=f"{SOURCE}.schema_backup", shows="the schema, committed and pushed"),
    OtherDag(
        dag_id=f"{SOURCE}.backup_hold",
        shows="the daily backup kept whatever the policy says",
        conf=lambda backup_id: {"action": "add", "backup": backup_id, "reason": "shown by the demo"},
    ),
    OtherDag(
        dag_id=f"{SOURCE}.restore_database",
        shows="the daily backup into a scratch database, every row compared",
        conf=lambda backup_id: {"choose": "id", "backup_id": backup_id, "dry_run": False},
    ),
    OtherDag(
        dag_id=f"{SOURCE}.restore_table",
        shows="what making two tables what they were in the daily backup would change",
        conf=lambda backup_id: {
            "choose": "id",
            "backup_id": backup_id,
            "tables": ["public.users", "public.messages"],
            "mode": "replace",
        },
    ),
    OtherDag(dag_id=f"{SOURCE}.base_backup", shows="the whole cluster as it lies on disk, started and looked through"),
    # After the base backup, which it would have to ask a paused DAG for.
    OtherDag(dag_id=f"{SOURCE}.incremental_backup", shows="WAL up to now, for recovery to any point in time"),
    OtherDag(
        dag_id=f"{SOURCE}.restore_point_in_time",
        shows="what recovering to the end of the log would do",
        # A recovered server would outlive the demo.
        conf=lambda backup_id: {"target_kind": "latest", "preview_only": True},
    ),
    OtherDag(
        dag_id=f"{SOURCE}.backup_verification",
        shows="old backups proven again, and the verifier itself put to the test",
    ),
    OtherDag(
        dag_id="backup_health",
        shows="alerts: what is not as the policy says, such as a cleanup that somebody has paused",
        pauses="backup_cleanup",
    ),
    OtherDag(
        dag_id=f"{SOURCE}.acknowledge_alert",
        shows="one of these alerts known to a person, and no longer sent",
        conf=lambda backup_id: {"alert": "paused:backup_cleanup", "note": "paused by the demo"},
    ),
    OtherDag(dag_id="metadata_cleanup", shows="which old runs Airflow's database would forget"),
    OtherDag(dag_id="backup_cleanup", shows="what would be deleted, and why the rest is kept"),
    OtherDag(
        dag_id="backup_audit",
        shows="the newest backup restored once more, and the report that an auditor reads",
        # Of this month, in which all of the above has happened.
        conf=lambda backup_id: {"month": f"{datetime.now(UTC):%Y-%m}"},
    ),
)


def run_all(stack: Stack, backup_id: str, *, console: Console) -> tuple[OtherRun, ...]:
    """Run them one after the other; raises DemoFailedError at the first that fails."""
    done = []
    with progress_on(console) as progress:
        for number, other in enumerate(OTHERS, start=1):
            progress.say(f"{number} of {len(OTHERS)}: {other.dag_id}, {other.shows}")
            if other.pauses is not None:
                stack.api().pause(other.pauses)
            before, started = len(stack.slack.messages()), time.monotonic()
            run_dag(stack.api(), other.dag_id, other.conf(backup_id), progress)
            said = tuple(message_text(entry["message"]) for entry in stack.slack.messages()[before:])
            seconds = time.monotonic() - started
            done.append(OtherRun(dag_id=other.dag_id, shows=other.shows, seconds=seconds, slack=said))
    return tuple(done)


def all_lines(runs: Sequence[OtherRun]) -> list[str]:
    """Return a line for each run, with what Slack was told."""
    lines = []
    for run in runs:
        lines.append(f"{run.dag_id:<42} success {run.seconds:6.1f} s  {run.shows}")
        lines += [f"    {text.splitlines()[0]}" for text in run.slack if text]
    return [*lines, ""] if lines else []
