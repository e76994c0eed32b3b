"""``python -m tests.benchmarks.fleet``: 1, 10 and 50 small sources at once through the real scheduler.

For each number: how long all runs take together, and of each task how long it waited for its turn, how long it ran,
and how much of that was the step's own work. The rest is Airflow's process for the task and what it imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.backup.cli.output import columns
from tests.support.airflow_runs import ENDED, AirflowRun, start, until
from tests.support.airflow_stack import AirflowStack, running_stack
from tests.support.small_sources import SmallSource

SIZES = (1, 10, 50)
SLOTS = 8
RUN_SECONDS = 5400.0
# The steps that say what they took themselves.
TIMED = ("dump", "compress", "upload", "verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTimes:
    """One task, in seconds: until it was queued, until its process was there, its life, and the step's work in it."""

    name: str
    scheduled: float
    queued: float
    lived: float
    worked: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """What a number of sources took, in seconds; medians over the tasks."""

    sources: int
    seconds: float
    tasks: int
    seconds_per_task: float
    waited_for_slot: float
    started: float
    lived: float
    around_the_work: float
    idle_task: float
    load_average: float


def main(arguments: Sequence[str]) -> int:
    """Measure; return 0 when every run succeeded, 1 when one did not."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=list(SIZES), help="numbers of sources (1 10 50)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    sources = [SmallSource(name=f"fleet_{number}") for number in range(1, max(options.sizes) + 1)]
    figures = []
    with tempfile.TemporaryDirectory(prefix="fleet-", dir="/var/tmp") as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - PostgreSQL runs as another user when this runs as root
        _say(f"starting the stack with {len(sources)} sources")
        with running_stack(Path(folder) / "fleet", sources, broken="broken") as lab:
            start(lab.api, f"{sources[0].name}.daily_backup").wait()  # warms caches; not counted
            for size in options.sizes:
                found = measure(lab, sources[:size])
                if found is None:
                    return 1
                figures.append(found)
                _say(json.dumps(asdict(found)))
    print(json.dumps([asdict(one) for one in figures], indent=1) if options.json else "\n".join(report(figures)))
    return 0


def measure(lab: AirflowStack, sources: Sequence[SmallSource]) -> FleetFigures | None:
    """Run the daily backup of all sources at once; None when one failed."""
    began = time.monotonic()
    runs = [start(lab.api, f"{source.name}.daily_backup") for source in sources]
    until(lambda: all(run.state() in ENDED for run in runs), seconds=RUN_SECONDS, what="an end of all", pause=2)
    seconds = time.monotonic() - began
    failed = [run for run in runs if run.state() != "success"]
    for run in failed:
        _say(run.story())
    if failed:
        return None
    times = [task for run in runs for task in task_times(run)]
    return FleetFigures(
        sources=len(sources),
        seconds=round(seconds, 1),
        tasks=len(times),
        seconds_per_task=round(seconds / len(times), 2),
        waited_for_slot=_median(task.scheduled for task in times),
        started=_median(task.queued for task in times),
        lived=_median(task.lived for task in times),
        around_the_work=_median(task.lived - task.worked for task in times if task.worked is not None),
        idle_task=_median(task.lived for task in times if task.name == "close_staging"),
        load_average=round(os.getloadavg()[0], 1),
    )


def task_times(run: AirflowRun) -> Iterator[TaskTimes]:
    """Yield the times of a run's tasks that ran."""
    for name, task in run.tasks().items():
        stamps = [task[key] for key in ("scheduled_when", "queued_when", "start_date", "end_date")]
        if task["state"] != "success" or None in stamps:
            continue
        scheduled, queued, started, ended = (datetime.fromisoformat(stamp) for stamp in stamps)
        worked: Any = run.xcom(name).get("seconds") if name in TIMED else None
        yield TaskTimes(
            name=name,
            scheduled=(queued - scheduled).total_seconds(),
            queued=(started - queued).total_seconds(),
            lived=(ended - started).total_seconds(),
            worked=None if worked is None else float(worked),
        )


def report(figures: Iterable[FleetFigures]) -> Iterator[str]:
    """Yield the figures as a table."""
    rows = [
        (
            str(one.sources),
            f"{one.seconds:.0f}",
            f"{one.seconds / one.sources:.1f}",
            str(one.tasks),
            f"{one.seconds_per_task:.2f}",
            f"{one.waited_for_slot:.2f}",
            f"{one.started:.2f}",
            f"{one.lived:.2f}",
            f"{one.around_the_work:.2f}",
            f"{one.idle_task:.2f}",
            f"{one.load_average:.1f}",
        )
        for one in figures
    ]
    yield f"daily backups at once, {SLOTS} slots; seconds, medians over the tasks"
    heads = ("sources", "all", "a source", "tasks", "a task", "for a slot", "to start", "alive", "not the step's")
    yield from columns((*heads, "close_staging", "load"), rows)


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
