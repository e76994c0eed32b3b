"""watch: for another machine's cron; exit code 0 while Airflow looks after a source, 1 when it has fallen silent."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import timedelta

from include.backup.cli.session import Session
from include.backup.errors import ConnectionDefinitionError
from include.backup.health.board import Board
from include.backup.health.watch import Pulse, WatchReport, judge
from include.backup.steps.context import utc_now
from include.backup.store import Encryption

SILENT_CODE = 1
TIMEOUT_SECONDS = 10


def run(session: Session) -> int:
    """Read the heartbeat, judge it, and tell Slack if asked to; a store that does not answer is exit code 3."""
    # Nothing is written: no key is asked for, so that this needs no right but to read one object.
    board = Board(session.store, source=session.source.name, encryption=Encryption(algorithm=None))
    most = timedelta(minutes=session.arguments.most_minutes)
    report = judge(session.source.name, board.heartbeat(), now=utc_now(), most=most)
    told = _tell(session, report) if session.arguments.slack and report.pulse is not Pulse.ALIVE else None
    document = {"pulse": report.pulse.value, "text": report.text, "told": told}
    lines = [report.text] + ([] if told in (None, True) else ["Slack could not be told"])
    session.output.result("watch", document, lines)
    return 0 if report.pulse is Pulse.ALIVE else SILENT_CODE


def _tell(session: Session, report: WatchReport) -> bool:
    """Send one message through the source's webhook, with nothing but Python; return whether it arrived."""
    slack = session.source.slack
    if slack is None:
        return False
    spec = session.connection(slack.connection)
    url = str(spec.password or "")
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ConnectionDefinitionError(f"connection {slack.connection} has no webhook URL as its password")
    body = json.dumps({"text": f"💀 *{report.source}*: {report.text}"}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - see above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError) as error:
        session.log.warning("Slack did not take the message: %s", type(error).__name__)
        return False
