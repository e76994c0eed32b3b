"""One embedded stack with Airflow, and many small sources in it: each test spoils only its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import psycopg
from botocore.config import Config

from include.backup.postgres.account import stand_in
from include.backup.postgres.lock import lock_key
from include.backup.staging import Staging
from include.local.airflow import Airflow, now
from include.local.airflow_api import AirflowApi
from include.local.credentials import load_credentials
from include.local.ports import free_port_base
from include.local.processes import processes_naming, session_members, signal_all
from include.local.s3 import BUCKET, REGION
from include.local.service import Service
from include.local.stack import SOURCE_CONNECTION, Stack
from tests.support.airflow_runs import AirflowRun, start
from tests.support.git_servers import make_remote
from tests.support.holding_store import HoldingStore
from tests.support.metadata_database import metadata_database
from tests.support.small_sources import SmallSource, make_databases, write_policy, write_settings

SAMPLE_MB = 12
NOWHERE_SLACK = "nowhere_slack"
# Ids, which are written down wherever they are used.
NO_SECRETS = ("store_root_key", "store_access_key")
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
}
ENVIRONMENT = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    # No test changes the policy; dozens of sources are read and written once.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "7200",
    # Dozens of sources in each file, on a machine that may be busy with other things.
    "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "280",
    "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
}


@dataclass(kw_only=True)
class AirflowStack:
    """A running stack, and what tests do with it."""

    stack: Stack
    sources: Mapping[str, SmallSource]
    environment: dict[str, str]
    stores: dict[str, HoldingStore] = field(default_factory=dict)

    @cached_property
    def api(self) -> AirflowApi:
        return self.stack.api()

    def run(self, dag_id: str, conf: Mapping[str, object] | None = None) -> AirflowRun:
        """Start a run."""
        return start(self.api, dag_id, conf)

    def daily(self, source: str) -> AirflowRun:
        return self.run(f"{source}.daily_backup")

    # --- the source ----------------------------------------------------------------------------------

    def conninfo(self, source: str) -> str:
        """Return how the superuser reaches a source's database."""
        return self.stack.source.superuser_conninfo(source)

    @contextmanager
    def locked_table(self, source: str, table: str = "public.orders") -> Iterator[None]:
        """Hold a table as a long ALTER does."""
        with psycopg.connect(self.conninfo(source)) as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    def advisory_locks(self, source: str) -> list[tuple[bool, int]]:
        """Return who holds (True) or waits for (False) the source's lock, by backend."""
        with psycopg.connect(self.conninfo(source)) as connection:
            return connection.execute(
                "SELECT granted, pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
                " AND (classid::bigint << 32 | objid::bigint) = %s ORDER BY granted DESC",
                (lock_key(source),),
            ).fetchall()

    def waiting(self, source: str) -> bool:
        """Tell whether a backup waits for the lock of a table."""
        return ("Lock", "relation") in self.backup_sessions(source)

    def backup_sessions(self, source: str) -> list[tuple[str | None, str | None]]:
        """Return what each session of backups in the source's database waits for."""
        with psycopg.connect(self.conninfo(source)) as connection:
            return connection.execute(
                "SELECT wait_event_type, wait_event FROM pg_stat_activity"
                " WHERE datname = %s AND usename = 'pulse_backup'",
                (source,),
            ).fetchall()

    def schema_remote(self, source: str) -> Path:
        """Return the git remote of a source's schema."""
        return self.stack.layout.state / f"{source}.git"

    # --- the store -----------------------------------------------------------------------------------

    @cached_property
    def s3(self) -> Any:
        """The store's owner."""
        credentials = load_credentials(self.stack.layout.credentials)
        session = boto3.Session(credentials.store_root_key, credentials.store_root_secret, region_name=REGION)
        config = Config(s3={"addressing_style": "path"}, proxies={})
        return session.client("s3", endpoint_url=self.stack.store.url, verify=str(self.stack.layout.ca), config=config)

    def keys(self, run: AirflowRun) -> list[str]:
        """Return the objects of every backup that the run's source has in the run's tier."""
        prefix = f"{run.tier}/{run.source}_{run.tier}_"
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(item["Key"] for item in found)

    def expected_keys(self, run: AirflowRun) -> list[str]:
        """Return the two objects of this run's backup."""
        return [f"{run.tier}/{run.backup_id}{end}" for end in (".manifest.json", ".tar")]

    def versions(self, key: str) -> int:
        """Return how often an object was written: the bucket keeps every version."""
        found = self.s3.list_object_versions(Bucket=BUCKET, Prefix=key)
        return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))

    def versions_of(self, key: str) -> list[str]:
        """Return the storage class of each version of an object."""
        found = self.s3.list_object_versions(Bucket=BUCKET, Prefix=key)
        return [item["StorageClass"] for item in found.get("Versions", [])]

    def manifest(self, run: AirflowRun) -> dict[str, Any]:
        body = self.s3.get_object(Bucket=BUCKET, Key=self.expected_keys(run)[0])["Body"].read()
        manifest: dict[str, Any] = json.loads(body)
        return manifest

    def proofs(self, run: AirflowRun) -> list[dict[str, Any]]:
        return self.proofs_of(run.backup_id)

    def proofs_of(self, backup_id: str) -> list[dict[str, Any]]:
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"proofs/{backup_id}/").get("Contents", [])
        bodies = [self.s3.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in found]
        return [json.loads(body) for body in bodies]

    def unfinished_uploads(self, run: AirflowRun) -> list[str]:
        prefix = f"{run.tier}/{run.source}_"
        found = self.s3.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
        return [item["Key"] for item in found]

    # --- this machine --------------------------------------------------------------------------------

    def staging(self, run: AirflowRun) -> Staging:
        return Staging(self.stack.layout.staging, run.backup_id)

    def staged(self, source: str) -> list[str]:
        """Return the names of a source's staging folders."""
        return [path.name for path in self.stack.layout.staging.glob(f"{source}_*")]

    def scratch_leftovers(self) -> list[str]:
        """Return scratch folders and processes that work in one."""
        folders = [str(path) for base in self._scratch_roots() for path in base.glob("*scratch-*")]
        return [*folders, *self.scratch_processes()]

    def scratch_processes(self) -> list[str]:
        """Return the commands that work in a scratch folder."""
        told = f"{self.stack.layout.scratch}"
        left = {pid: command for pid, command in self._naming_scratch() if told not in _environment(pid)}
        # Who has ended or become another program between the looks is none that stays.
        again = {pid for pid, _ in self._naming_scratch()} if left else set()
        return [command for pid, command in left.items() if pid in again and told not in _environment(pid)]

    def _naming_scratch(self) -> list[tuple[int, str]]:
        return [each for base in self._scratch_roots() for each in processes_naming(base)]

    def _scratch_roots(self) -> tuple[Path, Path]:
        root = self.stack.layout.scratch
        return (root, stand_in(root))

    # --- people --------------------------------------------------------------------------------------

    def messages(self, run: AirflowRun) -> list[str]:
        """Return the texts that Slack got about a run."""
        texts = [str(entry["message"]) for entry in self.stack.slack.messages()]
        backup_id = run.backup_id
        return [text for text in texts if backup_id in text or f"`{run.run_id}` of `{run.dag_id}`" in text]

    @cached_property
    def secrets(self) -> dict[str, str]:
        """Return every secret of the stack by name."""
        credentials = load_credentials(self.stack.layout.credentials)
        names = [name for name in credentials.__dataclass_fields__ if name not in NO_SECRETS]
        found = {name: str(getattr(credentials, name)) for name in names}
        return {**found, "slack": credentials.slack_token.rpartition("/")[2]}

    def secrets_in(self, text: str) -> list[str]:
        """Return the names of the secrets that a text holds."""
        return [name for name, secret in self.secrets.items() if secret in text]

    def leaks(self, *, of: str = "attempt=") -> list[tuple[str, list[str]]]:
        """Return which log files hold which secrets; not those of Slack's stand-in, whose address is one.

        Logs whose names begin with ``of``, tasks' unless it says otherwise, have to be among them.
        """
        logs = [path for path in self.stack.layout.logs.rglob("*") if path.is_file() and path.name != "slack.log"]
        if not any(path.name.startswith(of) for path in logs):
            raise AssertionError(f"there are no logs named {of}…")
        found = [(path.name, self.secrets_in(path.read_text(errors="replace"))) for path in logs]
        return [(name, secrets) for name, secrets in found if secrets]

    # --- Airflow's own processes ---------------------------------------------------------------------

    def service(self, component: str) -> Service:
        """Return one of Airflow's services with the settings that it would be started with now."""
        airflow = Airflow(self.stack.layout, extra=self.environment)
        (found,) = [each for each in airflow.services() if each.program.name == f"airflow-{component}"]
        return found

    def wait_until_healthy(self, since: Any) -> None:
        Airflow(self.stack.layout, extra=self.environment).wait(since)

    def kill_airflow(self) -> None:
        """Kill Airflow's processes, which take their time to end otherwise."""
        for service in Airflow(self.stack.layout).services():
            leader = service.identity()
            if leader is not None:
                signal_all(session_members(leader), signal.SIGKILL)

    def become_impatient(self) -> None:
        """Let the scheduler give up a task that has been silent for some seconds, not minutes."""
        since = now()
        self.service("scheduler").stop()
        self.environment |= IMPATIENT
        self.service("scheduler").start()
        self.wait_until_healthy(since)


