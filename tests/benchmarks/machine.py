"""What was measured on, and whether anything else ran there."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.rclone import rclone_program
from tests.benchmarks.site import SETTINGS, Site

LOOK_SECONDS = 1.0
# Below this share of idle time, somebody else's work is in the figures too.
QUIET = 0.9
_IDLE_FIELDS = (3, 4)  # idle and iowait, in /proc/stat
_COUNTED_FIELDS = 8


def idle_share() -> float:
    """Return the share of the processors' time that nobody used, over one second in which we do nothing."""
    before = _times()
    time.sleep(LOOK_SECONDS)
    spent = [after - start for after, start in zip(_times(), before, strict=True)]
    return sum(spent[index] for index in _IDLE_FIELDS) / max(sum(spent), 1)


def wait_until_quiet(seconds: float) -> float:
    """Wait until the machine is quiet, at most so long; return the last idle share."""
    deadline = time.monotonic() + seconds
    while (share := idle_share()) < QUIET and time.monotonic() < deadline:
        continue
    return share


def machine_facts(site: Site) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "postgresql": site.tools.version,
        "rclone": _rclone_version(),
        "server_settings": dict(SETTINGS),
        "database_bytes": site.sample.database_bytes,
        "messages_share": round(site.sample.messages_bytes / site.sample.database_bytes, 3),
        "rows": site.sample.rows,
    }


def _times() -> list[int]:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return [int(field) for field in fields[:_COUNTED_FIELDS]]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _rclone_version() -> str:
    answer = subprocess.run((rclone_program(), "version"), capture_output=True, text=True, check=True)
    return answer.stdout.split("\n", 1)[0].removeprefix("rclone ")
