"""Many sources: what fifty of them cost to read, and that one more is six lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.backup.policy import SHIPPED_POLICY, load_policy
from tests.dags.conftest import ROOT

SOURCES = 50
# Processor time, not the clock's: the machine has other work.
MEASURE = """
import importlib.util, json, sys, time
from pathlib import Path
import airflow.sdk
from airflow.sdk import CronTriggerTimetable, Param
import backup_operators.chain
from include.backup.policy import load_policy
policy, folder = Path(sys.argv[1]), Path(sys.argv[2])
import os
os.environ["BACKUP_POLICY"] = str(policy)
started = time.process_time()
found = load_policy(policy)
seconds = {"policy": time.process_time() - started}
last = list(found.sources)[-1]
started = time.process_time()
assert load_policy(policy, only=last).source(last) == found.source(last)
alone = time.process_time() - started
for file in sorted(folder.glob("*.py")):
    started = time.process_time()
    spec = importlib.util.spec_from_file_location(file.stem, file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    seconds[file.stem] = time.process_time() - started
rejected = [str(error) for error in found.rejected.values()]
print(json.dumps({"sources": len(found.sources), "rejected": rejected, "seconds": seconds, "alone": alone}))
"""
SIX_LINES = """\
  another:
    connection: another_db
    store: {connection: pulse_backups_s3, bucket: pulse-backups, encryption: {sse: AES256}}
    tiers:
      daily: {schedule: {cron: "10 2 * * *", timezone: UTC}, keep: 7 days, prefix: daily/}
      weekly: {schedule: {cron: "10 1 * * 0", timezone: UTC}, keep: 4 weeks, prefix: weekly/}
"""


def policy_of(count: int, folder: Path) -> Path:
    data = yaml.safe_load(SHIPPED_POLICY.read_text())
    own = json.dumps(data["sources"]["pulse_messages"])
    for number in range(1, count):
        data["sources"][f"source_{number}"] = json.loads(own)
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("fleet")
    answer = subprocess.run(
        (sys.executable, "-c", MEASURE, str(policy_of(SOURCES, folder)), str(ROOT / "dags")),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def test_fifty_sources_are_read_within_a_second(measured: dict[str, Any]) -> None:
    assert (measured["sources"], measured["rejected"]) == (SOURCES, [])
    assert measured["seconds"]["policy"] < 1.0


def test_a_task_does_not_pay_for_the_other_sources(measured: dict[str, Any]) -> None:
    assert measured["alone"] < measured["seconds"]["policy"] / 2


def test_all_dag_files_of_fifty_sources_are_imported_within_five_seconds(measured: dict[str, Any]) -> None:
    assert set(measured["seconds"]) > {"policy", "daily_backup"}
    assert sum(measured["seconds"].values()) < 5.0


def test_one_more_source_is_six_lines(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(SHIPPED_POLICY.read_text().rstrip() + "\n" + SIX_LINES)
    policy = load_policy(path, strict=True)
    assert set(policy.source("another").tiers) == {"daily", "weekly"}
    assert len(SIX_LINES.splitlines()) == 6


def test_a_schedule_can_leave_the_minute_to_the_source_so_that_not_all_are_due_at_once(tmp_path: Path) -> None:
    path = policy_of(SOURCES, tmp_path)
    path.write_text(path.read_text().replace("cron: 0 2 * * *", "cron: H 2 * * *"))
    policy = load_policy(path, strict=True)
    schedules = [source.tier("daily").schedule for source in policy.sources.values()]
    minutes = [int(schedule.cron.split()[0]) for schedule in schedules if schedule is not None]
    assert len(minutes) == SOURCES
    assert len(set(minutes)) > SOURCES // 2
    assert max(minutes.count(minute) for minute in minutes) <= 5


def test_a_policy_that_was_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(SHIPPED_POLICY.read_text())
    before = load_policy(path)
    assert load_policy(path) is before
    path.write_text(SHIPPED_POLICY.read_text().replace("keep: 7 days", "keep: 9 days", 1))
    assert str(load_policy(path).source("pulse_messages").tier("daily").keep) == "9 days"
