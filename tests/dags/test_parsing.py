"""Reading the DAG files: what a broken policy does to them, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.backup.policy import SHIPPED_POLICY, load_policy
from tests.dags.bag import read_dags
from tests.dags.conftest import ROOT

MODULES_THAT_ARE_SLOW = ("boto3", "botocore", "psycopg", "slack_sdk", "airflow.providers", "pandas")


def renamed(own: str, name: str) -> str:
    return own.replace("pulse_messages:", f"{name}:", 1)


def three_sources(change: Callable[[str], str]) -> str:
    text = SHIPPED_POLICY.read_text()
    head, own = text[: text.index("  pulse_messages:")], text[text.index("  pulse_messages:") :]
    return head + "".join(
        change(own) if name == "second" else renamed(own, name) for name in ("first", "second", "third")
    )


def of_sources(bag: Any) -> set[str]:
    """Return the DAGs that each source has of its own; those of the fleet stand outside."""
    return {dag_id for dag_id in bag.dags if "." in dag_id}


def test_one_broken_source_of_three_leaves_the_other_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        three_sources(lambda own: own.replace("pulse_messages:", "second:", 1).replace("7 days", "7 hours"))
    )
    monkeypatch.setenv("BACKUP_POLICY", str(policy))
    assert set(load_policy(policy).rejected) == {"second"}
    bag = read_dags()
    assert bag.import_errors == {}
    own = of_sources(bag)
    names = {dag_id.partition(".")[2] for dag_id in own}
    assert {"daily_backup", "pre_deployment_backup"} <= names
    assert own == {f"{source}.{name}" for source in ("first", "third") for name in names}


def test_a_source_without_a_tier_has_no_dag_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = SHIPPED_POLICY.read_text()
    policy = tmp_path / "policy.yaml"
    policy.write_text(text[: text.rindex("      pre_deployment:")])
    monkeypatch.setenv("BACKUP_POLICY", str(policy))
    bag = read_dags()
    assert bag.import_errors == {}
    assert "pulse_messages.daily_backup" in bag.dags
    assert "pulse_messages.pre_deployment_backup" not in bag.dags


def test_a_policy_that_cannot_be_read_is_an_import_error_that_names_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("format_version: 2\nsources: {}\n")
    monkeypatch.setenv("BACKUP_POLICY", str(policy))
    errors = read_dags().import_errors
    assert len(errors) == len(list((ROOT / "dags").glob("*.py")))
    assert all("policy.yaml:1: " in text and "allowed: 1" in text for text in errors.values())


def test_a_process_that_needs_one_dag_makes_only_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(three_sources(lambda own: renamed(own, "second")))
    monkeypatch.setenv("BACKUP_POLICY", str(policy))
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "second.daily_backup")
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "dump")
    assert of_sources(read_dags()) == {"second.daily_backup"}


def test_the_plugin_manager_does_not_run_our_modules_under_their_bare_names() -> None:
    from airflow import plugins_manager

    plugins_manager.ensure_plugins_loaded()
    folder = str(ROOT / "plugins")
    ours = [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(folder)]
    assert "backup_operators.slack" in ours
    assert [name for name in ours if not name.startswith("backup_operators")] == []


PARSE = """
import json, pathlib, socket, sys, time
import airflow.sdk
from airflow.sdk import DAG, Asset, BaseHook, BaseOperator, CronTriggerTimetable, Param, TriggerRule, chain
from airflow.sdk import conf, get_parsing_context
from airflow.sdk import exceptions
# Airflow's own operators, which some DAGs take; they bring what they need, and open /dev/null to look at it.
from airflow.providers.standard.operators import empty, hitl, trigger_dagrun
before, opened, connected = set(sys.modules), [], []
def audit(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        opened.append(str(args[0]))
    elif event.startswith("socket.") and event not in ("socket.gethostname",):
        connected.append(event)
    elif event in ("os.mkdir", "os.remove", "os.rename", "subprocess.Popen", "os.posix_spawn", "os.fork"):
        opened.append(event)
sys.dont_write_bytecode = True
sys.addaudithook(audit)
import importlib.util
seconds = {}
for name in sorted(path.stem for path in pathlib.Path("dags").glob("*.py")):
    started = time.process_time()
    spec = importlib.util.spec_from_file_location(name, f"dags/{name}.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    seconds[name] = time.process_time() - started
modules = sorted(set(sys.modules) - before)
print(json.dumps({"modules": modules, "opened": opened, "connected": connected, "seconds": seconds}))
"""


@pytest.fixture(scope="module")
def parsed() -> dict[str, Any]:
    answer = subprocess.run(
        (sys.executable, "-c", PARSE),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_parsing_imports_nothing_slow(parsed: dict[str, Any]) -> None:
    slow = [name for name in parsed["modules"] if name.startswith(MODULES_THAT_ARE_SLOW)]
    assert slow == []
    assert "backup_operators.chain" in parsed["modules"]


def test_parsing_takes_little_time(parsed: dict[str, Any]) -> None:
    """The first file also imports what all share."""
    assert set(parsed["seconds"]) == {path.stem for path in (ROOT / "dags").glob("*.py")}
    first, *others = parsed["seconds"].values()
    assert first < 3.0
    assert max(others) < 0.5


def test_parsing_writes_no_file_and_opens_no_socket(parsed: dict[str, Any]) -> None:
    assert parsed["opened"] == []
    assert parsed["connected"] == []
