"""Redis and Celery workers: Airflow's distributed engine on one machine, each worker with a folder of its own."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from include.local.layout import HOST, ROOT
from include.local.ports import free_port_base
from include.local.processes import wait_until

START_SECONDS = 180.0
READY = "ready."


@contextmanager
def redis_broker(folder: Path) -> Iterator[str]:
    """Run a Redis with a password; yield its URL."""
    folder.mkdir(parents=True)
    port, password = free_port_base(), secrets.token_urlsafe(16)
    settings = f'port {port}\nbind {HOST}\ndir {folder}\nrequirepass {password}\nsave ""\n'
    with (folder / "redis.log").open("wb") as log:
        server = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        assert server.stdin is not None
        server.stdin.write(settings.encode())
        server.stdin.close()
        ask = ["redis-cli", "-h", HOST, "-p", str(port), "ping"]
        environment = {**os.environ, "REDISCLI_AUTH": password}

        def answers() -> bool:
            return b"PONG" in subprocess.run(ask, env=environment, capture_output=True, check=False).stdout

        if not wait_until(answers, START_SECONDS):
            raise TimeoutError(f"Redis does not answer: {(folder / 'redis.log').read_text()}")
        yield f"redis://:{password}@{HOST}:{port}/0"
    finally:
        server.kill()
        server.wait()


@dataclass(kw_only=True)
class Worker:
    """A Celery worker: the processes of one session, as on a machine of its own."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> bool:
        """Tell whether it takes tasks; raises when it has ended."""
        if self.process.poll() is not None:
            raise ChildProcessError(f"worker {self.name} has ended:\n{self.log.read_text()[-2000:]}")
        return READY in self.log.read_text(errors="replace")

    def vanish(self) -> None:
        """End it as a machine ends that loses its power: no process gets to say goodbye."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def celery_workers(
    folder: Path, environment: Mapping[str, str], *, names: tuple[str, ...], concurrency: int
) -> Iterator[dict[str, Worker]]:
    """Run workers that share nothing but what the environment names: staging, the metadata database, the broker."""
    with ExitStack() as cleanup:
        workers = {}
        for name in names:
            workers[name] = _start(folder / name, environment, name, concurrency)
            cleanup.callback(workers[name].vanish)
        for worker in workers.values():
            if not wait_until(worker.ready, START_SECONDS):
                raise TimeoutError(f"worker {worker.name} is not ready:\n{worker.log.read_text()[-2000:]}")
        yield workers


def _start(home: Path, environment: Mapping[str, str], name: str, concurrency: int) -> Worker:
    home.mkdir(parents=True)
    own = {**environment, "AIRFLOW_HOME": str(home), "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    log = home / "worker.log"
    options = ("--concurrency", str(concurrency), "--celery-hostname", f"{name}@{HOST}", "--skip-serve-logs")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "celery", "worker", *options],
            cwd=home,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Worker(name=name, process=process, log=log)
