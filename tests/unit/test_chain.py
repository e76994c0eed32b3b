"""A run of the command line: who it is, what it leaves when it fails, how it goes on."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from include.backup import chain
from include.backup.chain import kept_run, new_run, run_chain
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import ParameterError, StoreUnreachableError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.process import Runner
from include.backup.steps.context import Release, StepContext

NOW = datetime(2025, 1, 19, 2, 0, 1, 234567, tzinfo=UTC)


class Report:
    def to_dict(self) -> dict[str, Any]:
        return {"bytes": 5}

    def line(self) -> str:
        return "done"


@pytest.fixture
def ctx(tmp_path: Path) -> StepContext:
    source = load_policy(SHIPPED_POLICY).source("pulse_messages")
    return StepContext(
        source=source,
        tier=source.tier("daily"),
        run=new_run(clock=lambda: NOW),
        database=DatabaseConnection(host="h", port=1, dbname="d", user="u"),
        store_connection=StoreConnection(
            region="us-east-1", endpoint_url=None, access_key=None, secret_key=None, ca_bundle=None
        ),
        staging_root=tmp_path,
        scratch_root=tmp_path,
        runner=Runner(),
        log=logging.getLogger("tests"),
        release=Release(name="1.0", git_sha="4f2c91e"),
    )


def steps(monkeypatch: pytest.MonkeyPatch, fail_at: str | None = None, **actions: Any) -> list[str]:
    """Replace the steps' work; return a list that will hold their names in the order in which they ran."""
    ran: list[str] = []

    def make(step: ModuleType) -> Any:
        name = step.__name__.rsplit(".", 1)[-1]

        def run(ctx: StepContext) -> Report:
            ran.append(name)
            actions.get(name, lambda ctx: None)(ctx)
            if name == fail_at:
                raise StoreUnreachableError("the store is away")
            return Report()

        return run

    for step in chain.CHAIN:
        monkeypatch.setattr(step, "run", make(step))
    return ran


def go(ctx: StepContext, *, prove: bool = True) -> dict[str, dict[str, Any]]:
    return run_chain(ctx, prove=prove, on_step=lambda name: None, on_report=lambda name, report: None)


def test_a_run_is_named_by_its_time_and_by_who_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.chain.getpass.getuser", lambda: "ana")
    run = new_run(clock=lambda: NOW)
    assert run.dag_id == "command_line"
    assert run.run_id == "command_line__2025-01-19T02:00:01.234567+0000__ana"
    assert (run.run_after, run.triggered_by) == (NOW, "ana")


def test_a_uid_without_a_name_can_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("include.backup.chain.getpass.getuser", nobody)
    assert new_run(clock=lambda: NOW).triggered_by == "unknown"


def test_all_steps_run_in_the_order_of_the_chain(ctx: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = steps(monkeypatch)
    reports = go(ctx)
    assert ran == ["preflight", "dump", "compress", "upload", "verify", "restore_test", "close_staging"]
    assert reports["dump"] == {"bytes": 5}


def test_the_proof_can_be_left_out(ctx: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = steps(monkeypatch)
    go(ctx, prove=False)
    assert "restore_test" not in ran
    assert ran[-1] == "close_staging"


def test_a_run_that_failed_before_its_dump_leaves_nothing(ctx: StepContext, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(monkeypatch, fail_at="dump")
    with pytest.raises(StoreUnreachableError):
        go(ctx)
    assert not ctx.staging.exists()


def test_a_run_that_failed_after_its_dump_can_go_on_as_the_same_run(
    ctx: StepContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps(monkeypatch, fail_at="upload", dump=lambda ctx: ctx.staging.dump.mkdir())
    with pytest.raises(StoreUnreachableError):
        go(ctx)
    kept = kept_run(tmp_path, ctx.backup_id)
    assert kept.identity() == ctx.run
    assert kept.guarded() == ctx.release


def test_a_run_never_removes_the_staging_in_which_another_process_works(
    ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(monkeypatch, fail_at="preflight")
    ctx.staging.make()
    with ctx.staging.locked(), pytest.raises(StoreUnreachableError):
        go(ctx)
    assert ctx.staging.exists()


def test_what_is_not_in_staging_cannot_be_resumed(ctx: StepContext, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="start a new one"):
        kept_run(tmp_path, ctx.backup_id)
    with pytest.raises(ParameterError, match="is no backup id"):
        kept_run(tmp_path, "../elsewhere")
