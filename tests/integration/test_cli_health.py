"""Health, alerts, the watch and the audit from the command line, against a real store and source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.backup.health.alerts import Alert
from include.backup.health.board import Board, Heartbeat
from include.backup.health.finding import Severity
from include.backup.policy import SourcePolicy
from include.backup.steps.context import encryption_of, open_store, utc_now
from include.local.stack import Stack
from tests.faults.slack_capture import SlackCapture
from tests.support.command_line import SOURCE, CommandLine

pytest_plugins = ["tests.support.cli_fixtures"]


@pytest.fixture
def board(stack: Stack, policy_source: SourcePolicy) -> Iterator[Board]:
    store = open_store(policy_source, stack.store_connection())
    yield Board(store, source=SOURCE, encryption=encryption_of(policy_source, store))
    for item in list(store.list(f"health/{SOURCE}/")):
        store.remove(item.key)


def test_health_says_what_is_wrong_and_what_to_do(cli: CommandLine, taken: dict[str, Any]) -> None:
    answer = cli.here("health", SOURCE, "--json")
    assert answer.code == 1, answer.err
    rules = {finding["rule"] for finding in answer.document["findings"]}
    assert "never_succeeded" in rules  # of the tiers that were never run here
    assert {"rpo", "wal"} & rules
    assert not {"proof_failed", "object", "unreachable"} & rules
    assert all(finding["next_step"] for finding in answer.document["findings"])


def test_an_alert_is_listed_acknowledged_and_stays_known(cli: CommandLine, board: Board) -> None:
    now = utc_now()
    alert = Alert(
        key="late:daily",
        rule="late",
        subject="daily",
        severity=Severity.WARNING,
        evidence="it is late",
        next_step="look",
        since=now,
        seen_at=now,
    )
    board.replace_open((alert,), at=now)
    assert "late:daily" in cli.here("alerts", "list", SOURCE).out
    done = cli.here("alerts", "acknowledge", SOURCE, "late:daily", "--note", "on it")
    assert done.code == 0, done.err
    assert "on it" in cli.here("alerts", "list", SOURCE).out
    wrong = cli.here("alerts", "acknowledge", SOURCE, "late:weekly", "--note", "x")
    assert wrong.code == 2
    assert "open: late:daily" in wrong.error
    found = cli.here("evidence", "verify", SOURCE)
    assert found.code == 0, found.err


def test_the_watch_alarms_until_somebody_has_looked_and_again_when_nobody_does(
    cli: CommandLine, board: Board, tmp_path: Path
) -> None:
    with SlackCapture() as slack:
        webhook = json.dumps({"conn_type": "slackwebhook", "password": f"{slack.webhook_host}/T/B/X"})
        watching = cli.with_environment(AIRFLOW_CONN_PULSE_SLACK=webhook)
        never = watching.here("watch", SOURCE, "--slack", "--json")
        assert (never.code, never.document["pulse"], never.document["told"]) == (1, "never", True)
        assert "was never looked at" in slack.messages[0].text
        beat = Heartbeat(source=SOURCE, at=utc_now(), alerts=2, run_id="r")
        board.beat(beat)
        alive = watching.here("watch", SOURCE, "--slack")
        assert (alive.code, "2 alerts were open" in alive.out) == (0, True)
        board.beat(replace(beat, at=utc_now() - timedelta(hours=3)))
        assert watching.here("watch", SOURCE, "--slack").code == 1
        assert watching.here("watch", SOURCE, "--most-minutes", "200").code == 0
        assert len(slack.messages) == 2


@pytest.mark.long
def test_the_watch_of_a_store_that_is_away_is_no_pulse(cli: CommandLine) -> None:
    away = cli.with_environment(PULSE_S3_ENDPOINT="https://localhost:9")
    assert away.here("watch", SOURCE).code == 3


def test_an_audit_restores_the_newest_backup_and_keeps_a_report_that_the_ledger_vouches_for(
    cli: CommandLine, taken: dict[str, Any], stack: Stack, policy_source: SourcePolicy, tmp_path: Path
) -> None:
    path, month = tmp_path / "audit.html", f"{utc_now():%Y-%m}"
    answer = cli.here("audit", SOURCE, "--month", month, "--restore-test", "--keep", "--output", str(path), "--json")
    assert answer.code == 0, answer.err
    report = answer.document["report"]
    assert (report["month"], report["live_test"]["passed"]) == (month, True)
    assert report["live_test"]["backup_id"] == taken["backup_id"]
    (row,) = [row for row in report["backups"] if row["backup_id"] == taken["backup_id"]]
    # The store was asked about this one: its encryption and its key are what the manifest says.
    assert (row["standing"], row["encryption_fits"], row["problem"]) == ("proven", True, None)
    assert row["encryption"].startswith("aws:kms arn:")
    assert row["decision"] == "within its retention"
    assert (report["ledger"]["findings"], report["store_tls"]) == ([], True)
    store = open_store(policy_source, stack.store_connection())
    key = answer.document["kept"].removeprefix(f"s3://{store.bucket}/")
    assert store.get(key) == path.read_bytes()
    info = store.head(key)
    assert info is not None
    assert (info.encryption, info.kms_key_id) == ("aws:kms", encryption_of(policy_source, store).kms_key_arn)
    found = cli.here("evidence", "verify", SOURCE)
    assert found.code == 0, found.err
    assert "1 audit" in found.out


def test_an_audit_without_a_test_only_reads_and_says_what_it_does_not_show(
    cli: CommandLine, taken: dict[str, Any], stack: Stack, policy_source: SourcePolicy, tmp_path: Path
) -> None:
    store = open_store(policy_source, stack.store_connection())
    before = [item.key for item in store.list("")]
    answer = cli.here("audit", SOURCE, "--output", str(tmp_path / "audit.json"))
    assert answer.code == 0, answer.err
    assert "controls are shown by this report" in answer.out
    report = json.loads((tmp_path / "audit.json").read_bytes())
    assert report["live_test"]["passed"] is None
    assert [item.key for item in store.list("")] == before


@pytest.mark.parametrize(
    ("option", "words"),
    [(("--month", "2999-01"), "has not begun"), (("--month", "May"), "no month"), (("--output", "a.pdf"), ".html")],
)
def test_an_audit_that_cannot_be_made_as_asked_is_refused(
    cli: CommandLine, option: tuple[str, str], words: str
) -> None:
    answer = cli.here("audit", SOURCE, *option)
    assert answer.code == 2
    assert words in answer.error
