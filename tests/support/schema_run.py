"""One schema backup in a process of its own, which kills itself at a given command: before it, in it, or after it.

Arguments: the number of the command (0: never), and where in it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.process import Runner
from include.backup.schema_history.history import SchemaHistory
from include.backup.schema_history.remote import GitRemote, Transport

INSIDE_SECONDS = 0.01


class Mortal(Runner):
    """Kills its own process at one of its commands."""

    def __init__(self, at: int, where: str) -> None:
        super().__init__()
        self.count = 0
        self._at, self._where = at, where

    def run(self, command: Any, **options: Any) -> Any:
        return self._counted(lambda: super(Mortal, self).run(command, **options))

    def stream(self, command: Any, consume: Any) -> Any:
        return self._counted(lambda: super(Mortal, self).stream(command, consume))

    def _counted(self, action: Any) -> Any:
        self.count += 1
        here = self.count == self._at
        if here and self._where == "before":
            die()
        if here and self._where == "inside":
            threading.Timer(INSIDE_SECONDS, die).start()
        result = action()
        if here:
            time.sleep(1 if self._where == "inside" else 0)
            die()
        return result


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Back up; print how many commands it took."""
    config = json.loads(sys.stdin.read())
    runner = Mortal(int(sys.argv[1]), sys.argv[2])
    password = Secret(config["database"].pop("password"))
    history = SchemaHistory(
        source=load_policy(SHIPPED_POLICY).source("pulse_messages"),
        database=DatabaseConnection(**config["database"], password=password),
        remote=GitRemote(conn_id="git", url=config["url"], transport=Transport.FILE),
        staging_root=Path(config["staging"]),
        runner=runner,
        run_id=config["run_id"],
    )
    done = history.back_up()
    sys.stdout.write(json.dumps({**done.to_dict(), "commands": runner.count}))


if __name__ == "__main__":
    main()
