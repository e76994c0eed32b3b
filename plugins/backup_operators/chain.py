"""Wire the tasks of one backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.sdk import Asset, BaseOperator, TriggerRule, chain

from backup_operators.copies import ReportCopiesOperator
from backup_operators.defaults import COPIES_TIMEOUT, NOTIFY_TIMEOUT, SCRATCH_TIMEOUT
from backup_operators.messages import WORK
from backup_operators.notify import NotifyOperator, tell_of_ended_run
from backup_operators.operators import (
    CloseStagingOperator,
    CompressOperator,
    DumpOperator,
    DumpToStoreOperator,
    PreflightOperator,
    RestoreTestOperator,
    UploadOperator,
    VerifyOperator,
)
from backup_operators.scratch import PrepareScratchOperator, RemoveScratchOperator
from backup_operators.step import connection_ids
from include.backup.policy import SourcePolicy, TierPolicy

# The tasks that hand files to each other, and the one that stands for them where no folder is shared.
STAGED = ("dump", "compress", "upload")
AT_ONCE = "dump_to_store"
LEASE_MARGIN = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFields:
    """Templates of the release that a backup guards."""

    release: str
    git_sha: str


class BackupChain:
    """The tasks of one backup, added to the DAG in whose block this is made.

    ``prove`` is a template that gives ``True`` or ``False``: whether this run also proves its backup. What comes
    before, beside or after them is wired to the tasks that the attributes hold; ``end`` closes the chain.
    """

    def __init__(
        self, source: SourcePolicy, tier: TierPolicy, *, prove: str, release: ReleaseFields | None = None
    ) -> None:
        self._source = source
        self._tier = tier
        self._release = release
        guarded = {} if release is None else {"release": release.release, "git_sha": release.git_sha}
        self._step: dict[str, Any] = {"source": source.name, "tier": tier.name, **guarded}
        self._work = list(work_of_chain(WORK, source))
        lease = tier.timeouts.restore_test + LEASE_MARGIN
        self.full = Steps(source, tier, self._step)
        self.prepare = PrepareScratchOperator(
            task_id="prepare_scratch", execution_timeout=SCRATCH_TIMEOUT, prove=prove, lease=lease
        )
        self.remove = RemoveScratchOperator(task_id="remove_scratch", execution_timeout=SCRATCH_TIMEOUT, lease=lease)
        self.remove.as_teardown(setups=self.prepare)
        self._tested(self.full)
        self._ends: list[Any] = [self.full.close]
        self._reports: list[Any] = []
        self._tests: list[Any] = [self.full.restore_test]

    def beside(self, kind: str) -> Steps:
        """Add a second archive of the same run, read from the source right after the first one."""
        steps = Steps(self._source, self._tier, self._step, kind=kind)
        self._tested(steps)
        chain(self.full.preflight, steps.preflight)
        chain(self.full.dump, steps.dump)
        self._ends.append(steps.close)
        first = work_of_chain(("preflight", *STAGED, "verify"), self._source)
        self._work += [f"{name}_{kind}" for name in first]
        self._work += [f"{name}_{kind}" for name in ("restore_test", "close_staging")]
        return steps

    def before_close(self, *tasks: BaseOperator) -> None:
        """Add tasks that follow the proof, one after the other, before the staging goes.

        A run that is skipped as a whole, because it is late, has no staging to close.
        """
        chain(self._tests, tasks[0])
        chain(*tasks, self.full.close)
        self.full.close.trigger_rule = TriggerRule.ALL_SUCCESS
        at = self._work.index("close_staging")
        self._work[at:at] = [task.task_id for task in tasks]

    def begin_with(self, task: BaseOperator) -> None:
        """Put a task before all others."""
        chain(task, self.full.preflight)
        self._work.insert(0, task.task_id)

    def attachments(self, task: BaseOperator) -> None:
        """Add an archive of the source's files, which is compared with the backup that is stored by then.

        Its proof reads the archive back; it needs no server, and both proofs are waited for.
        """
        common: dict[str, Any] = {**self._step, "kind": "attachments"}
        limits = self._tier.timeouts
        verify = VerifyOperator(
            task_id="verify_attachments",
            execution_timeout=limits.verify,
            asset=backups_of(self._source.name),
            **common,
        )
        test = RestoreTestOperator(task_id="restore_test_attachments", execution_timeout=limits.restore_test, **common)
        chain(self.full.upload, task, verify, test, self.full.close)
        self._tests.append(test)
        self._work += [task.task_id, "verify_attachments", "restore_test_attachments"]

    def step(self, make: Callable[..., Any], task_id: str, timeout: timedelta, **arguments: Any) -> Any:
        """Return a new task of one of the steps' operators, with this chain's source and tier."""
        return make(task_id=task_id, execution_timeout=timeout, **self._step, **arguments)

    def report_copies(self) -> None:
        """Count the copies when all is done, and ask Supabase for its own; as a teardown, it decides nothing."""
        report = self.step(ReportCopiesOperator, "report_copies", COPIES_TIMEOUT)
        report.as_teardown()
        chain([*self._ends, self.remove], report)
        self._reports.append(report)

    def end(self) -> None:
        """Tell people how the run ended."""
        notify = NotifyOperator(
            task_id="notify",
            execution_timeout=NOTIFY_TIMEOUT,
            source=self._source.name,
            tier=self._tier.name,
            kind=self._tier.kind,
            keep_failed_hours=self._source.keep_failed_hours,
            release=None if self._release is None else self._release.release,
            work=self._work,
            also=[report.task_id for report in self._reports],
            **messaging(self._source),
        )
        notify.as_teardown()
        chain([*self._ends, self.remove, *self._reports], notify)

    def _tested(self, steps: Steps) -> None:
        chain(steps.verify, self.prepare, steps.restore_test, self.remove)
        chain(steps.restore_test, steps.close)


class Steps:
    """The steps of one archive; those of a second one of the run have its kind in their names."""

    def __init__(
        self, source: SourcePolicy, tier: TierPolicy, common: dict[str, Any], *, kind: str | None = None
    ) -> None:
        limits = tier.timeouts
        step = common if kind is None else {**common, "kind": kind}
        ending = "" if kind is None else f"_{kind}"
        self.preflight = PreflightOperator(task_id=f"preflight{ending}", execution_timeout=limits.preflight, **step)
        pool = source.scheduling.source_pool
        self.dump: BaseOperator
        self.upload: BaseOperator
        if source.shares_staging:
            self.dump = DumpOperator(task_id=f"dump{ending}", execution_timeout=limits.dump, pool=pool, **step)
            compress = CompressOperator(task_id=f"compress{ending}", execution_timeout=limits.compress, **step)
            self.upload = UploadOperator(task_id=f"upload{ending}", execution_timeout=limits.upload, **step)
            chain(self.dump, compress, self.upload)
        else:
            all_of_them = limits.dump + limits.compress + limits.upload
            self.dump = self.upload = DumpToStoreOperator(
                task_id=f"{AT_ONCE}{ending}", execution_timeout=all_of_them, pool=pool, **step
            )
        self.verify = VerifyOperator(
            task_id=f"verify{ending}", execution_timeout=limits.verify, asset=backups_of(source.name), **step
        )
        self.restore_test = RestoreTestOperator(
            task_id=f"restore_test{ending}",
            execution_timeout=limits.restore_test,
            pool=source.scheduling.scratch_pool,
            **step,
        )
        self.close = CloseStagingOperator(
            task_id=f"close_staging{ending}",
            execution_timeout=limits.close_staging,
            # A proof that was not asked for is skipped; the staging goes all the same.
            trigger_rule=TriggerRule.NONE_FAILED,
            **step,
        )
        chain(self.preflight, self.dump)
        chain(self.upload, self.verify)


def work_of_chain(names: Sequence[str], source: SourcePolicy) -> Sequence[str]:
    """Return the names of the tasks that do the work, where one may stand for those that share a folder."""
    if source.shares_staging:
        return names
    at = names.index(STAGED[0])
    return [*names[:at], AT_ONCE, *names[at + len(STAGED) :]]


def backup_chain(source: SourcePolicy, tier: TierPolicy, *, prove: str, release: ReleaseFields | None = None) -> None:
    """Add the tasks of one backup and nothing else to the DAG in whose block this is called."""
    BackupChain(source, tier, prove=prove, release=release).end()


def backups_of(source: str) -> Asset:
    """Return the asset that each new backup of a source updates. The scheme with x- needs no provider."""
    return Asset(name=f"{source}_backups", uri=f"x-backup://{source}", group="backups")


def ended_run_callback(source: SourcePolicy, tier: TierPolicy) -> Any:
    """Return the DAG's callback for runs that Airflow itself ends."""
    return ended_callback(source, tier.name)


def ended_callback(source: SourcePolicy, what: str) -> Any:
    """Return the callback of a DAG that is not a tier's; ``what`` says which backup it is."""
    return partial(tell_of_ended_run, source=source.name, tier=what, **messaging(source))


def messaging(source: SourcePolicy) -> dict[str, Any]:
    """Return where messages about a source go, and which connections' passwords must not be in them."""
    slack = None if source.slack is None else source.slack.connection
    return {"slack_conn_id": slack, "secret_conn_ids": connection_ids(source)}
