"""The DAG files as Airflow reads them: what is there, and how it is wired."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from backup_operators.defaults import OWNER, Tag
from include.backup.policy import SHIPPED_POLICY, load_policy
from tests.dags.bag import read_dags

# DAGs that are one chain and nothing else.
DAG_IDS = {
    "pulse_messages.daily_backup",
    "pulse_messages.pre_deployment_backup",
    "pulse_messages.critical_tables_backup",
}
# DAGs whose wiring has a test file of its own.
OTHER_DAG_IDS = {
    "pulse_messages.schema_backup",
    "pulse_messages.incremental_backup",
    "pulse_messages.base_backup",
    "pulse_messages.restore_point_in_time",
    "pulse_messages.monthly_archive",
    "pulse_messages.restore_database",
    "backup_audit",
    "backup_cleanup",
    "metadata_cleanup",
    "backup_health",
    "pulse_messages.backup_hold",
    "pulse_messages.acknowledge_alert",
    "pulse_messages.restore_table",
    "pulse_messages.backup_verification",
    "pulse_messages.weekly_backup",
}
ALL_DAG_IDS = DAG_IDS | OTHER_DAG_IDS
# DAGs that take a backup as the policy's tiers say, whatever else they do.
BACKUP_DAG_IDS = DAG_IDS | {"pulse_messages.monthly_archive", "pulse_messages.weekly_backup"}
CHAIN = {
    "preflight": {"dump"},
    "dump": {"compress"},
    "compress": {"upload"},
    "upload": {"verify"},
    "verify": {"prepare_scratch"},
    "prepare_scratch": {"restore_test", "remove_scratch"},
    "restore_test": {"close_staging", "remove_scratch"},
    "remove_scratch": {"notify"},
    "close_staging": {"notify"},
    "notify": set(),
}
# The daily backup counts the copies at its end, whether it went well or not.
CHAIN_AND_COPIES = {
    **CHAIN,
    "remove_scratch": {"report_copies", "notify"},
    "close_staging": {"report_copies", "notify"},
    "report_copies": {"notify"},
}


@pytest.fixture(scope="module")
def bag() -> Any:
    return read_dags()


def test_every_file_is_read_and_gives_exactly_these_dags(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == ALL_DAG_IDS


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_the_tasks_are_wired_as_designed(bag: Any, dag_id: str) -> None:
    wired = {task.task_id: set(task.downstream_task_ids) for task in bag.dags[dag_id].tasks}
    assert wired == (CHAIN_AND_COPIES if dag_id == "pulse_messages.daily_backup" else CHAIN)


@pytest.mark.parametrize("dag_id", sorted(BACKUP_DAG_IDS))
def test_nothing_of_a_dag_is_left_to_a_default(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    assert dag.doc_md
    assert all(f"**{word}**" in dag.doc_md for word in ("What", "When", "Needs", "Changes", "Run again", "Undo"))
    assert list(dag.tags)
    assert set(dag.tags) <= set(Tag)
    assert Tag.BACKUP in dag.tags
    assert dag.catchup is False
    assert dag.max_active_runs == 1
    assert dag.max_consecutive_failed_dag_runs == 0
    assert dag.is_paused_upon_creation is True
    assert dag.start_date.tzinfo is not None
    assert dag.on_failure_callback
    for task in dag.tasks:
        assert task.owner == OWNER
        assert task.execution_timeout is not None
        assert (task.retries, task.retry_delay) == (2, timedelta(seconds=600))


@pytest.mark.parametrize("dag_id", sorted(BACKUP_DAG_IDS))
def test_the_last_resort_comes_after_all_tries_of_all_tasks(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    longest = sum(
        ((task.execution_timeout + task.retry_delay) * (task.retries + 1) for task in dag.tasks),
        timedelta(),
    )
    assert dag.dagrun_timeout > longest - 10 * timedelta(seconds=600)
    assert dag.dagrun_timeout > sum((task.execution_timeout * (task.retries + 1) for task in dag.tasks), timedelta())


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_no_leaf_that_always_runs_can_turn_a_failed_run_green(bag: Any, dag_id: str) -> None:
    from airflow.sdk import TriggerRule

    always = {TriggerRule.ALL_DONE, TriggerRule.ALWAYS, TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, TriggerRule.ONE_DONE}
    tasks = {task.task_id: task for task in bag.dags[dag_id].tasks}
    for task in tasks.values():
        assert task.trigger_rule not in always
    leaves = [
        task
        for task in tasks.values()
        if not task.is_teardown and all(tasks[name].is_teardown for name in task.downstream_task_ids)
    ]
    assert [task.task_id for task in leaves] == ["close_staging"]
    assert leaves[0].trigger_rule == TriggerRule.NONE_FAILED


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_teardowns_do_not_decide_a_runs_state(bag: Any, dag_id: str) -> None:
    dag = bag.dags[dag_id]
    teardowns = {task.task_id for task in dag.tasks if task.is_teardown}
    daily = {"report_copies"} if dag_id == "pulse_messages.daily_backup" else set()
    assert teardowns == {"notify", "remove_scratch"} | daily
    assert not any(dag.get_task(name).on_failure_fail_dagrun for name in teardowns)
    assert [task.task_id for task in dag.tasks if task.is_setup] == ["prepare_scratch"]


@pytest.mark.parametrize("dag_id", sorted(DAG_IDS))
def test_one_task_at_a_time_reads_a_source_or_runs_a_server(bag: Any, dag_id: str) -> None:
    pools = {task.task_id: task.pool for task in bag.dags[dag_id].tasks if task.pool != "backups"}
    assert pools == {"dump": "pg_source", "restore_test": "scratch"}


def test_every_pool_is_one_of_the_policys_and_restores_share_none_with_backups(bag: Any) -> None:
    made = {*load_policy(SHIPPED_POLICY).pools, "default_pool"}
    pools = {dag_id: {task.pool for task in dag.tasks} for dag_id, dag in bag.dags.items()}
    # A task whose pool does not exist waits for ever, and nothing says so.
    assert set().union(*pools.values()) <= made
    for dag_id, found in pools.items():
        restores = ".restore_" in dag_id or dag_id.endswith(".backup_hold")
        assert ("restores" in found) is restores, dag_id
        # Its safety backup reads the source's server like any other.
        assert not restores or found <= {"restores", "pg_source"}
    # What says that a pool is missing must not wait in it.
    assert pools["backup_health"] == {"default_pool"}
    assert pools["pulse_messages.incremental_backup"] == {"default_pool"}


def test_every_form_can_be_read_and_none_waits_for_a_text_that_may_be_empty(bag: Any) -> None:
    """Airflow's page paints code in a help text over the line above it, and keeps its button closed while a text that
    must not be null is empty, whatever its default says.
    """
    fields = {
        (dag_id, name): dag.params.get_param(name) for dag_id, dag in bag.dags.items() for name in dag.params.dump()
    }
    assert len(fields) > 40
    assert [field for field, param in fields.items() if "`" in (param.schema.get("description_md") or "")] == []
    texts = {field: param for field, param in fields.items() if param.schema["type"] == "string"}
    assert [field for field, param in texts.items() if param.dump() == ""] == []


def test_where_slots_are_short_restores_go_first(bag: Any) -> None:
    weights = {
        name.partition(".")[2]: {(task.priority_weight, task.weight_rule) for task in dag.tasks}
        for name, dag in bag.dags.items()
        if "." in name
    }
    ordered = ("restore_database", "pre_deployment_backup", "incremental_backup", "daily_backup", "backup_verification")
    found = [weights[name] for name in ordered]
    assert [{weight for weight, _ in one} for one in found] == [{100}, {50}, {40}, {20}, {10}]
    assert {str(rule) for one in found for _, rule in one} == {"absolute"}


def test_a_sources_own_queue_and_pool_reach_its_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = yaml.safe_load(SHIPPED_POLICY.read_text())
    policy["pools"]["pg_eu"] = 1
    own = {"queue": "eu", "restore_queue": "eu_restores", "pools": {"source": "pg_eu"}}
    policy["sources"]["pulse_messages"]["scheduling"] = own
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    monkeypatch.setenv("BACKUP_POLICY", str(tmp_path / "policy.yaml"))
    dags = read_dags().dags
    assert {task.queue for task in dags["pulse_messages.daily_backup"].tasks} == {"eu"}
    assert {task.queue for task in dags["pulse_messages.restore_table"].tasks} == {"eu_restores"}
    assert dags["pulse_messages.daily_backup"].get_task("dump").pool == "pg_eu"


def test_the_daily_backup_is_due_when_the_policy_says(bag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    timetables = {name: DagSerialization.to_dict(dag)["dag"]["timetable"] for name, dag in bag.dags.items()}
    daily = timetables["pulse_messages.daily_backup"]["__var"]
    assert (daily["expression"], daily["timezone"]) == ("0 2 * * *", "UTC")
    assert timetables["pulse_messages.pre_deployment_backup"]["__type"].endswith("NullTimetable")


def test_verify_alone_announces_new_backups(bag: Any) -> None:
    for dag_id in DAG_IDS:
        dag = bag.dags[dag_id]
        outlets = {task.task_id: [asset.uri for asset in task.outlets] for task in dag.tasks if task.outlets}
        assert outlets == {"verify": ["x-backup://pulse_messages"]}


def test_a_dag_can_be_serialized_as_the_scheduler_needs_it(bag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in bag.dags.values():
        text = json.dumps(DagSerialization.to_dict(dag))
        assert all(task.task_id in text for task in dag.tasks)
