"""Operators one by one: arguments, errors, and the end of a task's processes."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

from backup_operators import step as step_module
from backup_operators.archives import ARCHIVE_STEPS
from backup_operators.chain import backups_of
from backup_operators.copies import ReportCopiesOperator
from backup_operators.hook import BackupHook
from backup_operators.notify import NotifyOperator
from backup_operators.operators import CHAIN, DumpOperator, DumpToStoreOperator, UploadOperator, VerifyOperator
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator
from backup_operators.step import BackupStepOperator, step_log
from include.backup.errors import ConnectionDefinitionError, RunRefusedError, StoreUnreachableError
from include.backup.process import Command, Runner
from tests.dags.conftest import DATABASE_PASSWORD, ROOT, STORE_SECRET
from tests.dags.fakes import FakeSteps

pytestmark = pytest.mark.usefixtures("connections")
WAIT_SECONDS = 15.0


class Xcoms:
    """A task instance as far as an operator uses it."""

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


def make_context(**overrides: Any) -> Any:
    run = SimpleNamespace(
        dag_id="pulse_messages.daily_backup",
        run_id="manual__1",
        run_after=datetime(2025, 1, 19, 2, tzinfo=UTC),
        run_type="manual",
        triggering_user_name="ann",
    )
    return {"ti": Xcoms(), "dag_run": SimpleNamespace(**{**vars(run), **overrides})}


def make_upload(**overrides: Any) -> UploadOperator:
    return UploadOperator(**{"task_id": "upload", "source": "pulse_messages", "tier": "daily", **overrides})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> FakeSteps:
    fakes = FakeSteps()
    fakes.install(monkeypatch)
    monkeypatch.setattr("backup_operators.step.die_with_parent", lambda: None)
    monkeypatch.setattr("backup_operators.scratch.die_with_parent", lambda: None)
    return fakes


OPERATORS = (*CHAIN, DumpToStoreOperator, *ARCHIVE_STEPS, PrepareScratchOperator, RemoveScratchOperator, NotifyOperator)


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_take_keywords_only_and_say_what_they_do(operator: type[Any]) -> None:
    parameters = inspect.signature(inspect.unwrap(operator.__init__)).parameters
    kinds = {parameter.kind for name, parameter in parameters.items() if name != "self"}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}
    assert operator.__doc__


def test_templated_fields_are_rendered_and_not_looked_at_before(steps: FakeSteps) -> None:
    operator = make_upload(source="{{ a }}", tier="{{ b }}", release="{{ c }}", git_sha="{{ d }}")
    values = {"a": "pulse_messages", "b": "pre_deployment", "c": "1.0", "d": "0123abc"}
    operator.render_template_fields(values)  # type: ignore[arg-type]
    operator.execute(make_context())
    context = steps.contexts["upload"]
    assert (context.source.name, context.tier.name) == ("pulse_messages", "pre_deployment")
    assert context.release is not None
    assert (context.release.name, context.release.git_sha) == ("1.0", "0123abc")


def test_the_run_is_handed_on_as_airflow_knows_it(steps: FakeSteps) -> None:
    context = make_context(run_type=SimpleNamespace(value="backfill"))
    context["ti"].try_number = 3
    make_upload().execute(context)
    run = steps.contexts["upload"].run
    assert (run.run_type, run.try_number, run.triggered_by) == ("backfill", 3, "ann")
    assert run.run_after == datetime(2025, 1, 19, 2, tzinfo=UTC)


def test_an_error_that_a_retry_cannot_mend_is_not_retried(steps: FakeSteps) -> None:
    steps.failing["upload"] = RunRefusedError("a backfill cannot read the past; trigger a new run instead")
    context = make_context()
    with pytest.raises(AirflowFailException, match="RunRefusedError: a backfill cannot read the past"):
        make_upload().execute(context)
    assert context["ti"].pushed["failure"]["retry"] is False


def test_any_other_error_is_raised_as_it_is_so_that_it_is_retried(steps: FakeSteps) -> None:
    steps.failing["upload"] = StoreUnreachableError("away")
    context = make_context()
    with pytest.raises(StoreUnreachableError):
        make_upload().execute(context)
    assert context["ti"].pushed == {"failure": {"error": "StoreUnreachableError", "message": "away", "retry": True}}


def test_a_timeout_says_how_long_it_was(steps: FakeSteps) -> None:
    steps.failing["upload"] = AirflowTaskTimeout("Timeout, PID: 1")
    context = make_context()
    with pytest.raises(AirflowTaskTimeout):
        make_upload(execution_timeout=timedelta(hours=4)).execute(context)
    assert context["ti"].pushed["failure"]["message"] == "took longer than 4:00:00"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "other"}, "UnknownSourceError: .*it has pulse_messages"),
        ({"tier": "fortnightly"}, "UnknownTierError: .*it has daily, "),
        ({"release": "1.0"}, "ParameterError: git_sha '' is not allowed"),
        ({"release": "$(reboot)", "git_sha": "0123abc"}, "ParameterError: release .* is not allowed"),
        ({"release": "1.0", "git_sha": "'; DROP TABLE users; --"}, "ParameterError: git_sha .* is not allowed"),
    ],
)
def test_bad_input_fails_at_once_with_a_clear_error(steps: FakeSteps, change: dict[str, str], words: str) -> None:
    with pytest.raises(AirflowFailException, match=words):
        make_upload(**change).execute(make_context())
    assert steps.ran == []


@pytest.mark.parametrize("variable", ["BACKUP_STAGING_DIR", "BACKUP_SCRATCH_DIR"])
def test_a_missing_folder_setting_is_named(steps: FakeSteps, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.delenv(variable)
    with pytest.raises(AirflowFailException, match=f"{variable} is not set; set it to a folder"):
        make_upload().execute(make_context())


def test_a_step_that_had_nothing_to_do_returns_nothing(steps: FakeSteps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.steps.dump.run", lambda ctx: None)
    operator = DumpOperator(task_id="dump", source="pulse_messages", tier="daily")
    assert operator.execute(make_context()) == {}


def test_verify_puts_the_backups_id_and_tier_into_its_event(steps: FakeSteps) -> None:
    asset = backups_of("pulse_messages")
    operator = VerifyOperator(task_id="verify", source="pulse_messages", tier="daily", asset=asset)
    event = SimpleNamespace(extra={})
    report = operator.execute({**make_context(), "outlet_events": {asset: event}})
    assert event.extra == {"backup_id": report["backup_id"], "tier": "daily"}
    assert operator.outlets == [Asset(name="pulse_messages_backups", uri="x-backup://pulse_messages", group="backups")]


def test_connections_are_read_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BackupHook().database("pulse_messages_db").password == DATABASE_PASSWORD
    assert BackupHook().store("pulse_backups_s3").secret_key == STORE_SECRET
    monkeypatch.setenv("AIRFLOW_CONN_PULSE_MESSAGES_DB", "postgres://u:p@h/d?options=-c%20row_security%3Don")
    with pytest.raises(ConnectionDefinitionError, match="has the extra options; allowed: sslmode, sslrootcert"):
        BackupHook().database("pulse_messages_db")


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(ConnectionDefinitionError, match="there is no connection nowhere; add it under Admin"):
        BackupHook().database("nowhere")


@pytest.mark.parametrize("prove", ["", "true", "None", "False; rm"])
def test_a_proof_is_wanted_or_not_and_nothing_else(steps: FakeSteps, prove: str) -> None:
    operator = PrepareScratchOperator(task_id="p", prove=prove, lease=timedelta(hours=1))
    with pytest.raises(AirflowFailException, match="allowed: True, False"):
        operator.execute(make_context())


def test_a_proof_that_is_not_wanted_is_skipped(steps: FakeSteps) -> None:
    with pytest.raises(AirflowSkipException, match="not yet proven"):
        PrepareScratchOperator(task_id="p", prove="False", lease=timedelta(hours=1)).execute(make_context())


def test_removing_scratch_twice_is_no_error_and_removes_what_a_dead_worker_left(
    steps: FakeSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.backup.proof.scratch_lease import Lease

    monkeypatch.setenv("BACKUP_SCRATCH_DIR", str(tmp_path / "scratch"))
    operator = RemoveScratchOperator(task_id="r", lease=timedelta(hours=1))
    assert operator.execute(make_context()) == {"removed": []}
    dead, living = tmp_path / "scratch" / "scratch-0000dead", tmp_path / "scratch" / "scratch-0000babe"
    for folder in (dead, living):
        folder.mkdir()
    now = datetime.now(UTC)
    Lease.of_this_process(now=now).write(living)
    child = subprocess.run((sys.executable, "-c", "import os; print(os.getpid())"), capture_output=True, check=True)
    gone = Lease(pid=int(child.stdout), process_started=1, created=now.isoformat(), hostname=os.uname().nodename)
    gone.write(dead)
    assert operator.execute(make_context()) == {"removed": ["scratch-0000dead"]}
    assert living.exists()
    assert operator.execute(make_context()) == {"removed": []}


def test_killing_a_task_ends_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = make_upload()
    operator.on_kill()
    operator._runner = Runner(log=step_log())
    child = operator._runner._start(Command(argv=("sleep", "600")), None, None)
    operator.on_kill()
    assert child.wait(WAIT_SECONDS) == -signal.SIGTERM


WORKER = """
import os, subprocess, sys, time
task = subprocess.Popen((sys.executable, "-c", '''
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: None)
from backup_operators.lifeline import die_with_parent
die_with_parent()
print("ready", flush=True)
while True:
    time.sleep(0.05)
'''), stdout=subprocess.PIPE, text=True)
task.stdout.readline()
print(task.pid, flush=True)
time.sleep(600)
"""


def test_a_task_dies_with_its_worker_even_while_it_ignores_sigterm() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    worker = subprocess.Popen((sys.executable, "-c", WORKER), stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert worker.stdout is not None
        task = int(worker.stdout.readline())
        assert is_alive(task)
        worker.kill()
        worker.wait(WAIT_SECONDS)
        deadline = time.monotonic() + WAIT_SECONDS
        while is_alive(task) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(task)
    finally:
        worker.kill()
        worker.wait(WAIT_SECONDS)
        if worker.stdout is not None:
            worker.stdout.close()


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_first_thing_a_task_does_is_to_tie_itself_to_its_worker(
    steps: FakeSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr("backup_operators.step.die_with_parent", lambda: order.append("tied"))
    monkeypatch.setattr(
        step_module, "load_policy", lambda *_, **__: order.append("policy") or pytest.fail("read first")
    )
    with pytest.raises(pytest.fail.Exception):
        make_upload().execute(make_context())
    assert order[0] == "tied"


def test_every_step_of_the_core_has_its_operator() -> None:
    folder = ROOT / "include" / "backup" / "steps"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "context"}
    operators = (*CHAIN, DumpToStoreOperator, *ARCHIVE_STEPS, ReportCopiesOperator)
    assert {operator.step for operator in operators} == modules
    assert all(issubclass(operator, BackupStepOperator) for operator in operators)
