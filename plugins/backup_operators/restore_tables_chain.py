"""The form and the wiring of a restore of tables."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, TriggerRule, chain

from backup_operators.defaults import NOTIFY_TIMEOUT
from backup_operators.restore import PREVIEW
from backup_operators.restore_chain import (
    ASKED_ADVICE,
    PREVIEW_TIMEOUT,
    UNTOUCHED,
    asked,
    restore_messaging,
)
from backup_operators.restore_form import SURE, WHERE, parameters
from backup_operators.restore_tables import (
    CheckTablesOperator,
    PreviewTablesOperator,
    RestoreTablesOperator,
    SafetyCopyOperator,
    ask_for_tables,
)
from backup_operators.tell import TellOperator
from include.backup.policy import RestorePolicy, SourcePolicy
from include.backup.restore.words import Where

WHAT = "Which tables"
MODES = ("beside", "replace", "missing")
SHARED = ("choose", "backup_id", "before", "release", "git_sha", "unproven", "server", "database", "dry_run", "reason")
PLACES = (Where.PRODUCTION, Where.NAMED)
ADVICE = {
    **ASKED_ADVICE,
    PREVIEW: f"{UNTOUCHED} Put it right, or choose another mode, and trigger a new run.",
    "take_safety_copy": f"{UNTOUCHED} Put it right, then clear `take_safety_copy`.",
    "restore_tables": f"{UNTOUCHED} It is one transaction, or a new schema that was removed again. Trigger a new run.",
    "check_afterwards": "The tables are restored, and a check fails; the copy of before is in `safety/`.",
}


def table_parameters(restore: RestorePolicy) -> dict[str, Param]:
    """Return the form's fields in their order: what is restored, then those of every restore."""
    shared = parameters(restore)
    return {
        "tables": Param(
            ["public.messages"],
            type="array",
            items={"type": "string", "minLength": 1, "maxLength": 200},
            minItems=1,
            maxItems=100,
            title="Tables",
            description_md='One a line, as schema.table; odd names in double quotes: "My Schema".table',
            section=WHAT,
        ),
        "mode": Param(
            "beside",
            type="string",
            enum=list(MODES),
            title="Mode",
            description_md=(
                "**beside**: into a new schema, nothing is changed. **replace**: makes the tables **what they were**, "
                "by key. **missing**: only adds rows that are gone."
            ),
            section=WHAT,
        ),
        **{name: shared[name] for name in SHARED[:6]},
        "where": Param(
            Where.PRODUCTION.value,
            type="string",
            enum=[place.value for place in PLACES],
            title="Target",
            description_md="**production**: the source itself, after approval. **named database**: by its name below.",
            section=WHERE,
        ),
        **{name: shared[name] for name in SHARED[6:]},
        "touch_children": Param(
            False,
            type="boolean",
            title="Let children be deleted or emptied",
            description_md="Rows of other tables that hang on deleted ones by CASCADE or SET NULL, as counted before.",
            section=SURE,
        ),
    }


def restore_tables_chain(source: SourcePolicy, restore: RestorePolicy) -> None:
    """Add the tasks to the DAG in whose block this is called."""
    name: dict[str, Any] = {"source": source.name}
    # What was skipped because it is not needed must not skip what is.
    late: dict[str, Any] = {**name, "trigger_rule": TriggerRule.NONE_FAILED}
    notify = TellOperator(
        task_id="notify",
        execution_timeout=NOTIFY_TIMEOUT,
        title=f"{source.name} restore of tables",
        advice=ADVICE,
        tell=(PREVIEW, "restore_tables"),
        **restore_messaging(source, restore),
    )
    chain(
        *asked(source, restore, preview=PreviewTablesOperator, ask=ask_for_tables(source)),
        SafetyCopyOperator(
            task_id="take_safety_copy", execution_timeout=restore.timeout, pool=source.scheduling.source_pool, **late
        ),
        RestoreTablesOperator(task_id="restore_tables", execution_timeout=restore.timeout, **{**late, "retries": 0}),
        CheckTablesOperator(task_id="check_afterwards", execution_timeout=PREVIEW_TIMEOUT, **late),
        notify.as_teardown(),
    )
