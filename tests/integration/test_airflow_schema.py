"""The schema's history and the critical tables under the real scheduler."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.local.s3 import BUCKET
from tests.support.airflow_runs import AirflowRun
from tests.support.airflow_stack import AirflowStack
from tests.support.git_servers import git

SOURCE = "history"
DAG_ID = f"{SOURCE}.schema_backup"
RELEASE = {"release": "2026.11.3", "git_sha": "0123abc", "wait_for_proof": False}
PLANTED = """
ALTER TABLE public.customers ADD email text;
CREATE FUNCTION public.call_out() RETURNS text LANGUAGE plpgsql AS
$$ DECLARE api_key text := 'CANARY-in-a-body'; BEGIN RETURN 'x'; END $$
"""


@dataclass(kw_only=True)
class Told:
    """A run that has ended, and what Slack got meanwhile."""

    run: AirflowRun
    state: str
    texts: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class History:
    """What happened to one source's schema, in order."""

    lab: AirflowStack
    runs: dict[str, Told] = field(default_factory=dict)

    @property
    def remote(self) -> Path:
        return self.lab.schema_remote(SOURCE)

    def back_up(self, name: str) -> None:
        before = len(self.lab.stack.slack.messages())
        run = self.lab.run(DAG_ID)
        state = run.wait()
        self.runs[name] = Told(run=run, state=state, texts=self._about(before))

    def clear(self, name: str, again: str) -> None:
        before = len(self.lab.stack.slack.messages())
        run = self.runs[name].run
        run.clear("commit_schema")
        run.wait_for("notify", "success")
        self.runs[again] = Told(run=run, state=run.wait(), texts=self._about(before))

    def _about(self, before: int) -> list[str]:
        texts = [str(entry["message"]["text"]) for entry in self.lab.stack.slack.messages()[before:]]  # type: ignore[index]
        return [text for text in texts if f"*{SOURCE}* schema" in text]


@pytest.fixture(scope="module")
def tables(airflow_stack: AirflowStack) -> AirflowRun:
    """A run of the critical tables, which goes on while the schema's runs do."""
    return airflow_stack.run(f"{SOURCE}.critical_tables_backup")


@pytest.fixture(scope="module")
def shipped(airflow_stack: AirflowStack) -> list[AirflowRun]:
    """The same two DAGs of the shipped policy and settings, as the demo runs them."""
    return [airflow_stack.run(f"pulse_messages.{name}") for name in ("schema_backup", "critical_tables_backup")]


@pytest.fixture(scope="module")
def history(airflow_stack: AirflowStack, tables: AirflowRun, shipped: list[AirflowRun]) -> History:
    found = History(lab=airflow_stack)
    guard = airflow_stack.run(f"{SOURCE}.pre_deployment_backup", RELEASE)
    assert guard.wait() == "success", guard.story()
    assert tables.wait() == "success", tables.story()
    found.back_up("first")
    with psycopg.connect(airflow_stack.conninfo(SOURCE)) as session:
        session.execute(PLANTED)
    found.back_up("changed")
    return found


@pytest.fixture(scope="module")
def later(history: History, airflow_stack: AirflowStack) -> History:
    """The same source, as it goes on: nothing changes, then the remote is away."""
    history.back_up("unchanged")
    with psycopg.connect(airflow_stack.conninfo(SOURCE)) as session:
        session.execute("ALTER TABLE public.customers ADD phone text")
    away = history.remote.rename(history.remote.with_name("away.git"))
    history.back_up("failed")
    away.rename(history.remote)
    history.clear("failed", "cleared")
    return history


def test_the_first_run_commits_all_and_equals_the_release(history: History) -> None:
    first = history.runs["first"]
    assert first.state == "success", first.run.story()
    report = first.run.xcom("commit_schema")
    assert (report["first"], report["removed"], report["changed"]) == (True, 0, 0)
    assert first.run.xcom("announce_drift")["objects"] == 0
    (text,) = first.texts
    assert text.startswith(f"✅ *{SOURCE}* schema: first schema, {report['added']} added")


