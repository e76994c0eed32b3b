"""Send a text to Slack; never fail because of it."""

from __future__ import annotations

import http.client
import logging
from dataclasses import asdict, dataclass
from typing import Any

from backup_operators.redaction import Redactor

TIMEOUT_SECONDS = 10
LONGEST_CAUSE = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Whether a message arrived, or why not."""

    delivered: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def deliver(text: str, *, conn_id: str | None, redact: Redactor) -> Delivery:
    """Send a text through a webhook connection, once, without its secrets."""
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook
    from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError
    from slack_sdk.errors import SlackClientError

    if conn_id is None:
        return _undelivered("the policy names no Slack connection for this source")
    try:
        hook = SlackWebhookHook(slack_webhook_conn_id=conn_id, timeout=TIMEOUT_SECONDS, retry_handlers=[])
        hook.send(text=redact(text), unfurl_links=False)
    except (
        AirflowException,
        AirflowRuntimeError,
        SlackClientError,
        http.client.HTTPException,
        OSError,
        ValueError,
    ) as error:
        return _undelivered(redact(f"{type(error).__name__}: {error}")[:LONGEST_CAUSE])
    return Delivery(delivered=True, reason="")


def _undelivered(reason: str) -> Delivery:
    log.warning("the message was not delivered to Slack: %s; the run's result stays what it is", reason)
    return Delivery(delivered=False, reason=reason)
