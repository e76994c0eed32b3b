"""The whole embedded stack: PostgreSQL, S3, Airflow, and stand-ins for Slack and Supabase's Management API."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.settings import SHIPPED_SETTINGS, Settings, load_settings
from include.local.airflow import AIRFLOW_NAMES, API_SERVER, SERVICE, Airflow, metadata_url
from include.local.airflow_api import AirflowApi
from include.local.credentials import load_credentials
from include.local.environment import service_environment
from include.local.layout import Layout, layout_of
from include.local.lock import only_command
from include.local.processes import marked_processes
from include.local.s3 import REGION, TERM_SECONDS, Store
from include.local.service import Service, kill_all, stop_all, stop_program
from include.local.slack import SlackCapture
from include.local.source import DATABASE, SUPERUSER, Source
from include.local.startup import Say, Startup
from include.local.status import ServiceStatus, UpReport
from include.local.supabase_api import SupabaseApi

DEFAULT_SAMPLE_MB = 100
SOURCE_CONNECTION = "pulse_messages_db"
STORE_CONNECTION = "pulse_backups_s3"


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
        self.supabase = SupabaseApi(self.layout)
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
        with only_command(self.layout.state):
            before = self._running_names()
            startup = Startup(
                layout=self.layout,
                source=self.source,
                store=self.store,
                slack=self.slack,
                supabase=self.supabase,
                airflow=self.airflow if airflow else None,
                settings=self.settings,
                store_connection=STORE_CONNECTION,
                sample_mb=sample_mb,
                overwrite=overwrite,
                say=say or _silent,
                abort=lambda: self._stop(except_for=before),
            )
            try:
                return startup.run()
            except BaseException:
                # Once more, for what a part started while the others were being stopped.
                self._stop(except_for=before)
                raise

    def down(self) -> None:
        """Stop everything, also what a killed ``up`` has left; nothing of the stack runs afterwards."""
        if self.layout.state.exists():
            with only_command(self.layout.state):
                self._stop(except_for=frozenset())

    def remove(self) -> None:
        """Stop everything and delete the stack's data, wherever it lies."""
        self.down()
        if self.layout.state.exists():
            shutil.rmtree(self.source.folder())
            shutil.rmtree(self.layout.state)

    def status(self) -> list[ServiceStatus]:
        """Return how each service is."""
        if not self.layout.credentials.exists():
            return []
        source, store = self.source.running(), self.store.service().running()
        slack, supabase = self.slack.service().running(), self.supabase.service().running()
        states = self.airflow.states()
        found = [
            self._status("source", source, source and self.source.healthy()),
            self._status("store", store, store and self.store.healthy()),
            self._status("slack", slack, slack and self.slack.healthy()),
            self._status("supabase", supabase, supabase and self.supabase.healthy()),
        ]
        for service in self.airflow.services():
            name = service.program.name.removeprefix("airflow-")
            running = service.running()
            address = self.airflow.url if service.program.name == API_SERVER else ""
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
            "PULSE_RESTORE_USER": SUPERUSER,
            "PULSE_RESTORE_PASSWORD": credentials.source_superuser_password,
            "PULSE_AIRFLOW_URL": self.airflow.url,
            "PULSE_AIRFLOW_SERVICE_USER": SERVICE,
            "PULSE_AIRFLOW_SERVICE_PASSWORD": credentials.airflow_service_password,
            "PULSE_AIRFLOW_METADATA_URL": metadata_url(self.layout),
            "PULSE_S3_ENDPOINT": self.store.url,
            "PULSE_S3_REGION": REGION,
            "PULSE_S3_ACCESS_KEY": credentials.store_access_key,
            "PULSE_S3_SECRET_KEY": credentials.store_secret_key,
            "PULSE_S3_CA": str(self.layout.ca),
            "PULSE_SCHEMA_GIT_URL": f"file://{self.layout.schema_remote}",
            "PULSE_STORAGE_ENDPOINT": self.store.url,
            "PULSE_STORAGE_REGION": REGION,
            "PULSE_STORAGE_ACCESS_KEY": credentials.store_access_key,
            "PULSE_STORAGE_SECRET_KEY": credentials.store_secret_key,
            "PULSE_STORAGE_CA": str(self.layout.ca),
            "PULSE_SLACK_WEBHOOK_URL": f"{self.slack.url}/{credentials.slack_token}",
            "PULSE_SUPABASE_API": self.supabase.url,
            "PULSE_SUPABASE_TOKEN": credentials.supabase_token,
            "BACKUP_STAGING_DIR": str(self.layout.staging),
            "BACKUP_SCRATCH_DIR": str(self.layout.scratch),
            "BACKUP_RESTORE_DIR": str(self.layout.restored),
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

    def _services(self) -> list[Service]:
        """Return what has a pid file, without the secrets that only starting needs."""
        return [Service(self.layout, stop_program(name, seconds)) for name, seconds in self._term_seconds().items()]

    def _term_seconds(self) -> dict[str, float]:
        return {**dict.fromkeys(AIRFLOW_NAMES, 10.0), "slack": 5.0, "supabase": 5.0, "store": TERM_SECONDS}

    def _running_names(self) -> frozenset[str]:
        names = {service.program.name for service in self._services() if service.running()}
        return frozenset(names | ({"source"} if self.source.running() else set()))

    def _stop(self, *, except_for: frozenset[str]) -> None:
        """Airflow first, so that its tasks can still reach what they work with."""
        services = [service for service in self._services() if service.program.name not in except_for]
        stop_all(service for service in services if service.program.name in AIRFLOW_NAMES)
        stop_all(service for service in services if service.program.name not in AIRFLOW_NAMES)
        if "source" not in except_for:
            self.source.stop()
        if not except_for:
            kill_all(lambda: marked_processes(self.layout.state), "the stack")

    def _status(self, name: str, running: bool, healthy: bool) -> ServiceStatus:
        address = f"localhost:{self.layout.ports[name]}"
        return ServiceStatus(name=name, running=running, healthy=healthy, address=address)


def _silent(line: str) -> None:
    """Say nothing."""
