"""Connections: where they come from, what is allowed in them, and that passwords stay out of sight."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.connections import DatabaseConnection, StoreConnection, resolve_connection
from include.backup.errors import ConnectionDefinitionError, SettingsError
from include.backup.settings import SHIPPED_SETTINGS

PASSWORD = "pä ss/w@rd:%"


def database(**overrides: Any) -> ConnectionSpec:
    values: dict[str, Any] = {
        "conn_id": "db",
        "conn_type": "postgres",
        "host": "db.example",
        "schema": "pulse",
        "login": "backup",
        "password": Secret(PASSWORD),
        "port": 6543,
        "extra": {"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
    }
    return ConnectionSpec(**{**values, **overrides})


def store(**overrides: Any) -> ConnectionSpec:
    values: dict[str, Any] = {
        "conn_id": "s3",
        "conn_type": "aws",
        "login": "AKIA",
        "password": Secret(PASSWORD),
        "extra": {"endpoint_url": "https://s3.example", "region_name": "us-east-1", "verify": "/ca.pem"},
    }
    return ConnectionSpec(**{**values, **overrides})


def test_a_database_is_read_from_its_connection() -> None:
    connection = DatabaseConnection.from_spec(database())
    parameters = connection.libpq_parameters()
    assert {key: parameters[key] for key in ("host", "port", "dbname", "user", "sslmode", "sslrootcert")} == {
        "host": "db.example",
        "port": "6543",
        "dbname": "pulse",
        "user": "backup",
        "sslmode": "verify-full",
        "sslrootcert": "/ca.pem",
    }
    assert parameters["application_name"] == "pulse_backup"
    assert parameters["keepalives_idle"] == "60"


def test_the_password_travels_in_the_environment_only() -> None:
    connection = DatabaseConnection.from_spec(database())
    assert connection.environment()["PGPASSWORD"] == PASSWORD
    assert PASSWORD not in repr(connection)
    assert PASSWORD not in str(connection.libpq_parameters())


def test_without_a_password_none_is_set() -> None:
    assert "PGPASSWORD" not in DatabaseConnection.from_spec(database(password=None)).environment()


def test_tls_is_verified_unless_the_connection_says_otherwise() -> None:
    connection = DatabaseConnection.from_spec(database(extra={}, port=None))
    assert (connection.sslmode, connection.sslrootcert, connection.port) == ("verify-full", None, 5432)


@pytest.mark.parametrize(
    "extra",
    [{"options": "-c row_security=on"}, {"service": "x"}, {"sslmode": "require", "passfile": "/x"}, {"host": "y"}],
)
def test_an_extra_that_is_not_on_the_list_is_refused_by_name(extra: dict[str, str]) -> None:
    unknown = next(name for name in extra if name != "sslmode")
    with pytest.raises(ConnectionDefinitionError, match=f"{unknown}; allowed: sslmode, sslrootcert"):
        DatabaseConnection.from_spec(database(extra=extra))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conn_type": "mysql"}, "has type 'mysql'; allowed: postgres"),
        ({"host": None}, "has no host"),
        ({"schema": None}, "has no schema"),
        ({"login": None}, "has no login"),
        ({"extra": {"sslmode": "no"}}, "allowed: disable, allow"),
        ({"extra": {"sslmode": ["require"]}}, "not text"),
    ],
)
def test_a_database_that_cannot_work_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConnectionDefinitionError, match=f"connection db .*{words}") as caught:
        DatabaseConnection.from_spec(database(**change))
    assert PASSWORD not in str(caught.value)


def test_a_store_is_read_from_its_connection() -> None:
    connection = StoreConnection.from_spec(store())
    assert connection == StoreConnection(
        region="us-east-1",
        endpoint_url="https://s3.example",
        access_key="AKIA",
        secret_key=Secret(PASSWORD),
        ca_bundle="/ca.pem",
    )
    assert PASSWORD not in repr(connection)


def test_a_store_without_keys_uses_the_machines_role() -> None:
    connection = StoreConnection.from_spec(store(login=None, password=None, extra={"region_name": "eu-west-1"}))
    assert (connection.access_key, connection.secret_key, connection.endpoint_url) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"conn_type": "http"}, "has type 'http'; allowed: aws"),
        ({"login": None}, "needs both"),
        ({"password": None}, "needs both"),
        ({"extra": {}}, "has no region_name"),
        ({"extra": {"region_name": "r", "role_arn": "x"}}, "has the extra role_arn"),
        ({"extra": {"region_name": "r", "verify": False}}, "not text"),
        ({"extra": {"region_name": "r", "endpoint_url": "http://s3.example"}}, "without TLS"),
        ({"extra": {"region_name": "r", "endpoint_url": "s3.example"}}, "no https"),
        ({"extra": {"region_name": "r", "endpoint_url": "https://u:p@s3.example"}}, "a password in it"),
        ({"extra": {"region_name": "r", "endpoint_url": "https://s3.example:port"}}, "no URL"),
        ({"extra": {"region_name": "r", "endpoint_url": "https://[s3"}}, "no URL"),
    ],
)
def test_a_store_that_cannot_work_or_is_not_safe_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConnectionDefinitionError, match=f"connection s3 .*{words}"):
        StoreConnection.from_spec(store(**change))


@pytest.mark.parametrize("host", ["127.0.0.1:6401", "localhost:9000", "[::1]:1"])
def test_a_store_on_this_machine_may_do_without_tls(host: str) -> None:
    extra = {"region_name": "r", "endpoint_url": f"http://{host}"}
    assert StoreConnection.from_spec(store(extra=extra)).endpoint_url == f"http://{host}"


def test_a_uri_and_json_give_the_same_connection() -> None:
    uri = "postgresql://backup:p%C3%A4%20ss%2Fw%40rd%3A%25@db.example:6543/pulse?sslmode=verify-full&sslrootcert=%2Fca.pem"
    data = {
        "conn_type": "postgres",
        "host": "db.example",
        "login": "backup",
        "password": PASSWORD,
        "schema": "pulse",
        "port": "6543",
        "extra": json.dumps({"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
    }
    assert ConnectionSpec.from_text("db", uri) == ConnectionSpec.from_text("db", json.dumps(data)) == database()


def test_a_uri_may_carry_its_extra_as_json() -> None:
    spec = ConnectionSpec.from_text("s3", "aws://AKIA:x@/?__extra__=%7B%22region_name%22%3A+%22r%22%7D")
    assert (spec.conn_type, spec.login, spec.extra) == ("aws", "AKIA", {"region_name": "r"})


@pytest.mark.parametrize(
    "text",
    [
        f"{{{PASSWORD}",
        json.dumps({"conn_type": "aws", "passwort": PASSWORD}),
        json.dumps({"conn_type": "aws", "password": PASSWORD, "port": PASSWORD}),
        json.dumps({"conn_type": "aws", "password": PASSWORD, "extra": [PASSWORD]}),
        f"postgres://u:{PASSWORD}@h:port/db",
        PASSWORD,
    ],
)
def test_a_text_that_is_no_connection_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConnectionDefinitionError, match="connection c ") as caught:
        ConnectionSpec.from_text("c", text)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_environment_comes_before_the_settings() -> None:
    environ = {"AIRFLOW_CONN_PULSE_MESSAGES_DB": "postgres://u:p@env.example/db", "PULSE_DB_HOST": "file.example"}
    spec = resolve_connection("pulse_messages_db", environ=environ, settings=SHIPPED_SETTINGS)
    assert spec.host == "env.example"


def test_the_settings_come_when_the_environment_has_none() -> None:
    environ = {"PULSE_DB_HOST": "file.example", "PULSE_DB_PASSWORD": "p", "PULSE_DB_CA": "/ca"}
    spec = resolve_connection("pulse_messages_db", environ=environ, settings=SHIPPED_SETTINGS)
    assert spec.host == "file.example"
    with pytest.raises(SettingsError, match="PULSE_DB_HOST is not set"):
        resolve_connection("pulse_messages_db", environ={}, settings=SHIPPED_SETTINGS)


def test_a_connection_that_is_nowhere_is_refused_with_both_ways_to_set_it() -> None:
    with pytest.raises(ConnectionDefinitionError, match=r"set AIRFLOW_CONN_OTHER .*airflow_settings\.yaml"):
        resolve_connection("other", environ={}, settings=SHIPPED_SETTINGS)


def test_a_secret_is_text_whose_repr_is_masked() -> None:
    assert Secret("abc") == "abc"
    assert repr([Secret("abc")]) == "['***']"
