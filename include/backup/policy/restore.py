"""The policy's ``restore`` block: where restores may write, and who must agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from include.backup.duration import parse_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreServer:
    """A server on which copies may be made; on a production one nothing is replaced without approval."""

    name: str
    connection: str
    production: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """Who must agree to a restore into production. ``connection`` is Airflow's own API for one who may look."""

    connection: str
    two_people: bool
    response_timeout: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawPolicy:
    """How archives in Glacier are made readable: at which price, and for how many days."""

    tier: str
    days: int
    poll_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePolicy:
    """Restores of one source. ``source_connection`` may create and rename databases on the source's server."""

    source_connection: str
    servers: Mapping[str, RestoreServer]
    approval: ApprovalPolicy
    keep_old_days: int
    thaw: ThawPolicy
    timeout: timedelta

    @property
    def connections(self) -> tuple[str, ...]:
        """Return the ids of the connections to databases."""
        return tuple(dict.fromkeys((self.source_connection, *(item.connection for item in self.servers.values()))))


def restore_policy(data: Mapping[str, Any] | None) -> RestorePolicy | None:
    """Return the block as checked data has it."""
    if data is None:
        return None
    approval = data["approval"]
    return RestorePolicy(
        source_connection=data["source_connection"],
        servers={
            name: RestoreServer(
                name=name, connection=server["connection"], production=bool(server.get("production", False))
            )
            for name, server in data.get("servers", {}).items()
        },
        approval=ApprovalPolicy(
            connection=approval["connection"],
            two_people=approval["two_people"],
            response_timeout=parse_duration(approval["response_timeout"]),
        ),
        keep_old_days=data["keep_old_days"],
        thaw=ThawPolicy(
            tier=data["thaw"]["tier"], days=data["thaw"]["days"], poll_seconds=data["thaw"]["poll_seconds"]
        ),
        timeout=parse_duration(data["timeout"]),
    )
