"""Start the parts of a stack, all at once where they need nothing of each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from include.backup.settings import Settings
from include.local import ports
from include.local.airflow import Airflow, now
from include.local.credentials import load_credentials
from include.local.layout import Layout
from include.local.s3 import Store
from include.local.schema_remote import ensure_schema_remote
from include.local.slack import SlackCapture
from include.local.source import Source
from include.local.status import UpReport
from include.local.supabase_api import SupabaseApi
from include.local.tls import ensure_certificates

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Startup:
    """One start: the parts, what is wanted, and how to end it early."""

    layout: Layout
    source: Source
    store: Store
    slack: SlackCapture
    supabase: SupabaseApi
    airflow: Airflow | None
    settings: Callable[[], Settings]
    store_connection: str
    sample_mb: int | None
    overwrite: bool
    say: Say
    abort: Callable[[], None]
    _aborted: threading.Event = field(default_factory=threading.Event)

    def run(self) -> UpReport:
        """Start what does not run.

        When one part fails, or the user interrupts, ``abort`` ends what was started, so that the other parts
        do not wait for it; then the error is raised.
        """
        report = UpReport()
        started = time.monotonic()
        self.layout.make_folders()
        load_credentials(self.layout.credentials)
        ensure_certificates(self.layout)
        ensure_schema_remote(self.layout)
        self._require_free_ports()
        with ThreadPoolExecutor(max_workers=6) as pool:
            try:
                self._join(self._parts(report, pool))
            except BaseException:
                self._aborted.set()
                self.abort()
                raise
        report.seconds = time.monotonic() - started
        return report

    def _parts(self, report: UpReport, pool: ThreadPoolExecutor) -> list[Future[Any]]:
        store = pool.submit(_timed, report, "store", self._start_store)
        source = pool.submit(_timed, report, "source", lambda: self._start_source(report))
        slack = pool.submit(_timed, report, "slack", self.slack.start)
        supabase = pool.submit(_timed, report, "supabase", self.supabase.start)
        files = pool.submit(self._start_files, report, store, source)
        if self.airflow is None:
            return [store, source, slack, supabase, files]
        return [store, source, slack, supabase, files, pool.submit(self._start_airflow, self.airflow, report, store)]

    def _join(self, parts: list[Future[Any]]) -> None:
        done, _ = wait(parts, return_when=FIRST_EXCEPTION)
        for part in parts:
            if part in done:
                part.result()

    def _require_free_ports(self) -> None:
        """Look before anything is started: a taken port is the most likely thing to go wrong."""
        running = {
            "source": self.source.running(),
            "store": self.store.service().running(),
            "slack": self.slack.service().running(),
            "supabase": self.supabase.service().running(),
            "airflow": self.airflow is None or self.airflow.api_server().running(),
        }
        # What a killed server has left behind is stopped by its own start, and not in the way.
        for service in (self.store.service(), self.slack.service(), self.supabase.service()):
            if not service.running():
                service.stop()
        if self.airflow is not None and not running["airflow"]:
            self.airflow.api_server().stop()
        for name, port in self.layout.ports.items():
            if not running[name]:
                ports.require_free(name, port)

    def _start_store(self) -> bool:
        """Start the store; return whether it gave out a new key."""
        before = load_credentials(self.layout.credentials).store_access_key
        self.store.start()
        return load_credentials(self.layout.credentials).store_access_key != before

    def _start_source(self, report: UpReport) -> None:
        self.source.start()
        if self.sample_mb is None:
            return
        state = self.source.load_sample(self.sample_mb, lambda line: self.say(f"sample: {line}"))
        report.sample_mb, report.sample_was_there = state.size_mb, state.seconds == 0.0
        if state.size_mb != self.sample_mb:
            self.say(f"the sample that is there has {state.size_mb} MB and stays; make clean starts anew")

    def _start_files(self, report: UpReport, store: Future[bool], source: Future[None]) -> None:
        """Put the sample's files into their bucket, once there are both rows and a store."""
        store.result()
        source.result()
        if self.sample_mb is not None and not self._aborted.is_set():
            conninfo = self.source.superuser_conninfo()
            _timed(report, "files", lambda: self.store.upload_sample_files(conninfo))

    def _start_airflow(self, airflow: Airflow, report: UpReport, store: Future[bool]) -> None:
        missing = not all(service.running() for service in airflow.services())
        if missing or self.overwrite or store.result():
            self.say("airflow: metadata database, connections, pools, variables")
            _timed(report, "airflow database", lambda: airflow.set_up(lambda: self._objects(store)))
        if missing and not self._aborted.is_set():
            self.say("airflow: api-server, scheduler, dag-processor, triggerer")
            _timed(report, "airflow services", lambda: _run(airflow))

    def _objects(self, store: Future[bool]) -> dict[str, Any]:
        """Return what Airflow is to hold; waits for the store, which gives out its key."""
        new_key = store.result()
        settings = self.settings()
        return {
            "connections": {spec.conn_id: spec.to_airflow() for spec in settings.connections},
            "pools": {pool.name: {"slots": pool.slots, "description": pool.description} for pool in settings.pools},
            "variables": {variable.name: str(variable.value) for variable in settings.variables},
            "overwrite": self.overwrite or ([self.store_connection] if new_key else False),
        }


def _run(airflow: Airflow) -> None:
    since = now()
    airflow.start()
    airflow.wait(since)


def _timed(report: UpReport, phase: str, action: Callable[[], Any]) -> Any:
    started = time.monotonic()
    try:
        return action()
    finally:
        report.phases[phase] = time.monotonic() - started
