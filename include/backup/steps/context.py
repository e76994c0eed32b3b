"""What every step of a backup's chain is given, built from the policy and the run."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from include.backup.backup_id import make_backup_id
from include.backup.catalog import Catalog, archive_key, manifest_key
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import ParameterError
from include.backup.policy import Policy, SourcePolicy, TierPolicy
from include.backup.process import Runner
from include.backup.staging import Staging
from include.backup.store import Encryption, ObjectStore

RELEASE_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
# What restores replace is backed up there first; no tier of the policy may use it.
SAFETY_PREFIX = "safety/"
GIT_SHA_PATTERN = re.compile(r"^[0-9a-f]{7,40}$")


def utc_now() -> datetime:
    """Return the time now, aware, in UTC."""
    return datetime.now(tz=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """Which run this is; ``run_after`` is when it was due (Airflow's run_after)."""

    dag_id: str
    run_id: str
    run_after: datetime
    run_type: str
    try_number: int = 1
    triggered_by: str | None = None

    @property
    def actor(self) -> str:
        """Who acts, as the evidence names it."""
        return f"{self.dag_id} {self.run_id}" + (f" by {self.triggered_by}" if self.triggered_by else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The deploy that a pre-deployment backup guards."""

    name: str
    git_sha: str

    def check(self) -> None:
        """Raise ParameterError unless both can be put into object names, tags and messages as they are."""
        if not RELEASE_PATTERN.fullmatch(self.name):
            raise ParameterError(
                f"release {self.name!r} is not allowed; use 1 to 64 of letters, digits, '.', '_', '+', '-'"
            )
        if not GIT_SHA_PATTERN.fullmatch(self.git_sha):
            raise ParameterError(f"git_sha {self.git_sha!r} is not allowed; use 7 to 40 digits of 0-9a-f")


class StepContext:
    """One backup in the making. Steps share nothing else but staging and the store."""

    def __init__(
        self,
        *,
        source: SourcePolicy,
        tier: TierPolicy,
        run: RunIdentity,
        database: DatabaseConnection,
        store_connection: StoreConnection,
        staging_root: Path,
        scratch_root: Path,
        runner: Runner,
        log: logging.Logger,
        release: Release | None = None,
        kind: str | None = None,
        attachments: StoreConnection | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.source = source
        self.tier = tier
        self.kind = kind or tier.kind
        self.attachments_connection = attachments
        self.run = run
        self.database = database
        self.release = release
        self.scratch_root = scratch_root
        self.runner = runner
        self.log = log
        self.clock = clock
        self.backup_id = make_backup_id(
            source=source.name,
            tier=tier.name,
            kind=self.kind,
            run_after=run.run_after,
            dag_id=run.dag_id,
            run_id=run.run_id,
        )
        self.staging = Staging(staging_root, self.backup_id)
        self.store_connection = store_connection

    @cached_property
    def store(self) -> ObjectStore:
        """The bucket; the clients are made at first use."""
        return open_store(self.source, self.store_connection)

    @cached_property
    def encryption(self) -> Encryption:
        """What the policy asks for, with the key's ARN: stores answer with the ARN, whatever alias was sent.

        Raises KmsKeyError when there is no such key.
        """
        return encryption_of(self.source, self.store)

    @property
    def catalog(self) -> Catalog:
        return open_catalog(self.source, self.store, also=(self.tier.prefix,))

    @property
    def archive_key(self) -> str:
        return archive_key(self.tier.prefix, self.backup_id)

    @property
    def manifest_key(self) -> str:
        return manifest_key(self.tier.prefix, self.backup_id)

    def manifest_is_stored(self) -> bool:
        """Say whether this backup is already whole in the store."""
        return self.store.head(self.manifest_key) is not None


def build_context(
    *,
    policy: Policy,
    source: str,
    tier: str,
    run: RunIdentity,
    database: DatabaseConnection,
    store: StoreConnection,
    staging_root: Path,
    scratch_root: Path,
    runner: Runner,
    log: logging.Logger,
    release: Release | None = None,
    kind: str | None = None,
    attachments: StoreConnection | None = None,
) -> StepContext:
    """Return the context of one run; raises UnknownSourceError, UnknownTierError or ParameterError.

    ``kind`` is that of a second archive of the same run, such as the schema beside a weekly backup.
    """
    source_policy = policy.source(source)
    tier_policy = source_policy.tier(tier)
    if release is not None:
        release.check()
    return StepContext(
        source=source_policy,
        tier=tier_policy,
        run=run,
        database=database,
        store_connection=store,
        staging_root=staging_root,
        scratch_root=scratch_root,
        runner=runner,
        log=log,
        release=release,
        kind=kind,
        attachments=attachments,
    )


def open_store(source: SourcePolicy, connection: StoreConnection) -> ObjectStore:
    """Return the bucket of a source."""
    return ObjectStore.connect(connection, bucket=source.store.bucket, concurrency=source.store.concurrency)


def encryption_of(source: SourcePolicy, store: ObjectStore) -> Encryption:
    """Return the encryption that the policy asks for; raises KmsKeyError when there is no such key."""
    wanted = source.store.encryption
    key = None if wanted.kms_key_id is None else store.kms_key_arn(wanted.kms_key_id)
    return Encryption(algorithm=wanted.sse, kms_key_arn=key)


def open_catalog(source: SourcePolicy, store: ObjectStore, *, also: Iterable[str] = ()) -> Catalog:
    """Return the catalogue of a source over the prefixes of its tiers, and others."""
    return Catalog(store, source=source.name, prefixes=[*(tier.prefix for tier in source.tiers.values()), *also])
