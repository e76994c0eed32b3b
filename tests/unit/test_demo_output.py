"""What the demo prints while it follows its runs, one after the other."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from rich.console import Console

from include.local.progress import PlainProgress
from include.local.run import RunView, TaskView


def view(dag_id: str, state: str, **tasks: str) -> RunView:
    return RunView(
        dag_id=dag_id,
        run_id="demo__1",
        state=state,
        run_after=datetime(2026, 6, 10, tzinfo=UTC),
        tasks=tuple(
            TaskView(task_id=task_id, state=found, seconds=None, started_at=None, try_number=1)
            for task_id, found in tasks.items()
        ),
    )


def test_a_second_run_is_told_from_its_beginning_and_not_as_a_change_of_the_first() -> None:
    text = io.StringIO()
    progress = PlainProgress(Console(file=text))
    for shown in (
        view("daily", "running", dump="success"),
        view("weekly", "running", dump="waiting"),
        view("weekly", "running", dump="success"),
        view("weekly", "success", dump="success"),
    ):
        progress.show(shown)
    lines = [line.partition(" s  ")[2].split() for line in text.getvalue().splitlines()]
    assert lines == [
        ["run", "demo__1", "is", "running"],
        ["dump", "success"],
        ["run", "demo__1", "is", "running"],
        ["dump", "success"],
        ["run", "demo__1", "is", "success"],
    ]
