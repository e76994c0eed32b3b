"""The whole embedded stack: PostgreSQL, S3, a Slack stand-in and Airflow, started and stopped together."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.settings import SHIPPED_SETTINGS, Settings, load_settings
from include.local.airflow import Airflow, now
from include.local.airflow_api import AirflowApi
from include.local.credentials import load_credentials
from include.local.environment import service_environment
from include.local.errors import StackBusyError
from include.local.layout import Layout, layout_of
from include.local.processes import marked_processes
from include.local.s3 import REGION, Store
from include.local.service import Service, kill_all, stop_all
from include.local.slack import SlackCapture
from include.local.source import DATABASE, Source
from include.local.status import ServiceStatus, UpReport
from include.local.tls import ensure_certificates

DEFAULT_SAMPLE_MB = 100
SOURCE_CONNECTION = "pulse_messages_db"
STORE_CONNECTION = "pulse_backups_s3"
Say = Callable[[str], None]


class Stack:
    """One stack, told apart from others by its ports and its state folder.

    ``extra_environment`` goes to Airflow's processes, and wins over what is set there otherwise.
    """

    def __init__(
        self,
        port_base: int,
        state_dir: Path | None = None,
        *,
        settings_file: Path = SHIPPED_SETTINGS,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.layout: Layout = layout_of(port_base, state_dir)
        self._settings_file = settings_file
        self.source = Source(self.layout)
        self.store = Store(self.layout)
        self.slack = SlackCapture(self.layout)
        self.airflow = Airflow(self.layout, extra=extra_environment)

    def up(
        self,
        *,
        sample_mb: int | None = DEFAULT_SAMPLE_MB,
        airflow: bool = True,
        overwrite: bool = False,
        say: Say | None = None,
    ) -> UpReport:
        """Start what does not run; everything that needs nothing else starts at the same time.

        ``sample_mb=None`` leaves the source empty. When a part fails, what this call started is stopped.
        """
        report = UpReport()
        started_at = time.monotonic()
        with self._alone():
            before = self._running_names()
            try:
                self._up(report, sample_mb, airflow=airflow, overwrite=overwrite, say=say or _silent)
            except BaseException:
                self._stop(except_for=before)
                raise
        report.seconds = time.monotonic() - started_at
        return report

    def down(self) -> None:
        """Stop everything, also what a killed ``up`` has left; nothing of the stack runs afterwards."""
        if self.layout.state.exists():
            with self._alone():
                self._stop(except_for=frozenset())

    def remove(self) -> None:
        """Stop everything and delete the stack's data, wherever it lies."""
        self.down()
        if self.layout.credentials.exists():
            shutil.rmtree(self.source.folder(), ignore_errors=False)
        if self.layout.state.exists():
            shutil.rmtree(self.layout.state)

    def status(self) -> list[ServiceStatus]:
        """Return how each service is."""
        if not self.layout.credentials.exists():
            return []
        source, store = self.source.running(), self.store.service().running()
        slack = self.slack.service().running()
        states = self.airflow.states()
        found = [
            self._status("source", source, source and self.source.healthy()),
            self._status("store", store, store and self.store.healthy()),
            self._status("slack", slack, slack and self.slack.healthy()),
        ]
        for service in self.airflow.services():
            name = service.program.name.removeprefix("airflow-")
            running = service.running()
            address = self.airflow.url if name == "api-server" else ""
            found.append(
                ServiceStatus(
                    name=service.program.name,
                    running=running,
                    healthy=running and states.get(name) == "healthy",
                    address=address,
                )
            )
        return found

    def environment(self) -> dict[str, str]:
        """Return what the command line and the settings file need; it holds passwords."""
        credentials = load_credentials(self.layout.credentials)
        return {
            "PULSE_DB_HOST": "localhost",
            "PULSE_DB_PORT": str(self.layout.source_port),
            "PULSE_DB_NAME": DATABASE,
            "PULSE_DB_USER": "pulse_backup",
            "PULSE_DB_PASSWORD": credentials.source_backup_password,
            "PULSE_DB_CA": str(self.layout.ca),
            "PULSE_S3_ENDPOINT": self.store.url,
            "PULSE_S3_REGION": REGION,
            "PULSE_S3_ACCESS_KEY": credentials.store_access_key,
            "PULSE_S3_SECRET_KEY": credentials.store_secret_key,
            "PULSE_S3_CA": str(self.layout.ca),
            "PULSE_SLACK_WEBHOOK_URL": f"{self.slack.url}/{credentials.slack_token}",
            "BACKUP_STAGING_DIR": str(self.layout.staging),
            "BACKUP_SCRATCH_DIR": str(self.layout.scratch),
        }

    def command_environment(self) -> dict[str, str]:
        """Return a whole environment for a child process that uses this stack; nothing of the user's is in it."""
        return {**service_environment(self.layout), **self.environment()}

    def settings(self) -> Settings:
        """Return the settings file with this stack's values."""
        return load_settings(self._settings_file, self.environment())

    def database_connection(self) -> DatabaseConnection:
        """Return how a backup reaches the source."""
        return DatabaseConnection.from_spec(self.settings().connection(SOURCE_CONNECTION))

    def store_connection(self) -> StoreConnection:
        """Return how a backup reaches the store."""
        return StoreConnection.from_spec(self.settings().connection(STORE_CONNECTION))

    def api(self) -> AirflowApi:
        """Return a session with Airflow as its administrator."""
        return self.airflow.api()

    def _up(self, report: UpReport, sample_mb: int | None, *, airflow: bool, overwrite: bool, say: Say) -> None:
        self.layout.make_folders()
        load_credentials(self.layout.credentials)
        ensure_certificates(self.layout)
        with ThreadPoolExecutor(max_workers=4) as pool:
            store = pool.submit(_timed, report, "store", self._start_store)
            source = pool.submit(_timed, report, "source", lambda: self._start_source(report, sample_mb, say))
            slack = pool.submit(_timed, report, "slack", self.slack.start)
            parts: list[Future[Any]] = [store, source, slack]
            if airflow:
                parts.append(pool.submit(self._start_airflow, report, store, overwrite, say))
            errors = [part.exception() for part in parts]
        for error in errors:
            if error is not None:
                raise error

    def _start_store(self) -> bool:
        """Start the store; return whether it gave out a new key."""
        before = load_credentials(self.layout.credentials).store_access_key
        self.store.start()
        return load_credentials(self.layout.credentials).store_access_key != before

    def _start_source(self, report: UpReport, sample_mb: int | None, say: Say) -> None:
        self.source.start()
        if sample_mb is None:
            return
        state = self.source.load_sample(sample_mb, lambda line: say(f"sample: {line}"))
        report.sample_mb, report.sample_was_there = state.size_mb, state.seconds == 0.0
        if state.size_mb != sample_mb:
            say(f"the sample that is there has {state.size_mb} MB and stays; make clean starts anew")

    def _start_airflow(self, report: UpReport, store: Future[bool], overwrite: bool, say: Say) -> None:
        services = self.airflow.services()
        if all(service.running() for service in services):
            store.result()
            return
        say("airflow: metadata database")
        _timed(report, "airflow database", lambda: self.airflow.set_up(lambda: self._objects(store, overwrite)))
        say("airflow: api-server, scheduler, dag-processor, triggerer")
        _timed(report, "airflow services", self._run_airflow)

    def _run_airflow(self) -> None:
        since = now()
        self.airflow.start()
        self.airflow.wait(since)

    def _objects(self, store: Future[bool], overwrite: bool) -> dict[str, Any]:
        """Return what Airflow is to hold; waits for the store, which gives out its key."""
        new_key = store.result()
        settings = self.settings()
        return {
            "connections": {spec.conn_id: spec.to_airflow() for spec in settings.connections},
            "pools": {pool.name: {"slots": pool.slots, "description": pool.description} for pool in settings.pools},
            "variables": {variable.name: str(variable.value) for variable in settings.variables},
            "overwrite": overwrite or ([STORE_CONNECTION] if new_key else False),
        }

    def _services(self) -> list[Service]:
        return [*self.airflow.services(), self.slack.service(), self.store.service()]

    def _running_names(self) -> frozenset[str]:
        if not self.layout.credentials.exists():
            return frozenset()
        names = {service.program.name for service in self._services() if service.running()}
        return frozenset(names | ({"source"} if self.source.running() else set()))

    def _stop(self, *, except_for: frozenset[str]) -> None:
        """Airflow first, so that its tasks can still reach what they work with."""
        if not self.layout.credentials.exists():
            return
        services = [service for service in self._services() if service.program.name not in except_for]
        stop_all(service for service in services if service.program.name.startswith("airflow-"))
        stop_all(service for service in services if not service.program.name.startswith("airflow-"))
        if "source" not in except_for:
            self.source.stop()
        if not except_for:
            kill_all(lambda: marked_processes(self.layout.state), "the stack")

    def _status(self, name: str, running: bool, healthy: bool) -> ServiceStatus:
        address = f"localhost:{self.layout.ports[name]}"
        return ServiceStatus(name=name, running=running, healthy=healthy, address=address)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one command at a time start or stop this stack; the lock ends with its process."""
        self.layout.state.mkdir(parents=True, exist_ok=True)
        with open(self.layout.state / "lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.seek(0)
                raise StackBusyError(
                    f"pid {lock.read().strip() or '?'} is starting or stopping the stack in {self.layout.state}; "
                    "wait for it, or end it"
                ) from error
            lock.truncate(0)
            lock.write(json.dumps(os.getpid()))
            lock.flush()
            yield


def _timed(report: UpReport, phase: str, action: Callable[[], Any]) -> Any:
    started = time.monotonic()
    try:
        return action()
    finally:
        report.phases[phase] = time.monotonic() - started


def _silent(line: str) -> None:
    """Say nothing."""
