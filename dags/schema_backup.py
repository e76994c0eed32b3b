"""
### Schema backup: every change of the schema, in git

**What** Reads the definitions of one source (no rows), replaces secrets in them by `***`, and compares them with what
was committed last. When an object was added, removed or changed, it commits `schema.sql`, `database.sql` and
`objects.json` and pushes them, with a message that names what changed. Then it compares them with the schema of the
newest pre-deployment backup and sends the difference to Slack: what no release has brought.

**When** As the policy's `schema_backup.schedule` says (03:30 UTC as shipped). Missed runs are not made up for.

**Needs** The policy (`BACKUP_POLICY`) with a block `schema_backup`; the connections that it names (source, store,
Slack, and one of the type `git`: `host` is the URL; for ssh the extras `private_key` and `known_hosts`, for https
login and password); `git` and `ssh`; the policy's pools; the folder `BACKUP_STAGING_DIR`.

**Changes** Pushes to one branch of the git remote, never with force, and only below the source's folder. Keeps a
repository in `BACKUP_STAGING_DIR/schema_history`. Never changes the source.

**Run again** Clear the task that failed. A commit that the remote did not take is kept and goes with the next push; a
second try makes no second commit. `GitDivergedError` means that somebody else changed the folder in the remote, or took
commits back: the message says where our commits are.

**Undo** `git revert` in the remote: the next run commits the schema as it is.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, chain

from backup_operators.chain import ended_callback, messaging
from backup_operators.defaults import (
    NOTIFY_TIMEOUT,
    Tag,
    dag_arguments,
    last_resort,
    make_dags,
    timetable,
)
from backup_operators.schema_history import (
    COMMIT_TASK,
    DRIFT_TASK,
    AnnounceDriftOperator,
    CommitSchemaOperator,
    NotifySchemaOperator,
)
from include.backup.policy import SourcePolicy
from include.backup.policy.schema_backup import schema_policy

DRIFT_TIMEOUT = timedelta(minutes=10)


def schema_backup(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    policy = schema_policy(source)
    timeout = timedelta(minutes=policy.timeout_minutes)
    with DAG(
        **dag_arguments(source, "schema_backup"),
        description=f"Schema of {source.name}, to git when it has changed",
        doc_md=__doc__,
        schedule=timetable(policy.schedule),
        dagrun_timeout=last_resort(source, [timeout, DRIFT_TIMEOUT, NOTIFY_TIMEOUT]),
        on_failure_callback=ended_callback(source, "schema"),
        tags=[Tag.BACKUP, Tag.SCHEDULED],
    ) as dag:
        commit = CommitSchemaOperator(
            task_id=COMMIT_TASK, source=source.name, execution_timeout=timeout, pool=source.scheduling.source_pool
        )
        announce = AnnounceDriftOperator(task_id=DRIFT_TASK, source=source.name, execution_timeout=DRIFT_TIMEOUT)
        notify = NotifySchemaOperator(
            task_id="notify", source=source.name, execution_timeout=NOTIFY_TIMEOUT, **messaging(source)
        )
        chain(commit, announce, notify.as_teardown())
    return dag


make_dags(schema_backup, where=lambda source: source.schema_backup is not None)