def _environment(pid: int) -> str:
    """Return a process's environment: those that were told where scratch servers go are none themselves."""
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


@contextmanager
def running_stack(
    folder: Path, sources: Iterable[SmallSource], *, broken: str, extra: Mapping[str, str] | None = None
) -> Iterator[AirflowStack]:
    """Run the stack with these sources beside the shipped one; ``extra`` are more settings of Airflow."""
    listed = {source.name: source for source in sources}
    folder.mkdir(parents=True)
    write_policy(folder / "policy.yaml", listed.values(), broken=broken)
    write_settings(folder / "settings.yaml")
    environment = {**ENVIRONMENT, "BACKUP_POLICY": str(folder / "policy.yaml"), **(extra or {})}
    with ExitStack() as cleanup:
        environment |= cleanup.enter_context(metadata_database(folder / "metadata"))
        stack = Stack(
            free_port_base(), folder / "stack", settings_file=folder / "settings.yaml", extra_environment=environment
        )
        cleanup.callback(stack.remove)
        stack.up(sample_mb=SAMPLE_MB)
        lab = AirflowStack(stack=stack, sources=listed, environment=environment)
        make_databases(listed.values(), lab.conninfo)
        for source in listed.values():
            store = HoldingStore(stack.store.url, ca_file=stack.layout.ca)
            lab.stores[source.name] = cleanup.enter_context(store)
            _connect(lab, source, store.url)
            if source.schema_in_git:
                _connect_git(lab, source)
        _connect_nowhere_slack(lab)
        cleanup.callback(lab.kill_airflow)
        yield lab


