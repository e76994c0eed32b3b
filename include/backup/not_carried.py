"""What no dump of a database carries, and what to do about each: written into the manifest, before anybody needs it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.backup.policy import SourcePolicy

# What Supabase's own schemas are told by, also where the policy names no project.
_SUPABASE_SCHEMAS = frozenset({"auth", "storage"})
_ENCRYPTED = ("pgsodium", "vault")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCarried:
    """One thing that a restore of this backup does not bring back."""

    what: str
    why: str
    to_do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the backup role has seen of the source, and what it may; ``mappings_without_options`` are user mappings."""

    schemas: Collection[str]
    roles: Collection[str]
    role_passwords: bool
    superuser: bool
    subscriptions: int
    mappings_without_options: int


def not_carried(source: SourcePolicy, seen: Seen) -> tuple[NotCarried, ...]:
    """Return what is not carried, from the policy and from what the source has."""
    hosted = source.supabase is not None or (
        set(seen.schemas) >= _SUPABASE_SCHEMAS and "supabase_auth_admin" in seen.roles
    )
    found = list(_of_any(seen))
    if hosted:
        found += _of_supabase(seen.schemas)
    return tuple(found)


def _of_any(seen: Seen) -> Iterator[NotCarried]:
    if not seen.role_passwords:
        yield NotCarried(
            what="passwords of roles",
            why="the backup role may not read them",
            to_do="set a new password for each role of your own after a restore, and hand it to who uses it",
        )
    if seen.mappings_without_options:
        yield NotCarried(
            what=f"options, if they have any, of {seen.mappings_without_options} user mappings, passwords included",
            why="only a superuser may read those of others, and the backup role is none; pg_dump leaves them out",
            to_do="keep them elsewhere, and set them again after a restore: ALTER USER MAPPING … OPTIONS (ADD …)",
        )
    if seen.subscriptions and not seen.superuser:
        yield NotCarried(
            what=f"{seen.subscriptions} subscriptions",
            why="pg_dump leaves subscriptions out for a role that is no superuser, as the backup role is none",
            to_do="keep their definitions elsewhere, and make them anew where the restored database is to follow",
        )
    elif seen.subscriptions:
        yield NotCarried(
            what=f"{seen.subscriptions} subscriptions' position",
            why="pg_dump makes a subscription anew, without connecting it, and slots are not dumped",
            to_do="decide for each whether the restored database is to follow its publisher; then enable it",
        )


def _of_supabase(schemas: Collection[str]) -> Iterator[NotCarried]:
    encrypted = [name for name in _ENCRYPTED if name in schemas]
    if encrypted:
        yield NotCarried(
            what="the project's root key",
            why=f"it lies outside of the database; without it {' and '.join(encrypted)} cannot be read again",
            to_do="escrow it by hand, now and after each rotation: GET /v1/projects/<ref>/pgsodium of the Management "
            "API with an owner's token; put root_key where two people can reach it, never into this store; before a "
            "restore PUT it into the new project, and then load",
        )
    yield NotCarried(
        what="files of Supabase Storage",
        why="the database holds only their names and sizes",
        to_do="restore them from an archive with attachments (monthly_archive), or copy the buckets",
    )
    yield NotCarried(
        what="Edge Functions and their secrets",
        why="they lie outside of the database",
        to_do="deploy them from their repository (supabase functions deploy), and set their secrets anew",
    )
    yield NotCarried(
        what="API keys and the JWT secret",
        why="each project has its own; sessions of the old one end",
        to_do="hand the new project's URL and keys to every client, or set its JWT secret to the old one's first",
    )
    yield NotCarried(
        what="settings of Auth (providers, SMTP, templates, redirect URLs), Realtime, Storage, PostgREST and pooler",
        why="they lie outside of the database",
        to_do="keep them as configuration (supabase config push), or enter them again in the Dashboard",
    )
    yield NotCarried(
        what="network restrictions, SSL enforcement, custom domains, read replicas, backup schedule, PITR add-on",
        why="they belong to the project, not to its database",
        to_do="set them for the new project before it takes traffic",
    )
