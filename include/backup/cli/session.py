"""What every command needs: the policy, the connections that it names, and who runs the children."""

from __future__ import annotations

import argparse
import getpass
import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from include.backup.backup_id import OTHER_TIERS, parse_backup_id
from include.backup.catalog import Catalog
from include.backup.cli.output import Output
from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.connections import DatabaseConnection, StoreConnection, resolve_connection
from include.backup.errors import ConnectionDefinitionError, ParameterError, SettingsError
from include.backup.every_backup import every_backup
from include.backup.inventory import LATEST_PROVEN, find_backup
from include.backup.policy import PROJECT, Policy, SourcePolicy, load_policy, policy_path
from include.backup.process import Runner
from include.backup.restore.choice import Choice, choose, parse_choice
from include.backup.restore.words import Choosing
from include.backup.settings import SHIPPED_SETTINGS
from include.backup.steps.context import SAFETY_PREFIX, open_catalog, open_store
from include.backup.store import ObjectStore

if TYPE_CHECKING:
    from include.backup.supabase.project import SupabaseProject

STATE = PROJECT / ".local" / "command_line"


class Session:
    """One call of the command line."""

    def __init__(self, arguments: argparse.Namespace, environ: Mapping[str, str], output: Output) -> None:
        self.arguments = arguments
        self.environ = environ
        self.output = output
        self.runner = Runner()
        self.log = logging.getLogger("include.backup.steps")

    @cached_property
    def policy(self) -> Policy:
        """The policy of --policy, BACKUP_POLICY, or the shipped one."""
        return load_policy(getattr(self.arguments, "policy", None) or policy_path(self.environ))

    @cached_property
    def source(self) -> SourcePolicy:
        """The source that the command names; its tier, if one is named, is there."""
        source = self.policy.source(self.arguments.source)
        if self.arguments.tier is not None and self.arguments.tier not in OTHER_TIERS:
            source.tier(self.arguments.tier)
        return source

    @cached_property
    def store_connection(self) -> StoreConnection:
        return StoreConnection.from_spec(self.connection(self.source.store.connection))

    def open_supabase(self) -> SupabaseProject | None:
        """Return the source's hosted project, or None when the policy says of none; who opened it closes it."""
        from include.backup.supabase.connection import SupabaseConnection
        from include.backup.supabase.project import SupabaseProject

        hosted = self.source.supabase
        if hosted is None:
            return None
        connection = SupabaseConnection.from_spec(self.connection(hosted.connection))
        return SupabaseProject.open(connection, hosted.project_ref)

    @cached_property
    def store(self) -> ObjectStore:
        return open_store(self.source, self.store_connection)

    @cached_property
    def catalog(self) -> Catalog:
        named = parse_backup_id(str(getattr(self.arguments, "backup", "")), strict=False)
        if named is not None and named.kind == "base":
            return self.whole_catalog
        return open_catalog(self.source, self.store, also=(SAFETY_PREFIX,))

    @cached_property
    def whole_catalog(self) -> Catalog:
        """All that the store holds of the source, base backups included."""
        return every_backup(self.source, self.store, also=(SAFETY_PREFIX,))

    @cached_property
    def backup_id(self) -> str:
        """The backup that the command names."""
        wanted = self.arguments.backup
        if wanted is None:
            raise ParameterError("which backup? give an id, latest-proven, before:TIME or release:NAME")
        choice = parse_choice(wanted)
        tables = tuple(getattr(self.arguments, "tables", ()))
        restores = hasattr(self.arguments, "unproven")
        if choice is None and restores and wanted == LATEST_PROVEN and self.arguments.tier is None:
            choice = Choice(how=Choosing.LATEST_PROVEN)
        if choice is not None:
            choice = replace(choice, tables=tables)
            unproven = bool(getattr(self.arguments, "unproven", False))
            return choose(self.catalog, self.source.name, choice, unproven=unproven)
        return find_backup(self.catalog, self.source.name, wanted, tier=self.arguments.tier)

    @property
    def staging_root(self) -> Path:
        return Path(self.environ.get("BACKUP_STAGING_DIR") or STATE / "staging")

    @property
    def scratch_root(self) -> Path:
        return Path(self.environ.get("BACKUP_SCRATCH_DIR") or STATE / "scratch")

    def connection(self, conn_id: str) -> ConnectionSpec:
        """Return a connection by its id; its password is from now on hidden."""
        settings = getattr(self.arguments, "settings", None) or SHIPPED_SETTINGS
        spec = resolve_connection(conn_id, environ=self.environ, settings=settings)
        self.output.hide(spec.password)
        return spec

    def database(self, conn_id: str) -> DatabaseConnection:
        """Return how to reach a database."""
        return DatabaseConnection.from_spec(self.connection(conn_id))

    def source_databases(self) -> tuple[DatabaseConnection, ...]:
        """Return the sources of the policy that this environment knows how to reach."""
        found = []
        for source in self.policy.sources.values():
            try:
                found.append(self.database(source.connection))
            except (ConnectionDefinitionError, SettingsError):
                self.log.debug("connection %s is not known here", source.connection)
        return tuple(found)

    def password(self, user: str, host: str) -> Secret | None:
        """Return PGPASSWORD, or ask for it when there is somebody to ask."""
        text = self.environ.get("PGPASSWORD")
        if text is None and sys.stdin.isatty() and not host.startswith("/"):
            text = getpass.getpass(f"Password of {user} on {host}: ")
        self.output.hide(text)
        return Secret(text) if text else None