def _connect(lab: AirflowStack, source: SmallSource, endpoint: str) -> None:
    """Add the source's two connections to Airflow: those of the shipped source but for database and endpoint."""
    shipped = lab.stack.settings().connection(SOURCE_CONNECTION)
    store = lab.stack.store_connection()
    lab.api.post(
        "/connections",
        {
            "connection_id": f"{source.name}_db",
            "conn_type": "postgres",
            "host": shipped.host,
            "port": shipped.port,
            "schema": source.name,
            "login": shipped.login,
            "password": str(shipped.password),
            "extra": json.dumps(shipped.extra),
        },
    )
    lab.api.post(
        "/connections",
        {
            "connection_id": f"{source.name}_s3",
            "conn_type": "aws",
            "login": store.access_key,
            "password": str(store.secret_key),
            "extra": json.dumps({"endpoint_url": endpoint, "region_name": store.region}),
        },
    )


def _connect_git(lab: AirflowStack, source: SmallSource) -> None:
    """Add the git remote of the source's schema: a bare repository of its own."""
    remote = make_remote(lab.schema_remote(source.name))
    body = {"connection_id": f"{source.name}_git", "conn_type": "git", "host": f"file://{remote}"}
    lab.api.post("/connections", body)


def _connect_nowhere_slack(lab: AirflowStack) -> None:
    """Add a Slack connection that nobody answers."""
    port = free_port_base()
    token = load_credentials(lab.stack.layout.credentials).slack_token
    body = {"connection_id": NOWHERE_SLACK, "conn_type": "slackwebhook"}
    lab.api.post("/connections", {**body, "password": f"http://127.0.0.1:{port}/services/{token}"})
