"""
### Recover to a point in time: the server as it was between two commits

**What** Finds the base backup (and the incremental ones) that fits best, builds a new server from it in a folder of its
own, and replays the stored log up to a time, a position, a transaction, a named restore point, or its end. Then it says
where it landed and runs the checks. Nothing of the source is touched: what is needed is copied over by hand, or by
`restore_database`. A target outside the recoverable window is refused with the window; a time after the last commit
recovers to the end of the log and says so. `latest` ends at a hole in the log, if there is one, and names it.

**When** By hand: Trigger, and fill in the form. `preview_only` shows what would be done.

**Needs** Base backups and WAL in the store (`base_backup`, `incremental_backup`), PostgreSQL of the source's major
version on the worker, `BACKUP_RESTORE_DIR` with room for the whole cluster (twice with incremental backups), a free
port. A source that Supabase hosts is recovered by Supabase, **in place**, after another person's approval; that needs
the policy's blocks `supabase` and `restore`.

**Changes** Makes `BACKUP_RESTORE_DIR/<folder>` and starts a server there, on 127.0.0.1 and a unix socket, with
archive_mode=off and no preloaded library (no cron, no webhooks). Its roles have the source's passwords; who ran this
enters through the socket as the superuser. Unlogged tables are empty.

**Run again** Trigger a new run; a folder that is there is never written to. A recovery that failed has left nothing.

**Undo** Stop the server (`pg_ctl stop -D <folder>/data`) and remove the folder. What Supabase recovered in place cannot
be undone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, TriggerRule, chain

from backup_operators.chain import messaging
from backup_operators.defaults import NOTIFY_TIMEOUT, Tag, dag_arguments, make_dags
from backup_operators.point_in_time import PreviewRecoveryOperator, RecoverOperator, ask_for_recovery
from backup_operators.point_in_time_form import ADVICE, parameters
from backup_operators.restore_chain import approval_tasks, restore_messaging
from backup_operators.tell import TellOperator
from include.backup.policy import SourcePolicy

SHORT = timedelta(minutes=15)
RECOVERY_TIMEOUT = timedelta(hours=12)


def restore_point_in_time(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    name: dict[str, Any] = {"source": source.name}
    with DAG(
        **dag_arguments(source, "restore_point_in_time"),
        description=f"Recover {source.name} to a point in time, beside what there is",
        doc_md=__doc__,
        schedule=None,
        params=parameters(),
        tags=[Tag.RESTORE, Tag.TRIGGERED],
    ) as dag:
        preview = PreviewRecoveryOperator(task_id="preview_recovery", execution_timeout=SHORT, retries=0, **name)
        recover = RecoverOperator(
            task_id="recover",
            execution_timeout=RECOVERY_TIMEOUT,
            retries=0,
            trigger_rule=TriggerRule.NONE_FAILED,
            **name,
        )
        notify = TellOperator(
            task_id="notify",
            execution_timeout=NOTIFY_TIMEOUT,
            title=f"{source.name} point-in-time recovery",
            advice=ADVICE if source.restore else {task: text for task, text in ADVICE.items() if "approv" not in task},
            tell=("preview_recovery", "recover"),
            **(messaging(source) if source.restore is None else restore_messaging(source, source.restore)),
        )
        asked = (
            () if source.restore is None else approval_tasks(source, source.restore, ask=ask_for_recovery(source.name))
        )
        chain(preview, *asked, recover, notify.as_teardown())
    return dag


make_dags(restore_point_in_time, where=lambda source: source.base_backup is not None or source.supabase is not None)
