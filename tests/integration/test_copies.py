"""The report of copies on real backups, and on what the stand-in for Supabase's API says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.copies.report import read_report, shown_path
from include.backup.policy import SourcePolicy
from include.backup.steps import report_copies, verify
from include.backup.supabase.connection import SupabaseConnection
from include.backup.supabase.daily import DailyState
from include.backup.supabase.project import SupabaseProject
from include.local.stack import Stack
from include.local.supabase_api import PROJECT_REF
from tests.support.command_line import SOURCE, CommandLine
from tests.support.contexts import ContextMaker, make_run, run_chain

pytest_plugins = ["tests.support.cli_fixtures"]


@pytest.fixture
def usual(stack: Stack) -> Iterator[None]:
    """Let Supabase's own backup of today have been taken hours ago, and the stand-in answer as usual afterwards."""
    due = datetime.now(UTC) - timedelta(hours=12)
    stack.supabase.change(schedule_for=f"{due:%H:%M}:00")
    yield
    stack.supabase.forget_faults()
    stack.supabase.change(backups=None, pitr_enabled=False, schedule_for="02:00:00")


def project(stack: Stack) -> SupabaseProject:
    connection = SupabaseConnection.from_spec(stack.settings().connection("pulse_supabase"))
    return SupabaseProject.open(connection, PROJECT_REF, deadline_seconds=5)


@pytest.mark.usefixtures("usual")
def test_a_proven_backup_makes_three_copies_and_the_record_is_stored_once(
    stack: Stack, make_context: ContextMaker, policy_source: SourcePolicy
) -> None:
    alone = replace(policy_source, name="copied")
    ctx = replace(make_context, source=alone)(run=make_run())
    before = report_copies.run(ctx, open_project=lambda: project(stack)).report
    assert (before.counted, before.met) == (1, False)  # Supabase's own only: nothing of ours has read the original

    run_chain(ctx)
    other = replace(make_context, source=alone)(run=make_run())
    found = report_copies.run(other, open_project=lambda: project(stack))

    assert found.report.supabase.state is DailyState.COMPLETED
    assert (found.report.counted, found.report.kinds) == (3, 2)
    assert found.report.off_site == 0  # the embedded store is on this machine, and the report does not pretend
    assert ctx.backup_id in found.report.copies[2].proof
    assert "NOT met" in found.line()
    assert found.note() == ""  # nothing is wrong that a person could put right today
    stored = other.store.get(shown_path("copied", other.run.run_after))
    assert read_report(stored, name="x") == found.report
    stack.supabase.change(backups=[])
    again = report_copies.run(other, open_project=lambda: project(stack))
    assert again.report.supabase.state is DailyState.MISSING
    assert other.store.get(shown_path("copied", other.run.run_after)) == stored


@pytest.mark.usefixtures("usual")
def test_an_unproven_backup_does_not_count(
    stack: Stack, make_context: ContextMaker, policy_source: SourcePolicy
) -> None:
    ctx = replace(make_context, source=replace(policy_source, name="unproven"))()
    run_chain(ctx, until=verify)
    found = report_copies.run(ctx, open_project=lambda: project(stack)).report
    assert found.copies[2].problem == (f"no backup in s3://pulse-backups is proven; the newest is {ctx.backup_id}")
    assert found.counted == 2


@pytest.mark.usefixtures("usual")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 401, "times": 9}, "401"),
        ({"status": 429, "retry_after": "3600", "times": 9}, "wait 3600 s"),
        ({"status": 503, "times": 99}, "503"),
        ({"status": 200, "text": "[]", "times": 9}, "another form"),
    ],
)
def test_an_api_that_fails_is_told_and_the_rest_of_the_report_is_made(
    stack: Stack, make_context: ContextMaker, fault: dict[str, object], words: str
) -> None:
    stack.supabase.fail(**fault)
    found = report_copies.run(make_context(), open_project=lambda: project(stack))
    assert found.report.supabase.state is DailyState.NOT_ASKED
    assert words in found.report.supabase.text
    assert "could not be asked" in found.note()


@pytest.mark.usefixtures("usual", "taken")
def test_the_command_line_shows_the_same(cli: CommandLine, stack: Stack) -> None:
    answer = cli.run("copies", SOURCE, "--json")
    assert answer.code == 0, answer.err
    assert (answer.document["copies"], answer.document["supabase"]) == (3, "completed")
    assert stack.supabase.token not in answer.out + answer.err
    stack.supabase.change(pitr_enabled=True)
    plain = cli.here("copies", SOURCE)
    assert "replaced by point-in-time recovery" in plain.out
    assert "3-2-1" in plain.out
