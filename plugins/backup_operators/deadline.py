"""Tell people of a run that goes on for too long, while it still runs. Nothing is ended because of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from backup_operators.chain import messaging
from backup_operators.hook import BackupHook
from backup_operators.messages import late_run_text
from backup_operators.notify import run_url
from backup_operators.redaction import Redactor
from backup_operators.slack import deliver
from include.backup.errors import MessageError

if TYPE_CHECKING:
    from include.backup.policy import SourcePolicy

# A run that has failed was told of by its last task, and Airflow asks for it all the same.
UNFINISHED = ("queued", "running")
# So many of the last good runs tell how long one usually takes.
USUAL_RUNS = 10

log = logging.getLogger(__name__)


def late_run_alert(source: SourcePolicy, what: str, limit: timedelta | None) -> DeadlineAlert | None:
    """Return what a DAG takes as its ``deadline``; without a limit in the policy there is none.

    It counts from the time that the last good runs took, whoever started this one, and runs in the triggerer: a run is
    often late because no worker is free. A DAG that never succeeded has none; docs/adr/0062 says why it is not counted
    from when the run was queued.
    """
    if limit is None:
        return None
    told: dict[str, Any] = messaging(source)
    return DeadlineAlert(
        name="late run",
        reference=DeadlineReference.AVERAGE_RUNTIME(max_runs=USUAL_RUNS, min_runs=1),
        interval=limit,
        callback=AsyncCallback(
            tell_of_late_run,
            kwargs={
                "source": source.name,
                "what": what,
                "limit_seconds": int(limit.total_seconds()),
                "slack_conn_id": told["slack_conn_id"],
                "secret_conn_ids": list(told["secret_conn_ids"]),
            },
        ),
    )


async def tell_of_late_run(
    *,
    context: Mapping[str, Any],
    source: str,
    what: str,
    limit_seconds: int,
    slack_conn_id: str | None,
    secret_conn_ids: Sequence[str],
) -> dict[str, Any]:
    """Send a message about a run that is not over; raises MessageError when nobody got it, which Airflow then shows."""
    run = context["dag_run"]
    dag_id, run_id, state = str(run["dag_id"]), str(run["dag_run_id"]), str(run["state"])
    if state not in UNFINISHED:
        log.info("run %s of %s is %s: whoever had to know of it was told then", run_id, dag_id, state)
        return {"delivered": False, "state": state}
    text = late_run_text(
        source=source,
        what=what,
        run_id=run_id,
        dag_id=dag_id,
        state=state,
        limit=timedelta(seconds=limit_seconds),
        url=run_url(dag_id, run_id),
    )
    # The triggerer has one loop for everybody; a slow Slack must not hold it.
    await asyncio.to_thread(_send, text, slack_conn_id, secret_conn_ids)
    return {"delivered": slack_conn_id is not None, "state": state}


def _send(text: str, slack_conn_id: str | None, secret_conn_ids: Sequence[str]) -> None:
    redact = Redactor(BackupHook().secrets(secret_conn_ids))
    log.warning("%s", redact(text))
    delivery = deliver(redact(text), conn_id=slack_conn_id, redact=redact)
    if slack_conn_id is not None and not delivery.delivered:
        raise MessageError(f"a late run could not be told of: {delivery.reason}")
