"""The policy's blocks ``pools`` and ``scheduling``: what may run at once, where, and what goes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

# Airflow's own pool: it is always there, and nobody has to make it.
ALWAYS_THERE = "default_pool"
# Airflow runs as many tasks at once as these have slots together, and those of the default pool beside them.
DEFAULT_POOLS: Mapping[str, int] = MappingProxyType({"pg_source": 1, "scratch": 1, "backups": 2, "restores": 2})


class Work(StrEnum):
    """What a DAG does, as far as its place among the others goes."""

    RESTORE = "restore"
    PRE_DEPLOYMENT = "pre_deployment"
    INCREMENTAL = "incremental"
    BACKUP = "backup"
    VERIFICATION = "verification"


_OTHER_WORK: Mapping[str, Work] = MappingProxyType(
    {
        "restore_database": Work.RESTORE,
        "restore_table": Work.RESTORE,
        "restore_point_in_time": Work.RESTORE,
        # A person waits, and a cleanup may come before.
        "backup_hold": Work.RESTORE,
        "pre_deployment_backup": Work.PRE_DEPLOYMENT,
        "incremental_backup": Work.INCREMENTAL,
        "backup_verification": Work.VERIFICATION,
    }
)
DEFAULT_PRIORITIES: Mapping[Work, int] = MappingProxyType(
    {Work.RESTORE: 100, Work.PRE_DEPLOYMENT: 50, Work.INCREMENTAL: 40, Work.BACKUP: 20, Work.VERIFICATION: 10}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingPolicy:
    """Pools, queues and priorities of a source's tasks.

    ``source_pool`` is for tasks that load the source's server, ``scratch_pool`` for restore tests; everything else of
    a DAG is in ``backup_pool``, ``incremental_pool`` or ``restore_pool``. Without ``queue`` the executor's own is
    meant; ``restore_queue`` is that of restores, and without it they take ``queue``.
    """

    source_pool: str = "pg_source"
    scratch_pool: str = "scratch"
    backup_pool: str = "backups"
    incremental_pool: str = ALWAYS_THERE
    restore_pool: str = "restores"
    queue: str | None = None
    restore_queue: str | None = None
    priorities: Mapping[Work, int] = field(default_factory=lambda: DEFAULT_PRIORITIES)

    def pool(self, work: Work) -> str:
        """Return the pool of a DAG's tasks that have no heavier one."""
        if work is Work.RESTORE:
            return self.restore_pool
        return self.incremental_pool if work is Work.INCREMENTAL else self.backup_pool

    def queue_of(self, work: Work) -> str | None:
        """Return the queue of a DAG's tasks, None for the executor's own."""
        return (self.restore_queue or self.queue) if work is Work.RESTORE else self.queue

    def pools(self) -> tuple[str, ...]:
        """Return every pool that a task of the source may wait for."""
        named = (self.source_pool, self.scratch_pool, self.backup_pool, self.incremental_pool, self.restore_pool)
        return tuple(dict.fromkeys(named))


def work_of(dag_name: str) -> Work:
    """Return what a DAG does.

    >>> work_of("restore_table"), work_of("daily_backup")
    (<Work.RESTORE: 'restore'>, <Work.BACKUP: 'backup'>)
    """
    return _OTHER_WORK.get(dag_name, Work.BACKUP)


def scheduling_policy(data: Mapping[str, Any] | None) -> SchedulingPolicy:
    """Build the block from checked data; what it leaves out is as above."""
    if data is None:
        return SchedulingPolicy()
    given = {f"{name}_pool": pool for name, pool in data.get("pools", {}).items()}
    own = {Work(name): weight for name, weight in data.get("priorities", {}).items()}
    return SchedulingPolicy(
        **given,
        queue=data.get("queue"),
        restore_queue=data.get("restore_queue"),
        priorities=MappingProxyType({**DEFAULT_PRIORITIES, **own}),
    )


def pools_policy(data: Mapping[str, int] | None) -> Mapping[str, int]:
    """Return the slots of each pool; without the block those that one machine needs."""
    return DEFAULT_POOLS if data is None else MappingProxyType(dict(data))


def scheduling_problems(data: Mapping[str, Any] | None, pools: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for pools that nobody makes: a task in one waits for ever, and nothing says so."""
    made = {*pools, ALWAYS_THERE}
    for name in scheduling_policy(data).pools():
        if name not in made:
            yield "pools", f"the pool {name} is not among the policy's pools: {', '.join(sorted(made))}; add it there"
