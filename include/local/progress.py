"""Show how a run goes on: a live table on a terminal, one line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from include.local.run import RunView, TaskView

SIGNS = {"success": "[green]✔[/]", "failed": "[red]✘[/]", "running": "[yellow]▶[/]", "upstream_failed": "[red]–[/]"}


class Progress(Protocol):
    """What the demo tells while it works."""

    def say(self, line: str) -> None: ...
    def show(self, view: RunView) -> None: ...


class PlainProgress:
    """One line for each thing said and each change of a task, with the seconds since the beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._run = ("", "")
        self._states: dict[str, str] = {}

    def say(self, line: str) -> None:
        passed = time.monotonic() - self._started
        self._console.print(f"{passed:6.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)

    def show(self, view: RunView) -> None:
        if (view.dag_id, view.run_id) != self._run:
            self._run, self._states = (view.dag_id, view.run_id), {}
        if view.state != self._states.get(""):
            self._states[""] = view.state
            self.say(f"run {view.run_id} is {view.state}")
        for task in view.tasks:
            if task.state != self._states.get(task.task_id, "waiting"):
                self._states[task.task_id] = task.state
                self.say(f"{task.task_id:<16} {task.state}{_seconds(task)}")


class LiveProgress(PlainProgress):
    """Lines for what is said, and a table of the tasks that is redrawn in place."""

    def __init__(self, console: Console, live: Live) -> None:
        super().__init__(console)
        self._live = live

    def show(self, view: RunView) -> None:
        self._live.update(task_table(view), refresh=True)


@contextmanager
def progress_on(console: Console) -> Iterator[Progress]:
    """Give the progress that fits the console."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield LiveProgress(console, live)


def task_table(view: RunView) -> Table:
    """Return the tasks of a run with their states."""
    table = Table(title=f"{view.dag_id}  {view.state}", title_justify="left", box=None, show_header=False)
    for task in view.tasks:
        seconds = _seconds(task).strip() or _so_far(task)
        table.add_row(SIGNS.get(task.state, "[dim]·[/]"), task.task_id, task.state, seconds)
    return table


def _seconds(task: TaskView) -> str:
    return "" if task.seconds is None else f"  {task.seconds:.1f} s"


def _so_far(task: TaskView) -> str:
    if task.state != "running" or task.started_at is None:
        return ""
    return f"{max((datetime.now(UTC) - task.started_at).total_seconds(), 0):.0f} s"
