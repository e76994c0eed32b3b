"""A connection as Airflow defines it, read without Airflow."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from include.backup.errors import ConnectionDefinitionError

_JSON_KEYS = ("conn_type", "host", "login", "password", "schema", "port", "extra", "description", "uri")


class Secret(str):
    """Text that ``repr`` does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSpec:
    """A connection as Airflow defines it. Password and extras are not in ``repr``."""

    conn_id: str
    conn_type: str
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: Secret | None = field(default=None, repr=False)
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_text(cls, conn_id: str, text: str) -> Self:
        """Read what AIRFLOW_CONN_<ID> holds: a URI or JSON. No error shows any of it."""
        if text.lstrip().startswith("{"):
            return cls._from_json(conn_id, text)
        return cls._from_uri(conn_id, text)

    def require(self, conn_type: str, *, extras: Sequence[str]) -> None:
        """Raise ConnectionDefinitionError unless the connection is of a type and has no other extras than these."""
        if self.conn_type != conn_type:
            raise bad_connection(self.conn_id, f"has type {self.conn_type!r}; allowed: {conn_type}")
        if unknown := sorted(set(self.extra) - set(extras)):
            raise bad_connection(self.conn_id, f"has the extra {', '.join(unknown)}; allowed: {', '.join(extras)}")

    def text(self, name: str) -> str | None:
        """Return an extra, None when it is empty or not there; raises ConnectionDefinitionError when it is no text."""
        value = self.extra.get(name)
        if value in (None, ""):
            return None
        if not isinstance(value, str):
            raise bad_connection(self.conn_id, f"has an extra {name} that is not text; give text or leave it out")
        return value

    def to_airflow(self) -> dict[str, Any]:
        """Return the fields under Airflow's names, with the password; to be written to 0600 files only."""
        named = {
            "conn_type": self.conn_type,
            "host": self.host,
            "schema": self.schema,
            "login": self.login,
            "password": None if self.password is None else str(self.password),
            "port": self.port,
            "extra": dict(self.extra) or None,
        }
        return {name: value for name, value in named.items() if value is not None}

    @classmethod
    def _from_json(cls, conn_id: str, text: str) -> Self:
        try:
            data = json.loads(text)
            extra = data.get("extra") or {}
            extra = json.loads(extra) if isinstance(extra, str) else extra
            port = int(data["port"]) if data.get("port") not in (None, "") else None
        except (ValueError, TypeError, AttributeError):
            raise bad_connection(conn_id, "is not valid JSON of an Airflow connection") from None
        if unknown := sorted(set(data) - set(_JSON_KEYS)):
            raise bad_connection(conn_id, f"has unknown keys {', '.join(unknown)}; allowed: {', '.join(_JSON_KEYS)}")
        if not isinstance(extra, dict):
            raise bad_connection(conn_id, "has an extra that is no mapping")
        if data.get("uri"):
            return cls._from_uri(conn_id, data["uri"])
        return cls(
            conn_id=conn_id,
            conn_type=_type(data.get("conn_type") or ""),
            host=data.get("host") or None,
            schema=data.get("schema") or None,
            login=data.get("login") or None,
            password=_secret(data.get("password")),
            port=port,
            extra=extra,
        )

    @classmethod
    def _from_uri(cls, conn_id: str, text: str) -> Self:
        try:
            parts = urlsplit(text)
            extra: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
            if "__extra__" in extra:
                extra = json.loads(extra["__extra__"])
            port = parts.port
        except ValueError:
            raise bad_connection(conn_id, "is no valid URI; percent-encode special characters") from None
        if not parts.scheme or not isinstance(extra, dict):
            raise bad_connection(conn_id, "is neither a URI nor JSON")
        return cls(
            conn_id=conn_id,
            conn_type=_type(parts.scheme),
            host=unquote(parts.hostname) if parts.hostname else None,
            schema=unquote(parts.path.lstrip("/")) or None,
            login=unquote(parts.username) if parts.username else None,
            password=_secret(unquote(parts.password)) if parts.password else None,
            port=port,
            extra=extra,
        )


def bad_connection(conn_id: str, what: str) -> ConnectionDefinitionError:
    """Return the error for a connection that is not acceptable; ``what`` goes on after its id."""
    return ConnectionDefinitionError(f"connection {conn_id} {what}")


def _type(text: str) -> str:
    name = text.lower().replace("-", "_")
    return "postgres" if name in ("postgres", "postgresql") else name


def _secret(value: Any) -> Secret | None:
    return Secret(value) if value else None
