"""The demo in one container: what ``make demo`` shows, then the UI stays up until the container is stopped."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from rich.console import Console

from include.backup.errors import BackupError
from include.local.demo import run_demo, summary_lines
from include.local.layout import DEFAULT_PORT_BASE
from include.local.stack import DEFAULT_SAMPLE_MB, Stack

# Docker publishes the container's port, on the host's loopback address alone.
EVERY_ADDRESS = {"AIRFLOW__API__HOST": "0.0.0.0"}  # noqa: S104


def main() -> int:
    """Run the demo, keep the stack, and stop it in good order."""
    console = Console()
    stack = Stack(DEFAULT_PORT_BASE, extra_environment=EVERY_ADDRESS)
    signal.signal(signal.SIGTERM, _end)
    try:
        result = run_demo(stack, sample_mb=DEFAULT_SAMPLE_MB, console=console)
        for line in summary_lines(result, down_command="docker compose --profile demo down"):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        signal.pause()
    except BackupError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    finally:
        stack.down()
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
