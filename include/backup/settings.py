"""airflow_settings.yaml, in the format of the Astro CLI: connections, pools and variables, typed.

``${NAME}`` and ``${NAME:-default}`` in a value are taken from the environment. No error and no ``repr``
shows a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import ConnectionDefinitionError, SettingsError
from include.backup.policy import PROJECT
from include.backup.schema import check
from include.backup.yaml_document import Document, KeyPath, Problem, describe, read_document

SHIPPED_SETTINGS = PROJECT / "airflow_settings.yaml"
_REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_TEXT = {"type": ["string", "null"], "description": "put it in quotes"}


def _item(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": ["array", "null"],
        "items": {
            "type": "object",
            "additionalProperties": False,
            "required": required,
            "properties": properties,
        },
    }


_NAME = {"type": "string", "minLength": 1, "description": "a name"}
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["airflow"],
    "properties": {
        "airflow": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "connections": _item(
                    {
                        "conn_id": _NAME,
                        "conn_type": _TEXT,
                        "conn_host": _TEXT,
                        "conn_schema": _TEXT,
                        "conn_login": _TEXT,
                        "conn_password": _TEXT,
                        "conn_port": {"type": ["integer", "string", "null"]},
                        "conn_uri": _TEXT,
                        "conn_extra": {"type": ["object", "string", "null"]},
                    },
                    ["conn_id"],
                ),
                "pools": _item(
                    {
                        "pool_name": _NAME,
                        "pool_slot": {"type": "integer", "minimum": 0, "description": "0 or more slots"},
                        "pool_description": _TEXT,
                    },
                    ["pool_name", "pool_slot"],
                ),
                "variables": _item({"variable_name": _NAME, "variable_value": _TEXT}, ["variable_name"]),
            },
        }
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """An Airflow pool."""

    name: str
    slots: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An Airflow variable; its value is not in ``repr``."""

    name: str
    value: Secret = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What Airflow is to be given before its first run."""

    connections: tuple[ConnectionSpec, ...]
    pools: tuple[Pool, ...]
    variables: tuple[Variable, ...]

    def connection(self, conn_id: str) -> ConnectionSpec:
        """Return a connection; raises ConnectionDefinitionError."""
        for spec in self.connections:
            if spec.conn_id == conn_id:
                return spec
        known = ", ".join(spec.conn_id for spec in self.connections) or "none"
        raise ConnectionDefinitionError(f"there is no connection {conn_id} in the settings; they have {known}")


def load_settings(path: Path, environ: Mapping[str, str], *, only: Collection[str] | None = None) -> Settings:
    """Read the settings; ``only`` leaves out all connections but these, so that their variables may be unset.

    Raises SettingsError naming file and line, for an unknown key, a wrong type, or a variable that is not set.
    """
    document = read_document(path, SettingsError, name=path.name)
    problems = list(document.problems) + check(document.data, _SCHEMA, lines=document.lines, show_values=False)
    if problems:
        raise SettingsError(describe(document.name, problems))
    return _Reader(document, environ, only).read()


class _Reader:
    def __init__(self, document: Document, environ: Mapping[str, str], only: Collection[str] | None) -> None:
        self._document = document
        self._environ = environ
        self._only = only
        self._problems: list[Problem] = []

    def read(self) -> Settings:
        connections = [
            self._connection(at, self._expanded(item, at))
            for at, item in self._items("connections", "conn_id")
            if self._only is None or item["conn_id"] in self._only
        ]
        pools = [
            Pool(name=item["pool_name"], slots=item["pool_slot"], description=item.get("pool_description") or "")
            for _, item in self._items("pools", "pool_name")
        ]
        variables = [
            Variable(
                name=item["variable_name"],
                value=Secret(self._expanded(item.get("variable_value") or "", (*at, "variable_value"))),
            )
            for at, item in self._items("variables", "variable_name")
        ]
        if self._problems:
            raise SettingsError(describe(self._document.name, self._problems))
        return Settings(
            connections=tuple(spec for spec in connections if spec is not None),
            pools=tuple(pools),
            variables=tuple(variables),
        )

    def _items(self, group: str, key: str) -> list[tuple[KeyPath, dict[str, Any]]]:
        items = self._document.data["airflow"].get(group) or []
        found: list[tuple[KeyPath, dict[str, Any]]] = []
        names: set[str] = set()
        for index, item in enumerate(items):
            at: KeyPath = ("airflow", group, index)
            if item[key] in names:
                self._problem((*at, key), f"{key} {item[key]!r} is there twice; keep one")
            names.add(item[key])
            found.append((at, item))
        return found

    def _connection(self, at: KeyPath, item: dict[str, Any]) -> ConnectionSpec | None:
        conn_id = item["conn_id"]
        if item.get("conn_uri"):
            if others := sorted(set(item) - {"conn_id", "conn_uri"}):
                self._problem(at, f"conn_uri stands alone; remove {', '.join(others)}")
                return None
            return self._named(at, lambda: ConnectionSpec.from_text(conn_id, item["conn_uri"]))
        fields = {name.removeprefix("conn_"): value for name, value in item.items() if name != "conn_id"}
        fields["conn_type"] = fields.pop("type", None)
        if not fields["conn_type"]:
            self._problem(at, "conn_type is missing; set it, e.g. postgres, aws or slackwebhook")
            return None
        return self._named(at, lambda: ConnectionSpec.from_text(conn_id, json.dumps(fields)))

    def _named(self, at: KeyPath, make: Callable[[], ConnectionSpec]) -> ConnectionSpec | None:
        try:
            return make()
        except ConnectionDefinitionError as error:
            self._problem(at, str(error))
            return None

    def _expanded(self, value: Any, at: KeyPath) -> Any:
        if isinstance(value, dict):
            return {key: self._expanded(item, (*at, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._expanded(item, (*at, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        return _REFERENCE.sub(lambda match: self._reference(match, at), value)

    def _reference(self, match: re.Match[str], at: KeyPath) -> str:
        value = self._environ.get(match["name"])
        if value:
            return value
        if match["default"] is None:
            self._problem(at, f"the environment variable {match['name']} is not set; set it, or give a default")
            return ""
        return match["default"]

    def _problem(self, path: KeyPath, text: str) -> None:
        self._problems.append(Problem(path=path, line=self._document.line_of(path), text=text))
