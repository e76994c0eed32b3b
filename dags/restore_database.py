"""
### Restore a database: previewed, approved, compared, swapped in

**What** Restores one full backup. It is always loaded beside what is there, every row is compared with what the dump
read, and only then it takes the other's name, in one transaction. The database that was replaced stays beside.

**When** By hand, when data is lost or wrong; or after a bad deployment with its release as the choice
(`include/ci/pre_deployment_backup.sh --rollback`). Trigger it first as it is: `Only show` is on, the run ends after
`preview_restore`, whose log has the table of rows now and then. Then trigger it again with `Only show` off.

**Needs** The policy's `restore` block: the connection of a role that may create and rename databases, the servers on
which copies may be made, the connection of a service user of Airflow. For a restore into production a second
person: who asked cannot approve (`two_people`). Answer under Browse > Required Actions, within the policy's time.

**Changes** A scratch or named restore adds a database. A restore into production ends its sessions for some seconds,
adds a backup to `safety/`, and renames: the old database becomes `<name>_old_<restore id>` and takes no connections.
Logical slots and subscriptions stay with the old one; the preview lists them. Records are added to `restores/`.
In place nobody's session is ended: stop what writes first. What is written after the safety backup has begun is in no
copy, so that the restore refuses then, unless `give_up_writes` is on.

**Run again** Until `swap_databases` nothing is touched: clear what failed, with what is downstream. A yes counts for
exactly what was previewed, for `response_timeout`. After that, or when the target has changed, trigger a new run.
`swap_databases` and `restore_in_place` are not retried by themselves; cleared, they find what they have done and do
the rest, without another yes.

**Undo** While the old database is kept: `python -m include.backup restore SOURCE --undo RESTORE_ID`. It renames back,
and says what was written since. Later: restore the backup of `take_safety_backup` by its id. Nobody proves it: tick
`Also a backup that nobody has proven`.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from backup_operators.defaults import Tag, dag_arguments, make_dags
from backup_operators.restore_chain import restore_chain
from backup_operators.restore_form import parameters
from include.backup.policy import SourcePolicy

# The rest wait, and are refused at the target's lock; one alone would hide behind a restore that waits for its yes.
RUNS_AT_ONCE = 4


def restore_database(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    restore = source.restore
    if restore is None:
        raise ValueError(f"{source.name} has no restore block")
    form: dict[str, Param] = parameters(restore)
    with DAG(
        **{**dag_arguments(source, "restore_database"), "max_active_runs": RUNS_AT_ONCE},
        description=f"Restore a backup of {source.name}: previewed, approved, compared, swapped in",
        doc_md=__doc__,
        schedule=None,
        params=form,
        tags=[Tag.RESTORE, Tag.TRIGGERED],
    ) as dag:
        restore_chain(source, restore)
    return dag


make_dags(restore_database, where=lambda source: source.restore is not None)
