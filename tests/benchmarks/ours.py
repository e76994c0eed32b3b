"""How this project does it: the chain from dump to verify, and the command line's restore, each in a new process."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from include.backup.connections import DatabaseConnection
from include.backup.policy import SHIPPED_POLICY
from tests.benchmarks.site import Site
from tests.benchmarks.watch import watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One backup. ``seconds`` is the steps' alone, ``process_seconds`` also Python's start and preflight."""

    backup_id: str
    seconds: float
    process_seconds: float
    steps: Mapping[str, float]
    compressed_bytes: int
    uncompressed_bytes: int
    memory: int
    staging: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """One restore by the command line, Python's start included."""

    seconds: float
    parts: Mapping[str, float]
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One base backup by the command line, Python's start included."""

    seconds: float
    steps: Mapping[str, float]
    stored_bytes: int
    memory: int

    @property
    def stored_seconds(self) -> float:
        """Until archive and manifest were in the store: all but reading back."""
        return self.seconds - self.steps["verify"]


class Ours:
    """Each method runs once and returns what it took."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._policy = site.folder / "policy.yaml"
        self._policy.write_text(yaml.safe_dump(_policy_without_encryption(), sort_keys=False))

    def backup(self) -> Chain:
        """Take a backup and leave it in the store; what staging held goes."""
        staging = self._site.work("staging")
        done = watched((sys.executable, "-m", "tests.benchmarks.chain"), environment=self.environment(), folder=staging)
        said = json.loads(done.output)
        self._site.work("staging")
        return Chain(
            backup_id=said["backup_id"],
            seconds=said["seconds"],
            process_seconds=done.seconds,
            steps=said["steps"],
            compressed_bytes=said["compressed_bytes"],
            uncompressed_bytes=said["uncompressed_bytes"],
            memory=done.memory,
            staging=done.disk,
        )

    def restore(self) -> Restored:
        """Restore the newest backup out of the store into the target's empty database."""
        target = self._site.target
        argv = (
            *(sys.executable, "-m", "include.backup", "restore", "pulse_messages", "latest"),
            *("--to-database", target.dbname, "--host", target.host, "--port", str(target.port)),
            *("--user", target.user, "--sslmode", target.sslmode),
            *("--unproven", "--no-compare", "--yes", "--json"),
        )
        environment = {**self.environment(), **target.environment()}
        done = watched(argv, environment=environment, folder=self._site.folder / "staging")
        report = json.loads(done.output)["report"]
        return Restored(seconds=done.seconds, parts=report["durations"], memory=done.memory)

    def base_backup(self) -> Base:
        """Take a full base backup by the command line and leave it in the store."""
        argv = (sys.executable, "-m", "include.backup", "base", "pulse_messages", "--full", "--no-wal", "--json")
        done = watched(argv, environment=self.environment(), folder=self._site.work("staging"))
        said = json.loads(done.output)
        return Base(
            seconds=done.seconds,
            steps={
                "preflight to verify": said["seconds"],
                **{name: said["steps"][name]["seconds"] for name in ("take", "upload", "verify")},
            },
            stored_bytes=said["steps"]["verify"]["size"],
            memory=done.memory,
        )

    def environment(self) -> dict[str, str]:
        """Return what the command line needs."""
        store = self._site.store
        return {
            "BACKUP_POLICY": str(self._policy),
            "BACKUP_STAGING_DIR": str(self._site.folder / "staging"),
            "AIRFLOW_CONN_PULSE_MESSAGES_DB": _database(self._site.source),
            "AIRFLOW_CONN_PULSE_BACKUPS_S3": json.dumps(
                {
                    "conn_type": "aws",
                    "login": store.access_key,
                    "password": str(store.secret_key),
                    "extra": {
                        "endpoint_url": store.endpoint_url,
                        "region_name": store.region,
                        "verify": store.ca_bundle,
                    },
                }
            ),
        }


def _database(connection: DatabaseConnection) -> str:
    return json.dumps(
        {
            "conn_type": "postgres",
            "host": connection.host,
            "port": connection.port,
            "schema": connection.dbname,
            "login": connection.user,
            "password": str(connection.password),
            "extra": {"sslmode": connection.sslmode},
        }
    )


def _policy_without_encryption() -> dict[str, Any]:
    """Return the shipped policy for a store that has no KMS; nothing else differs."""
    policy: dict[str, Any] = yaml.safe_load(SHIPPED_POLICY.read_text())
    source = policy["sources"]["pulse_messages"]
    source["store"]["encryption"] = {"sse": "none"}
    # No slot: what is measured is the copy of the files, and nobody stores WAL here.
    source.pop("incremental", None)
    return policy
