"""docker-compose.yaml: what Compose makes of it agrees with the lock files, the settings and the policy."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.backup.errors import SettingsError
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.settings import SHIPPED_SETTINGS
from include.backup.steps.upload import NEWEST_SERVER_MAJOR
from include.compose import demo, make_secrets
from include.compose.init import objects, with_files

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yaml"
AIRFLOW = ("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer", "airflow-worker")
PROGRAMS = (
    "/usr/local/lib/docker/cli-plugins/docker-compose",
    "/usr/libexec/docker/cli-plugins/docker-compose",
    "/usr/lib/docker/cli-plugins/docker-compose",
)
ALL_PROFILES = ("demo", "flower", "debug")
# What is mounted over the image's own: the image's tag is the version of all else.
OF_THE_INSTALLATION = ("include/policy", "include/sql/checks", "include/compose/certificates", "airflow_settings.yaml")
UNITS = {"h": 3600, "m": 60, "s": 1}


def config(*options: str, profiles: Sequence[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``docker compose config`` in an environment that has nothing else."""
    program = next((path for path in PROGRAMS if Path(path).is_file()), None) or shutil.which("docker-compose")
    if program is None:
        pytest.skip("the Compose v2 plugin is not installed; .ci/run says how to get it")
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    return subprocess.run(
        [program, "-f", str(COMPOSE), "--env-file", "/dev/null", *chosen, "config", *options],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as the Compose plugin resolves it, all profiles included."""
    done = config("--format", "json", profiles=ALL_PROFILES)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("profile", [None, *ALL_PROFILES])
def test_compose_takes_the_file_in_every_profile(profile: str | None) -> None:
    done = config("--quiet", profiles=[] if profile is None else [profile])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_profile_is_looked_at() -> None:
    found = yaml.safe_load(COMPOSE.read_text())["services"].values()
    assert {profile for service in found for profile in service.get("profiles", ())} == set(ALL_PROFILES)


def services(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose["services"].items()


def seconds(text: str) -> float:
    return sum(float(amount) * UNITS[unit] for amount, unit in re.findall(r"([0-9.]+)([hms])", text))


def test_no_image_is_taken_by_a_tag_that_moves(compose: dict[str, Any]) -> None:
    base = re.search(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert base is not None
    for image in {*(service["image"] for _, service in services(compose)), base[1]}:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert tag != "latest"
        assert re.match(r"\d+\.\d+", tag), image


def test_the_image_is_of_the_locked_airflow(compose: dict[str, Any]) -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert f"FROM apache/airflow:{locked[1]}-python" in (ROOT / "Dockerfile").read_text()
    version = re.search(r'^version = "(\S+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    images = {service["image"] for name, service in services(compose) if name.startswith("airflow") or name == "demo"}
    assert images == {f"pulse-backups:{version[1]}"}


def test_the_image_brings_the_locked_packages_the_project_and_postgresql_of_every_supported_major() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes --requirement /opt/airflow/requirements.lock" in text
    for what in ("requirements.lock", "dags", "plugins", "include", "airflow_settings.yaml"):
        assert re.search(rf"^COPY --chown=airflow:0 {re.escape(what)} /opt/airflow/", text, re.MULTILINE), what
    majors = re.search(r'^ARG POSTGRES_MAJORS="([0-9 ]+)"$', text, re.MULTILINE)
    assert majors is not None
    schema = (SHIPPED_POLICY.parent / "policy.schema.json").read_text()
    oldest = re.search(r'"postgres_major": \{\s*"type": "integer", "minimum": (\d+)', schema)
    assert oldest is not None
    assert [int(major) for major in majors[1].split()] == list(range(int(oldest[1]), NEWEST_SERVER_MAJOR + 1))


def test_every_component_of_airflow_is_there_and_is_looked_after(compose: dict[str, Any]) -> None:
    for name in (*AIRFLOW, "postgres", "redis", "proxy"):
        service = compose["services"][name]
        assert service["healthcheck"]["test"], name
        assert service["restart"] == "unless-stopped", name
        limits = service["deploy"]["resources"]["limits"]
        assert float(limits["cpus"]) > 0
        assert int(limits["memory"]) > 0
    assert compose["services"]["airflow-apiserver"]["deploy"]["replicas"] >= 2
    assert compose["services"]["flower"]["profiles"] == ["flower"]


def test_every_component_has_the_same_settings_and_the_code_of_its_image(compose: dict[str, Any]) -> None:
    reference = compose["services"]["airflow-scheduler"]
    for name in AIRFLOW:
        service = compose["services"][name]
        assert reference["environment"].items() <= service["environment"].items(), name
        mounted = {volume["target"]: volume for volume in service["volumes"]}
        assert {path: mounted[path]["source"] for path in mounted if mounted[path]["type"] == "bind"} == {
            f"/opt/airflow/{path}": str(ROOT / path) for path in OF_THE_INSTALLATION
        }
        assert all(volume["read_only"] for volume in mounted.values() if volume["type"] == "bind")
        assert service["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
    assert "ENV PYTHONPATH=/opt/airflow" in (ROOT / "Dockerfile").read_text()


def test_every_volume_belongs_to_the_user_of_the_containers(compose: dict[str, Any]) -> None:
    """Docker makes a mount point that the image lacks as root's."""
    made = re.search(r"install -d -o airflow -g 0 -m 0770 ((?:\\\n|[^;&\n])+)", (ROOT / "Dockerfile").read_text())
    assert made is not None
    owned = {*made[1].replace("\\\n", " ").split(), "/opt/airflow/logs"}
    for name in ("airflow-worker", "demo"):
        volumes = {one["target"] for one in compose["services"][name]["volumes"] if one["type"] == "volume"}
        assert volumes <= owned, name


def test_the_api_server_believes_what_the_proxy_says_of_the_client(compose: dict[str, Any]) -> None:
    server = compose["services"]["airflow-apiserver"]
    assert server["command"] == ["api-server", "--proxy-headers"]
    assert server["environment"]["FORWARDED_ALLOW_IPS"] == "*"


def test_the_workers_of_a_chain_share_its_staging(compose: dict[str, Any]) -> None:
    worker = compose["services"]["airflow-worker"]
    shared = {volume["target"] for volume in worker["volumes"] if volume["type"] == "volume"}
    assert {worker["environment"]["BACKUP_STAGING_DIR"], worker["environment"]["BACKUP_SCRATCH_DIR"]} <= shared
    assert worker["environment"]["BACKUP_POLICY"] == f"/opt/airflow/{SHIPPED_POLICY.relative_to(ROOT)}"


def test_no_task_is_cut_off_by_a_shorter_limit(compose: dict[str, Any]) -> None:
    policy = load_policy(SHIPPED_POLICY, strict=True)
    longest = timedelta()
    for source in policy.sources.values():
        for tier in source.tiers.values():
            limits = tier.timeouts
            longest = max(longest, limits.dump, limits.compress, limits.upload, limits.verify, limits.restore_test)
    worker = compose["services"]["airflow-worker"]
    assert seconds(worker["stop_grace_period"]) > longest.total_seconds()
    visibility = worker["environment"]["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"]
    assert int(visibility) > longest.total_seconds()
    assert int(worker["environment"]["AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS"]) >= 20
    assert int(worker["environment"]["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"]) >= 900


def test_no_secret_is_written_down_and_each_has_a_file(compose: dict[str, Any]) -> None:
    files = {name: Path(secret["file"]) for name, secret in compose["secrets"].items()}
    assert {path.parent for path in files.values()} == {make_secrets.FOLDER}
    made = {*make_secrets.make_values(), "tls_certificate.pem", "tls_key.pem"}
    assert {path.name for path in files.values()} == made
    for name, service in services(compose):
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|FERNET|SQL_ALCHEMY|BROKER_URL|RESULT_BACKEND", key):
                assert value in (None, "") or value.startswith(("cat /run/secrets/", "/run/secrets/")), (name, key)
        for given in service.get("secrets") or []:
            assert given["source"] in files, name
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_component_can_read_every_secret_that_its_settings_name(compose: dict[str, Any]) -> None:
    for name, service in services(compose):
        given = {secret["source"] for secret in service.get("secrets") or []}
        wanted = set(
            re.findall(r"/run/secrets/([a-z_]+)", json.dumps([service.get("environment"), service["command"]]))
        )
        assert wanted <= given, name


def test_task_logs_go_to_a_bucket_of_their_own_by_a_connection_that_init_makes(compose: dict[str, Any]) -> None:
    """How long they stay there is the bucket's: tests/unit/test_aws_templates.py."""
    connections = {item["conn_id"] for item in yaml.safe_load(SHIPPED_SETTINGS.read_text())["airflow"]["connections"]}
    buckets = {source.store.bucket for source in load_policy(SHIPPED_POLICY).sources.values()}
    for name in AIRFLOW:
        environment = compose["services"][name]["environment"]
        assert environment["AIRFLOW__LOGGING__REMOTE_LOGGING"] == "True"
        assert environment["AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID"] in connections
        folder = environment["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"]
        assert folder.startswith("s3://")
        assert folder.removeprefix("s3://").partition("/")[0] not in buckets


def test_tasks_reach_airflows_api_by_a_name_that_the_certificate_is_for(compose: dict[str, Any]) -> None:
    def url(found: dict[str, Any]) -> str:
        given: str = found["services"]["airflow-init"]["environment"]["PULSE_AIRFLOW_URL"]
        return given

    assert url(compose) == f"https://{make_secrets.INSIDE}:8443"
    named = json.loads(config("--format", "json", profiles=[], PULSE_NAME="backups.example").stdout)
    assert named["services"]["proxy"]["networks"]["default"]["aliases"] == ["backups.example"]
    assert url(named) == "https://backups.example:8443"
    ca = compose["services"]["airflow-init"]["environment"]["PULSE_AIRFLOW_CA"]
    for name in AIRFLOW:
        assert ca in {f"/run/secrets/{secret['source']}" for secret in compose["services"][name]["secrets"]}, name


def test_what_reaches_airflow_itself_is_made_anew_and_what_people_entered_stays() -> None:
    """A certificate of one's own has another name and authority than the one that was there first."""
    given = dict.fromkeys(("DB_HOST", "DB_PASSWORD", "DB_CA", "S3_ACCESS_KEY", "S3_SECRET_KEY", "AIRFLOW_URL"), "x")
    found = objects({f"PULSE_{name}": value for name, value in given.items()})
    assert found["overwrite"] == ["pulse_airflow_api"]
    assert found["connections"]["pulse_airflow_api"]["host"] == "x"


def test_init_is_given_the_file_with_what_the_settings_take() -> None:
    init = yaml.safe_load(COMPOSE.read_text())["services"]["airflow-init"]
    assert init["env_file"] == [{"path": ".env", "required": False}]
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_workers_have_slots_for_all_pools_at_once(compose: dict[str, Any]) -> None:
    worker = compose["services"]["airflow-worker"]
    slots = int(worker["environment"]["AIRFLOW__CELERY__WORKER_CONCURRENCY"]) * worker["deploy"]["replicas"]
    assert slots >= sum(load_policy(SHIPPED_POLICY).pools.values())


def test_tasks_do_not_reach_the_world_past_the_proxy(compose: dict[str, Any]) -> None:
    published = {name for name, service in services(compose) if service.get("ports")}
    assert published == {"proxy", "flower", "demo"}
    for name in ("flower", "demo"):
        assert {port.get("host_ip") for port in compose["services"][name]["ports"]} == {"127.0.0.1"}
    proxy = (ROOT / "include/compose/nginx.conf").read_text()
    assert "ssl_protocols TLSv1.3;" in proxy
    assert "location /execution/ { return 403; }" in proxy


def test_secrets_are_made_once_and_fit_each_other(tmp_path: Path, strict_umask: None) -> None:
    folder = tmp_path / "secrets"
    values = make_secrets.make_values()
    assert set(make_secrets.write_missing(folder, values)) == set(values)
    assert make_secrets.write_missing(folder, make_secrets.make_values()) == []
    kept = {name: (folder / name).read_text() for name in values}
    assert kept == values
    assert f":{kept['metadata_password']}@" in kept["metadata_url"]
    assert f":{kept['metadata_password']}@" in kept["result_backend"]
    assert f":{kept['redis_password']}@" in kept["broker_url"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert make_secrets.make_values() != values


def test_a_lost_secret_is_not_replaced_by_one_that_opens_nothing(tmp_path: Path) -> None:
    make_secrets.write_missing(tmp_path / "s", make_secrets.make_values())
    (tmp_path / "s" / "fernet_key").unlink()
    (tmp_path / "s" / "service_password").unlink()
    with pytest.raises(FileExistsError, match="lacks fernet_key, service_password: restore those from your escrow"):
        make_secrets.write_missing(tmp_path / "s", make_secrets.make_values())
    assert not (tmp_path / "s" / "service_password").exists()


def test_what_a_newer_version_wants_is_made_beside_what_is_there(tmp_path: Path) -> None:
    values = make_secrets.make_values()
    make_secrets.write_missing(tmp_path / "s", values)
    (tmp_path / "s" / "service_password").unlink()
    assert make_secrets.write_missing(tmp_path / "s", make_secrets.make_values()) == ["service_password"]
    assert (tmp_path / "s" / "service_password").read_text() != values["service_password"]
    assert (tmp_path / "s" / "fernet_key").read_text() == values["fernet_key"]


def test_the_certificate_is_made_once(tmp_path: Path) -> None:
    assert make_secrets.make_certificate(tmp_path, "backups.example") is True
    before = (tmp_path / "tls_certificate.pem").read_bytes()
    assert make_secrets.make_certificate(tmp_path, "backups.example") is False
    assert (tmp_path / "tls_certificate.pem").read_bytes() == before
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", str(tmp_path / "tls_certificate.pem")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "DNS:backups.example, DNS:proxy" in shown.stdout


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("geheim\n")
    found = with_files({"PULSE_DB_PASSWORD_FILE": str(tmp_path / "p"), "PULSE_DB_USER": "u", "OTHER_FILE": "x"})
    assert found == {"PULSE_DB_PASSWORD": "geheim", "PULSE_DB_USER": "u", "OTHER_FILE": "x"}
    with pytest.raises(Exception, match="PULSE_DB_PASSWORD_FILE: cannot read"):
        with_files({"PULSE_DB_PASSWORD_FILE": str(tmp_path / "not there")})


@pytest.mark.parametrize("fails", [False, True])
def test_the_demo_container_shows_the_demo_until_it_is_stopped_and_stops_what_it_has_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    stopped: list[dict[str, str]] = []
    handlers: dict[int, Any] = {}

    class Stack:
        def __init__(self, port_base: int, *, extra_environment: dict[str, str]) -> None:
            self.environment = extra_environment

        def down(self) -> None:
            stopped.append(self.environment)

    def run_demo(*_: object, **__: object) -> str:
        if fails:
            raise SettingsError("no room")
        return "done"

    monkeypatch.setattr(demo, "Stack", Stack)
    monkeypatch.setattr(demo, "run_demo", run_demo)
    monkeypatch.setattr(demo, "summary_lines", lambda result, *, down_command: [f"{result}; {down_command}"])
    monkeypatch.setattr(demo.signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(demo.signal, "pause", lambda: handlers[signal.SIGTERM](signal.SIGTERM, None))
    assert demo.main() == (SettingsError.exit_code if fails else 0)
    assert stopped == [demo.EVERY_ADDRESS]
    said = capsys.readouterr()
    assert ("error: no room" in said.err) is fails
    assert ("done; docker compose --profile demo down" in said.out) is not fails
