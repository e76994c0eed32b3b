"""
### Restore tables: previewed, approved, copied first, compared

**What** Restores one or several tables out of a full or a table backup, reading only their part of the archive.
`beside` makes them in a new schema `restored_<time>_<run>`, with types, sequences, indexes and constraints. `replace`
makes the rows what they were, by key, in one transaction: views, grants, triggers, policies and foreign keys stay, and
triggers do not fire. `missing` only adds rows that are gone.

**When** By hand, when rows are lost or wrong. Trigger it first as it is: `Only show` is on, the run ends after
`preview_restore`, whose log has rows missing, changed and surplus, and the children that would be touched; all rows
that differ are in a CSV file in `restores/`. Stop what writes to the tables before a `replace`: rows written since the
backup are surplus. `latest proven` is the newest archive that holds all the tables, also an hourly one of the critical
tables; the preview says of when it is, and what does not come with a table that is put beside.

**Needs** The policy's `restore` block; the role of its connection has to own the tables (or be a member of their
owner), and to see all rows (BYPASSRLS where policies are forced). For the source itself the yes of a second person.

**Changes** `beside`: adds a schema. `replace` and `missing`: add a backup of the tables to `safety/`, then change rows.
Rows of other tables change only with `Let children be deleted or emptied`; then the backup in `safety/` holds these
tables too, and their triggers do not fire either. Records are added to `restores/`.

**Run again** Until `restore_tables` nothing is touched: clear what failed, with what is downstream. `restore_tables` is
not retried by itself; when more would be deleted than was shown it refuses: trigger a new run.

**Undo** `beside`: drop the schema. Else run it again with `replace`, the id of the backup in `safety/` and all tables
that it holds, as the log of `take_safety_copy` says. Nobody proves it: tick `Also a backup that nobody has proven`.
"""

from __future__ import annotations

from airflow.sdk import DAG

from backup_operators.defaults import Tag, dag_arguments, make_dags
from backup_operators.restore_tables_chain import restore_tables_chain, table_parameters
from include.backup.policy import SourcePolicy

# The rest wait, and are refused at the target's lock; one alone would hide behind a restore that waits for its yes.
RUNS_AT_ONCE = 4


def restore_table(source: SourcePolicy) -> DAG:
    """Make one source's DAG."""
    restore = source.restore
    if restore is None:
        raise ValueError(f"{source.name} has no restore block")
    with DAG(
        **{**dag_arguments(source, "restore_table"), "max_active_runs": RUNS_AT_ONCE},
        description=f"Restore tables of {source.name}: previewed, approved, copied first, compared",
        doc_md=__doc__,
        schedule=None,
        params=table_parameters(restore),
        tags=[Tag.RESTORE, Tag.TRIGGERED],
    ) as dag:
        restore_tables_chain(source, restore)
    return dag


make_dags(restore_table, where=lambda source: source.restore is not None)
