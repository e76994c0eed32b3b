"""What docker-compose.yaml starts, without Docker: Redis by its own command, init and roles on a real API server."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from backup_operators.airflow_facts import airflow_facts
from backup_operators.airflow_rest import AirflowRest
from include.backup.connection_spec import ConnectionSpec
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.compose.init import SERVICE
from include.compose.make_secrets import make_certificate
from include.compose.roles import ROLES
from include.local.airflow_api import AirflowApi, ApiError, ApiUnreachableError
from include.local.ports import free_port_base
from tests.faults.s3_proxy import S3Proxy
from tests.integration.servers import eventually

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "of-tests-only-9"
MAKE_USERS = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    for role in json.loads(sys.argv[1]):
        builder.sm.add_user(
            username=role, first_name="a", last_name="b", email=f"{role}@x.y", role=builder.sm.find_role(role),
            password=sys.stdin.readline().strip(),
        )
"""
SETTINGS = {"PULSE_DB_HOST": "db.example", "PULSE_DB_PASSWORD": "x1x1x1x1", "PULSE_DB_CA": "/ca.pem"} | {
    "PULSE_S3_ACCESS_KEY": "AKIAEXAMPLE",
    "PULSE_S3_SECRET_KEY": "y1y1y1y1",
}


def test_redis_takes_its_password_from_the_secret_and_shows_it_to_nobody(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = free_port_base()
    (tmp_path / "redis_password").write_text("a-long-password")
    command = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["redis"]["command"]
    script = command[2].replace("$$", "$").replace("/run/secrets", str(tmp_path))
    script = script.replace("appendonly yes", f"appendonly yes\nport {port}\nbind 127.0.0.1\ndir {tmp_path}")
    server = subprocess.Popen([*command[:2], script], stdout=subprocess.DEVNULL)
    try:
        ask = ["redis-cli", "-p", str(port), "ping"]

        def answers(password: str) -> str:
            environment = {**os.environ, "REDISCLI_AUTH": password}
            return subprocess.run(ask, env=environment, capture_output=True, text=True, check=False).stdout

        assert eventually(lambda: "PONG" in answers("a-long-password"), 20)
        assert "PONG" not in answers("another")
        shown = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        assert shown.startswith(b"redis-server")  # it took the shell's place, so SIGTERM reaches it
        assert b"a-long-password" not in shown
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()


@dataclass(frozen=True, kw_only=True)
class Production:
    """An API server with FAB that ``init`` has set up."""

    url: str
    environment: dict[str, str]
    said: tuple[str, str]

    def api(self, user: str) -> AirflowApi:
        return AirflowApi(url=self.url, user=user, password=PASSWORD)

    def status(self, user: str, method: str, path: str, body: dict[str, object]) -> int:
        """Return the status that the API answers with."""
        api = self.api(user)
        try:
            {"POST": api.post, "PATCH": api.patch}[method](path, body)
        except ApiError as error:
            return error.status
        return 200


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("fab")
    port = free_port_base()
    for name in ("admin_password", "service_password"):
        (folder / name).write_text(PASSWORD)
    environment = {
        # Other tests of this process have settings of Airflow of their own.
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        **SETTINGS,
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(b"f" * 32).decode(),
        "PULSE_ADMIN_PASSWORD_FILE": str(folder / "admin_password"),
        "PULSE_AIRFLOW_SERVICE_PASSWORD_FILE": str(folder / "service_password"),
        "AIRFLOW_HOME": str(folder),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__API_AUTH__JWT_SECRET": "j" * 64,
        "AIRFLOW__API__SECRET_KEY": "s" * 32,
        "AIRFLOW__API__WORKERS": "1",
    }
    said = tuple(_run(environment, "-m", "include.compose.init") for _ in range(2))
    _run(environment, "-c", MAKE_USERS, json.dumps(list(ROLES)), given=f"{PASSWORD}\n" * len(ROLES))
    log = (folder / "api-server.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)],
        env=environment,
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        assert eventually(lambda: _answers(url), 120), (folder / "api-server.log").read_text()[-3000:]
        yield Production(url=url, environment=environment, said=(said[0], said[1]))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        log.close()


def _run(environment: dict[str, str], *arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def _answers(url: str) -> bool:
    try:
        AirflowApi(url=url, user="", password="").health()
    except (ApiUnreachableError, ApiError):
        return False
    return True


def test_init_makes_everything_once(production: Production) -> None:
    first, second = production.said
    assert all(f"role {name}" in first for name in ROLES)
    assert "user admin, user backup_service" in first
    assert "init: nothing to make" in second
    admin = production.api("admin")
    slots = {pool["name"]: pool["slots"] for pool in admin.get("/pools")["pools"]}
    assert load_policy(SHIPPED_POLICY).pools.items() <= slots.items()
    connections = {item["connection_id"] for item in admin.get("/connections")["connections"]}
    assert {"pulse_messages_db", "pulse_backups_s3"} <= connections


def test_the_tasks_own_user_reads_over_tls_what_restores_and_health_ask_and_changes_nothing(
    production: Production, tmp_path: Path
) -> None:
    make_certificate(tmp_path, "localhost")
    certificate = (tmp_path / "tls_certificate.pem", tmp_path / "tls_key.pem")
    with S3Proxy(production.url, certificate=certificate) as proxy:
        connection = {"conn_type": "http", "host": proxy.url, "login": SERVICE, "password": PASSWORD}
        text = json.dumps({**connection, "extra": {"verify": str(certificate[0])}})
        rest = AirflowRest.from_spec(ConnectionSpec.from_text("api", text))
        facts = airflow_facts(rest, "pulse_messages")
        assert facts.unreachable is None
        assert load_policy(SHIPPED_POLICY).pools.keys() <= facts.pools
        assert facts.components["metadatabase"] == "healthy"
        assert rest.run("pulse_messages.restore_database", "not there") == {}
        assert rest.answer("pulse_messages.restore_database", "not there", "approve") is None
    for method, path, body in (TRIGGER, MARK, ANSWER, XCOM):
        assert production.status(SERVICE, method, path, dict(body)) == NOBODY_MAY


RUN = "/dags/pulse_messages.daily_backup/dagRuns"
TASK = f"{RUN}/r/taskInstances/approve"
TRIGGER = ("POST", RUN, {"logical_date": None})
MARK = ("PATCH", TASK, {"new_state": "success"})
ANSWER = ("PATCH", f"{TASK}/-1/hitlDetails", {"chosen_options": ["Approve"], "params_input": {}})
XCOM = ("POST", f"{TASK}/xcomEntries", {"key": "return_value", "value": "forged"})
NOBODY_MAY = 403


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_may_do_what_it_is_for_and_nothing_that_two_people_are_for(production: Production, role: str) -> None:
    may = {
        "BackupOperator": {"trigger", "mark"},
        "RestoreRequester": {"trigger"},
        "RestoreApprover": {"answer"},
        "Deployer": {"trigger"},
    }.get(role, set())
    for name, (method, path, body) in {"trigger": TRIGGER, "mark": MARK, "answer": ANSWER, "xcom": XCOM}.items():
        status = production.status(role, method, path, dict(body))
        assert (status != NOBODY_MAY) == (name in may), (role, name, status)
    production.api(role).get("/dags")