def test_drift_from_the_release_is_told_with_the_diff_and_without_the_secret(history: History) -> None:
    changed = history.runs["changed"]
    assert changed.state == "success", changed.run.story()
    drift, done = changed.texts
    assert f"*{SOURCE}* schema differs from the one before release *2026.11.3*" in drift
    assert "• added: FUNCTION public.call_out()" in drift
    assert "• changed: TABLE public.customers" in drift
    assert "+    email text" in drift
    assert "api_key text := '***'" in drift
    assert done.startswith(f"✅ *{SOURCE}* schema: ")
    assert changed.run.xcom("announce_drift")["announced"] is True
    subjects = git(history.remote, "log", "--format=%s", "main").splitlines()
    assert subjects[-2] == f"{SOURCE}: 1 FUNCTION added, 1 TABLE changed"


@pytest.mark.long
def test_nothing_changed_is_no_commit_and_no_message(later: History) -> None:
    unchanged = later.runs["unchanged"]
    assert (unchanged.state, unchanged.texts) == ("success", [])
    assert unchanged.run.xcom("commit_schema")["commit"] is None


@pytest.mark.long
def test_a_remote_that_is_gone_is_told_with_the_next_step_and_the_cleared_run_loses_nothing(later: History) -> None:
    failed = later.runs["failed"]
    assert failed.state == "failed"
    assert failed.run.task("commit_schema")["try_number"] == 2  # the second is that of the clear
    (text,) = failed.texts
    assert f"❌ *{SOURCE}* schema backup *failed* at `commit_schema`" in text
    assert "GitRepositoryMissingError" in text
    assert "correct the connection's host, or make the repository" in text
    cleared = later.runs["cleared"]
    assert cleared.state == "success", cleared.run.story()
    assert any("+    phone text" in message for message in cleared.texts)
    subjects = git(later.remote, "log", "--format=%s", "main").splitlines()
    assert subjects[0] == f"{SOURCE}: TABLE public.customers changed"
    assert len(subjects) == 3


def test_no_secret_is_in_the_repository_a_log_or_slack(history: History) -> None:
    layout = history.lab.stack.layout
    everything = git(history.remote, "log", "-p", "--all")
    assert "call_out" in everything
    places = [everything, *(text for told in history.runs.values() for text in told.texts)]
    places += [path.read_text(errors="replace") for path in layout.logs.rglob("*") if path.is_file()]
    assert not [text[:200] for text in places if "CANARY" in text]
    assert not any(b"CANARY" in path.read_bytes() for path in layout.staging.rglob("*.sql"))
    assert history.lab.secrets_in(everything) == []


def test_the_shipped_policy_and_settings_do_without_anything_else(
    history: History, shipped: list[AirflowRun], airflow_stack: AirflowStack
) -> None:
    for run in shipped:
        assert run.wait() == "success", run.story()
    remote = airflow_stack.stack.layout.schema_remote
    assert "CREATE TABLE public.messages (" in git(remote, "show", "main:pulse_messages/schema.sql")
    (proof,) = airflow_stack.proofs_of(shipped[1].backup_id_of(kind="tables"))
    assert (proof["result"], len(proof["tables"])) == ("passed", 4), proof["differences"]


def test_the_critical_tables_are_proven_and_lie_where_the_policy_says(
    history: History, tables: AirflowRun, airflow_stack: AirflowStack
) -> None:
    backup_id = tables.backup_id_of(kind="tables")
    body = airflow_stack.s3.get_object(Bucket=BUCKET, Key=f"tables/{backup_id}.manifest.json")["Body"].read()
    manifest: dict[str, Any] = json.loads(body)
    held = {member["table_data"]["table"] for member in manifest["members"] if member["table_data"]}
    assert (held, manifest["dump"]["tables"]) == ({"customers", "orders"}, ["public.customers", "public.orders"])
    (proof,) = airflow_stack.proofs_of(backup_id)
    assert (proof["result"], proof["level"]) == ("passed", "data"), proof["differences"]
    assert any("customers_region_fkey refers to public.regions" in text for text in proof["not_proven"])
    assert airflow_stack.staged(SOURCE) == []
