"""Airflow beside the other servers: SQLite, LocalExecutor, four processes, nothing of the user's own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from include.local import ports
from include.local.airflow_api import AirflowApi, ApiUnreachableError
from include.local.credentials import Credentials, load_credentials, write_private
from include.local.environment import service_environment
from include.local.errors import ServiceFailedError
from include.local.layout import HOST, ROOT, Layout
from include.local.processes import MARKER, wait_until
from include.local.service import Program, Service, stop_all

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "api-server": (),
    # The logs are read from the disk: no port is opened for them.
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
AIRFLOW_NAMES = tuple(f"airflow-{component}" for component in COMPONENTS)
API_SERVER = "airflow-api-server"
HEALTH_NAMES = ("scheduler", "triggerer", "dag_processor")
START_SECONDS = 120.0
SETUP_SECONDS = 180.0
ADMIN, DEPLOYER, SERVICE = "admin", "deploy", "backup_service"


class Airflow:
    """The Airflow of one stack; ``extra`` overrides its environment, as tests of kills and outages need."""

    def __init__(self, layout: Layout, *, extra: Mapping[str, str] | None = None) -> None:
        self._layout = layout
        self._extra = dict(extra or {})
        self.url = f"http://localhost:{layout.airflow_port}"

    def services(self) -> list[Service]:
        environment = self.environment()
        return [
            Service(
                self._layout,
                Program(
                    name=f"airflow-{component}",
                    argv=(sys.executable, "-m", "airflow", component, *options),
                    environment=environment,
                ),
            )
            for component, options in COMPONENTS.items()
        ]

    def api_server(self) -> Service:
        """Return the one component that has a port."""
        return next(service for service in self.services() if service.program.name == API_SERVER)

    def environment(self) -> dict[str, str]:
        """Return the whole environment of an Airflow process of this stack."""
        return {
            **service_environment(self._layout),
            **airflow_settings(self._layout, load_credentials(self._layout.credentials)),
            **self._extra,
        }

    def api(self) -> AirflowApi:
        """Return a session as the administrator."""
        password = load_credentials(self._layout.credentials).airflow_admin_password
        return AirflowApi(url=self.url, user=ADMIN, password=password)

    def set_up(self, settings: Callable[[], Mapping[str, Any]]) -> None:
        """Make the metadata database and import settings; ``settings`` is called while the first is going on."""
        passwords = load_credentials(self._layout.credentials)
        write_private(
            self._layout.airflow / "passwords.json",
            json.dumps(
                {
                    ADMIN: passwords.airflow_admin_password,
                    DEPLOYER: passwords.airflow_deploy_password,
                    SERVICE: passwords.airflow_service_password,
                }
            ),
        )
        log = self._layout.logs / "airflow-setup.log"
        with log.open("ab") as output:
            child = subprocess.Popen(
                (sys.executable, "-m", "include.local.airflow_setup"),
                cwd=ROOT,
                env={**self.environment(), MARKER: str(self._layout.state)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                child.communicate(json.dumps(settings()).encode(), timeout=SETUP_SECONDS)
            except BaseException:
                child.kill()
                child.wait()
                raise
        if child.returncode != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceFailedError(f"Airflow's database could not be made; the end of {log}:\n{tail}")

    def start(self) -> bool:
        """Start what does not run; return whether this call started anything. ``wait`` comes after."""
        services = self.services()
        missing = [service for service in services if not service.running()]
        stop_all(missing)
        if any(service.program.name == API_SERVER for service in missing):
            ports.require_free("airflow", self._layout.airflow_port)
        for service in missing:
            service.start()
        return bool(missing)

    def wait(self, since: datetime) -> None:
        """Wait until every component has shown a sign of life after ``since``."""

        def lively() -> bool:
            for service in self.services():
                service.require_running()
            return self.healthy(since)

        if not wait_until(lively, START_SECONDS):
            states = ", ".join(f"{name} {state}" for name, state in self.states(since).items())
            raise ServiceFailedError(f"Airflow is not healthy: {states}; see {self._layout.logs}")

    def healthy(self, since: datetime | None = None) -> bool:
        """Return whether the API answers and every component's heartbeat is fresh."""
        return all(state == "healthy" for state in self.states(since).values())

    def states(self, since: datetime | None = None) -> dict[str, str]:
        """Return each component's state; a heartbeat from before ``since`` is the one of an earlier start."""
        try:
            health = self.api().health()
        except ApiUnreachableError:
            return {"api-server": "unreachable"}
        states = {"api-server": "healthy", "metadatabase": str(health["metadatabase"]["status"])}
        for name in HEALTH_NAMES:
            component = health.get(name) or {}
            beat = component.get(f"latest_{name}_heartbeat")
            old = since is not None and (beat is None or datetime.fromisoformat(beat) < since)
            states[name.replace("_", "-")] = "starting" if old else str(component.get("status"))
        return states

    def stop(self) -> None:
        stop_all(self.services())


def airflow_settings(layout: Layout, credentials: Credentials) -> dict[str, str]:
    """Return Airflow's settings as environment variables; each that is not obvious says why."""
    folder = layout.airflow
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each slot is a process that waits, with its own 60 MB; as many as the policy's pools have together.
        "AIRFLOW__CORE__PARALLELISM": "6",
        # No name service is asked.
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "AIRFLOW__CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN}:admin,{DEPLOYER}:user,{SERVICE}:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{layout.airflow_port}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_url(layout),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(layout.airflow_port),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{layout.airflow_port}",
        "AIRFLOW__API__SECRET_KEY": credentials.airflow_api_secret,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(layout.logs / "airflow"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(layout.logs / "airflow-dag-processor"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        # A dump outlives an api-server that is away for some minutes: the default of 3 beats killed one.
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "900",
        # Statistics names stay unambiguous with a dot in a DAG's id.
        "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "BACKUP_POLICY": str(ROOT / "include/policy/pulse_messages.yaml"),
        "BACKUP_STAGING_DIR": str(layout.staging),
        "BACKUP_SCRATCH_DIR": str(layout.scratch),
        "BACKUP_RESTORE_DIR": str(layout.restored),
    }


def now() -> datetime:
    """Return the time that heartbeats are compared with."""
    return datetime.now(UTC)


def metadata_url(layout: Layout) -> str:
    """Return the URL of Airflow's own database, as SQLAlchemy takes it."""
    return f"sqlite:///{layout.airflow}/airflow.db"
