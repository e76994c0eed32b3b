"""airflow_settings.yaml as the Astro CLI reads it, compared with the fields that the CLI publishes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.backup.errors import SettingsError
from include.backup.settings import SHIPPED_SETTINGS, load_settings
from include.local import astro_settings

FIELDS = json.loads((Path(__file__).resolve().parents[1] / "fixtures/astro/settings_fields.json").read_text())
TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "int": (int,), "any": (dict, str)}
ENVIRONMENT = {
    "PULSE_DB_HOST": "db.example",
    "PULSE_DB_PASSWORD": "s3cret",
    "PULSE_DB_CA": "/ca.pem",
    "PULSE_S3_ACCESS_KEY": "key",
    "PULSE_S3_SECRET_KEY": "other s3cret",
}


def groups(document: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = document["airflow"]
    return found


def test_the_shipped_file_has_only_fields_that_the_cli_knows() -> None:
    for group, items in groups(yaml.safe_load(SHIPPED_SETTINGS.read_text())).items():
        for item in items:
            assert set(item) <= set(FIELDS[group]), item


def test_what_is_written_for_the_cli_has_its_fields_and_types_and_nothing_to_fill_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / ".astro" / "airflow_settings.yaml"
    monkeypatch.setattr(sys, "argv", ["astro_settings", str(path)])
    assert astro_settings.main() == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in capsys.readouterr().out
    written = groups(yaml.safe_load(path.read_text()))
    for group, items in written.items():
        for item in items:
            for field, value in item.items():
                assert isinstance(value, TYPES[FIELDS[group][field]]), (item, field)
    assert "${" not in path.read_text()
    database = next(item for item in written["connections"] if item["conn_id"] == "pulse_messages_db")
    assert (database["conn_host"], database["conn_port"], database["conn_password"]) == ("db.example", 5432, "s3cret")
    assert database["conn_extra"]["sslmode"] == "verify-full"
    assert {item["pool_name"] for item in written["pools"]} == {"pg_source", "scratch", "backups", "restores"}


def test_a_value_that_would_be_something_else_in_the_clis_shell_is_refused() -> None:
    settings = load_settings(SHIPPED_SETTINGS, {**ENVIRONMENT, "PULSE_DB_PASSWORD": "a'; rm -r x; '"})
    with pytest.raises(SettingsError, match="AIRFLOW_CONN_PULSE_MESSAGES_DB") as refused:
        astro_settings.astro_settings(settings)
    assert "rm -r" not in str(refused.value)


def test_a_missing_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PULSE_DB_HOST", raising=False)
    monkeypatch.setattr(sys, "argv", ["astro_settings", str(tmp_path / "x.yaml")])
    assert astro_settings.main() != 0
    assert "PULSE_DB_HOST is not set" in capsys.readouterr().err
    assert not (tmp_path / "x.yaml").exists()
