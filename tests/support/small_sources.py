"""Small sources, as many as tests want: their part of the policy, and their databases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import sql

from include.backup.policy import SHIPPED_POLICY
from include.backup.settings import SHIPPED_SETTINGS
from include.local.s3 import BUCKET

TEMPLATE = "small"
HOURLY = {"schedule": None, "keep": "9 days", "thin": {"after": "48 hours"}, "prefix": "tables/"}
WEEKLY = {"schedule": None, "keep": "4 weeks", "prefix": "weekly/"}
TEMPLATE_SQL = """
CREATE TABLE public.customers (id int PRIMARY KEY, name text NOT NULL, born date);
INSERT INTO public.customers SELECT n, 'customer ' || n, date '1970-01-01' + n FROM generate_series(1, 500) n;
CREATE TABLE public.orders (
  id bigint GENERATED ALWAYS AS IDENTITY, customer int REFERENCES public.customers, note text
);
INSERT INTO public.orders (customer, note) SELECT 1 + n % 500, md5(n::text) FROM generate_series(1, 5000) n;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallSource:
    """A source of the policy with a database and a store connection of its own."""

    name: str
    retries: int = 0
    bucket: str = BUCKET
    slack: str = "pulse_slack"
    lock_timeout_seconds: int = 300
    prove: str = "after"
    part_size_mib: int = 16
    extra_sql: str = ""
    weekly: bool = False
    excluded_tables: tuple[str, ...] = ()
    response_timeout: str = "1 hour"
    critical_tables: tuple[str, ...] = ()
    schema_in_git: bool = False
    staging: str = "shared"
    deadline: str | None = None

    def policy(self) -> dict[str, Any]:
        """Return its part of the policy: nothing is scheduled."""
        return {
            "connection": f"{self.name}_db",
            "retries": self.retries,
            "staging": self.staging,
            "lock_timeout_seconds": self.lock_timeout_seconds,
            "store": {
                "connection": f"{self.name}_s3",
                "bucket": self.bucket,
                "part_size_mib": self.part_size_mib,
                "encryption": {"sse": "aws:kms", "kms_key_id": "alias/pulse-backups"},
            },
            "slack": {"connection": self.slack},
            "excluded_tables": list(self.excluded_tables),
            "restore": {
                "source_connection": "pulse_messages_restore",
                "servers": {"beside": {"connection": "pulse_messages_restore"}},
                "approval": {
                    "connection": "pulse_airflow_api",
                    "two_people": True,
                    "response_timeout": self.response_timeout,
                },
            },
            "tiers": {
                "daily": {
                    "schedule": None,
                    "keep": "7 days",
                    "prefix": "daily/",
                    "prove": self.prove,
                    **({} if self.deadline is None else {"deadline": self.deadline}),
                },
                "pre_deployment": {"keep": "30 days", "prefix": "pre_deployment/"},
                **({"weekly": WEEKLY} if self.weekly else {}),
                **({"hourly": HOURLY} if self.critical_tables else {}),
            },
            **({"critical_tables": list(self.critical_tables)} if self.critical_tables else {}),
            **({"schema_backup": {"connection": f"{self.name}_git", "schedule": None}} if self.schema_in_git else {}),
        }


def write_policy(path: Path, sources: Iterable[SmallSource], *, broken: str) -> None:
    """Write the shipped policy with more sources in it, one of which is not acceptable; retries come soon."""
    policy = yaml.safe_load(SHIPPED_POLICY.read_text())
    policy["defaults"]["retry_delay_seconds"] = 1
    policy["pools"] = dict.fromkeys(policy["pools"], 8)
    policy["defaults"]["restore"]["thaw"]["poll_seconds"] = (
        15  # sooner, Airflow takes the end of one look for that of the next
    )
    policy["sources"].update({source.name: source.policy() for source in sources})
    policy["sources"][broken] = SmallSource(name=broken).policy()
    policy["sources"][broken]["tiers"]["daily"]["keep"] = "7 hours"
    away = datetime.now(UTC) + timedelta(hours=12)
    _put_off(policy, cron=f"{away.minute} {away.hour} * * *")
    path.write_text(json.dumps(policy, indent=1))


def _put_off(node: Any, *, cron: str) -> None:
    """Let nothing that a test unpauses come due while others run; the last slot was missed all the same."""
    if isinstance(node, dict):
        if "cron" in node:
            node["cron"] = cron
        for value in node.values():
            _put_off(value, cron=cron)


def write_settings(path: Path) -> None:
    """Write the shipped settings with room for several runs at a time."""
    settings = yaml.safe_load(SHIPPED_SETTINGS.read_text())
    for pool in settings["airflow"]["pools"]:
        pool["pool_slot"] = 8
    path.write_text(json.dumps(settings, indent=1))


def make_databases(sources: Iterable[SmallSource], conninfo: Callable[[str], str]) -> None:
    """Make a small database for each source; ``conninfo`` says how the superuser reaches one."""
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    with psycopg.connect(conninfo("postgres"), autocommit=True) as session:
        session.execute(create.format(sql.Identifier(TEMPLATE), sql.Identifier("template0")))
        with psycopg.connect(conninfo(TEMPLATE)) as small:
            small.execute(TEMPLATE_SQL)
        for source in sources:
            session.execute(create.format(sql.Identifier(source.name), sql.Identifier(TEMPLATE)))
            if source.extra_sql:
                with psycopg.connect(conninfo(source.name)) as own:
                    own.execute(source.extra_sql)
