"""Verification as tasks: prove what is due, test the verifier, look at the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from backup_operators.fleet import FleetOperator
from backup_operators.hook import BackupHook
from backup_operators.messages import escape
from backup_operators.notify import run_url
from backup_operators.scratch import SCRATCH_VARIABLE
from backup_operators.step import folder_from, run_identity, step_log
from include.backup.errors import WalBrokenError
from include.backup.process import Runner

WOKEN = "asset_triggered"

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.backup.policy import SourcePolicy
    from include.backup.policy.verification import VerificationPolicy
    from include.backup.store import ObjectStore


class VerifyBackupsOperator(FleetOperator):
    """Prove every backup that has no proof, and of each tier one that is due again.

    :param source: source of the policy (templated)

    Returns numbers, and how long it took against the strategy's five minutes.
    """

    next_step = (
        "Do not rely on a backup that failed: take a new one, and keep that one for the investigation. "
        "Of one that was not tested nothing is known: the next run tests it."
    )
    ui_color = "#ceead6"

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.verification.verify import VerificationContext, verify

        run = run_identity(context)
        self._runner = Runner(log=step_log())
        report = verify(
            VerificationContext(
                source=source,
                policy=_policy(source),
                store=_store(source),
                scratch_root=folder_from(SCRATCH_VARIABLE),
                runner=self._runner,
                log=step_log(),
                actor=run.actor,
                seed=run.run_id,
            )
        )
        step_log().info("%s", report.line())
        if report.proofs:
            self.tell(source, f"✅ {escape(report.line())} <{run_url(run.dag_id, run.run_id)}|run>")
        return report.to_dict()


class ControlVerifierOperator(FleetOperator):
    """Let the verifier prove damaged copies, when the last time is long enough ago; red when it passes one.

    :param source: source of the policy (templated)

    Returns what the verifier said of each damage.
    """

    next_step = "No proof since the last good control can be relied on. Find out what was changed in the verifier."
    ui_color = "#fce8e6"

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.evidence import open_ledger
        from include.backup.steps.context import encryption_of, utc_now
        from include.backup.verification.control import (
            ControlContext,
            last_control,
            negative_control,
            real_prover,
            smallest_proven,
        )
        from include.backup.verification.work import control_is_due

        store = _store(source)
        last = last_control(store, source.name)
        if not control_is_due(last, every=_policy(source).control_every, now=utc_now()):
            raise AirflowSkipException(f"the verifier was tested at {last:%Y-%m-%d %H:%M} UTC, that is not due again")
        backup_id = smallest_proven(source, store)
        if backup_id is None:
            raise AirflowSkipException("there is no proven backup yet that could be damaged")
        self._runner = Runner(log=step_log())
        control = negative_control(
            ControlContext(
                source=source,
                store=store,
                ledger=open_ledger(source, store),
                encryption=encryption_of(source, store),
                scratch_root=folder_from(SCRATCH_VARIABLE),
                log=step_log(),
                actor=run_identity(context).actor,
                prover=real_prover(self._runner, step_log()),
            ),
            backup_id,
        )
        step_log().info("%s", control.line())
        return control.to_dict()


class CheckLogOperator(FleetOperator):
    """Look whether the stored log can be recovered from, and read some of it back.

    :param source: source of the policy (templated)

    Returns numbers.
    """

    next_step = "Take a base backup if it says so; `python -m include.backup wal {source}` shows the rest."
    ui_color = "#ceead6"

    def work(self, context: Context, source: SourcePolicy) -> dict[str, Any]:
        from include.backup.steps.context import utc_now
        from include.backup.verification.log import check_log

        if run_identity(context).run_type == WOKEN:
            raise AirflowSkipException("a new backup woke this run; the log is looked at once a day")
        report = check_log(
            source,
            _store(source),
            BackupHook().database(source.connection),
            read=_policy(source).wal_segments,
            seed=run_identity(context).run_id,
            now=utc_now(),
        )
        step_log().info("%s", report.line())
        if report.problems:
            raise WalBrokenError(report.line())
        return report.to_dict()


def _store(source: SourcePolicy) -> ObjectStore:
    from include.backup.steps.context import open_store

    return open_store(source, BackupHook().store(source.store.connection))


def _policy(source: SourcePolicy) -> VerificationPolicy:
    if source.verification is None:
        raise AirflowFailException(f"the policy has no verification for {source.name} any more")
    return source.verification
