"""The values for the Airflow chart: what its schema takes, and the same settings as docker-compose.yaml."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.settings import SHIPPED_SETTINGS

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "tests/fixtures/helm/values.schema.json").read_text())
# The chart sets these itself, or they are of the proxy in front.
OF_THE_CHART = {
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__API__BASE_URL",
    "FORWARDED_ALLOW_IPS",
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "include/helm/values.yaml").read_text())
    return found


def variables(values: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in values["env"]}


def test_the_chart_takes_the_values(values: dict[str, Any]) -> None:
    jsonschema.validate(values, SCHEMA)
    values = {**values, "webserver": {}}
    with pytest.raises(jsonschema.ValidationError, match="webserver"):
        jsonschema.validate(values, SCHEMA)


def test_the_settings_are_those_of_compose(values: dict[str, Any]) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow"]["environment"]
    ours = variables(values)
    for name, value in compose.items():
        if name in OF_THE_CHART or name.endswith("_CMD"):
            continue
        default = re.fullmatch(r"\$\{[A-Z_]+:-(.*)\}", value)
        assert ours[name] == (default[1] if default else value), name


def test_the_image_is_the_projects_and_of_the_locked_airflow(values: dict[str, Any]) -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    version = re.search(r'^version = "(\S+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert locked is not None
    assert version is not None
    assert (values["airflowVersion"], values["defaultAirflowTag"]) == (locked[1], version[1])
    job = (ROOT / "include/helm/init-job.yaml").read_text()
    assert f"{values['defaultAirflowRepository']}:{version[1]}" in job


def test_every_connection_of_the_settings_has_a_secret(values: dict[str, Any]) -> None:
    listed = yaml.safe_load(SHIPPED_SETTINGS.read_text())["airflow"]["connections"]
    wanted = {f"AIRFLOW_CONN_{item['conn_id'].upper()}": item["conn_id"] for item in listed}
    assert {item["envName"]: item["secretKey"] for item in values["secret"]} == wanted


def test_workers_have_slots_and_time_for_all(values: dict[str, Any]) -> None:
    policy = load_policy(SHIPPED_POLICY, strict=True)
    workers = values["workers"]
    slots = workers["replicas"] * int(variables(values)["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    assert slots >= sum(policy.pools.values())
    tiers = [tier.timeouts for source in policy.sources.values() for tier in source.tiers.values()]
    assert workers["terminationGracePeriodSeconds"] > max(limits.restore_test.total_seconds() for limits in tiers)
    folders = {mount["mountPath"] for mount in workers["extraVolumeMounts"]}
    assert {value for name, value in variables(values).items() if name.endswith("_DIR")} == folders
    assert {mount["name"] for mount in workers["extraVolumeMounts"]} == {
        volume["name"] for volume in workers["extraVolumes"]
    }
