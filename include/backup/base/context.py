"""The context of a base backup: that of every backup, with the prefix of the cluster that it is of."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from include.backup.backup_id import make_backup_id
from include.backup.base.stored import base_catalog, base_prefix
from include.backup.connections import DatabaseConnection, StoreConnection
from include.backup.errors import BackupMissingError, ParameterError
from include.backup.policy import SourcePolicy, TierPolicy, Timeouts
from include.backup.policy.base_backup import BaseBackupPolicy
from include.backup.postgres.replication import identify
from include.backup.process import Runner
from include.backup.records import from_json, to_json
from include.backup.staging import Staging
from include.backup.steps.context import RunIdentity, StepContext, open_store

TIER = "incremental"
KIND = "base"
CLUSTER_FILE = "cluster.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCluster:
    """Which cluster a run is about, kept in staging: later steps need no source."""

    system_identifier: str


def base_policy(source: SourcePolicy) -> BaseBackupPolicy:
    """Return how base backups of a source are taken; raises ParameterError when the policy takes none."""
    if source.base_backup is None:
        raise ParameterError(
            f"the policy has no base_backup for {source.name}; add the block, or choose another source"
        )
    return source.base_backup


def base_tier(source: SourcePolicy, system_identifier: str) -> TierPolicy:
    """Return base backups of one cluster as a tier."""
    policy = base_policy(source)
    limits = policy.timeouts
    return TierPolicy(
        name=TIER,
        kind=KIND,
        schedule=None,
        keep=policy.keep,
        below_strategy=None,
        storage_class="STANDARD",
        prefix=base_prefix(system_identifier),
        proof_level="complete",
        prove=policy.prove,
        timeouts=Timeouts(
            preflight=limits.preflight,
            dump=limits.take,
            compress=timedelta(),
            upload=limits.upload,
            verify=limits.verify,
            restore_test=limits.restore_test,
            close_staging=limits.preflight,
        ),
    )


def base_backup_id(source: str, run: RunIdentity) -> str:
    """Return the id of the base backup that a run takes."""
    return make_backup_id(
        source=source, tier=TIER, kind=KIND, run_after=run.run_after, dag_id=run.dag_id, run_id=run.run_id
    )


def build_base_context(
    *,
    source: SourcePolicy,
    run: RunIdentity,
    database: DatabaseConnection,
    store: StoreConnection,
    staging_root: Path,
    scratch_root: Path,
    runner: Runner,
    log: logging.Logger,
) -> StepContext:
    """Return the context of one run.

    Which cluster it is about is known to staging or the store once the run has begun; only before is the source asked.
    """
    base_policy(source)
    backup_id = base_backup_id(source.name, run)
    staging = Staging(staging_root, backup_id)
    kept = staging.read(CLUSTER_FILE)
    if kept is not None:
        system = from_json(KeptCluster, kept, format_version=FORMAT_VERSION, name=CLUSTER_FILE).system_identifier
    else:
        system = _stored_cluster(source, store, backup_id) or identify(database).system_identifier
    return StepContext(
        source=source,
        tier=base_tier(source, system),
        run=run,
        database=database,
        store_connection=store,
        staging_root=staging_root,
        scratch_root=scratch_root,
        runner=runner,
        log=log,
    )


def system_identifier(ctx: StepContext) -> str:
    """Return the cluster that a context is about.

    >>> "incremental/7401/base/".split("/")[1]
    '7401'
    """
    return ctx.tier.prefix.split("/")[1]


def keep_cluster(ctx: StepContext) -> None:
    """Leave in staging which cluster the run is about."""
    kept = KeptCluster(system_identifier=system_identifier(ctx))
    ctx.staging.write(CLUSTER_FILE, to_json(kept, format_version=FORMAT_VERSION))


def _stored_cluster(source: SourcePolicy, connection: StoreConnection, backup_id: str) -> str | None:
    try:
        prefix = base_catalog(source, open_store(source, connection)).locate(backup_id)
    except BackupMissingError:
        return None
    return prefix.split("/")[1]
