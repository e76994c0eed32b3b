"""Whole runs of the real DAGs in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DAILY, GUARD = "pulse_messages.daily_backup", "pulse_messages.pre_deployment_backup"
RELEASE = {"release": "2025.3.1", "git_sha": "0123abc"}
WORK = ("preflight", "dump", "compress", "upload", "verify", "prepare_scratch", "restore_test", "close_staging")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that has ended."""

    state: str
    tasks: dict[str, str]
    run: Any

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        (ti,) = [ti for ti in self.run.get_task_instances() if ti.task_id == task_id]
        return ti.xcom_pull(task_ids=task_id, key=key)


Runner = Callable[..., Ended]
