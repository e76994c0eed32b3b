"""Alerts: told once, again until somebody answers, resolved when gone; and the heartbeat of the dead man's switch."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.errors import ParameterError
from include.backup.evidence.ledger import Ledger
from include.backup.health.alerts import Acknowledgement, Alert, advance, sent
from include.backup.health.board import Board, Heartbeat
from include.backup.health.facts import AirflowFacts, HealthFacts
from include.backup.health.finding import Finding, Severity
from include.backup.health.look import look, message
from include.backup.health.watch import Pulse, judge
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.store import Encryption
from tests.support.aged_bucket import Bucket
from tests.support.properties import given

NOW = datetime(2025, 3, 12, 3, 30, tzinfo=UTC)
DAY = timedelta(hours=24)
PLAIN = Encryption(algorithm=None)


def finding(rule: str = "late", severity: Severity = Severity.WARNING, evidence: str = "e") -> Finding:
    return Finding(rule=rule, subject="daily", severity=severity, evidence=evidence, next_step="do")


def turn(before: Any, findings: Any, *, now: datetime = NOW, said: Any = ()) -> Any:
    return advance(before, findings, said, now=now, resend_after=DAY)


def test_a_new_finding_is_raised_and_sent_and_a_known_one_is_not() -> None:
    first = turn((), [finding()])
    assert [alert.key for alert in first.raised] == [alert.key for alert in first.send] == ["late:daily"]
    told = sent(first.open, first.send, at=NOW)
    second = turn(told, [finding(evidence="other words")], now=NOW + timedelta(hours=1))
    assert (second.raised, second.send, second.resolved) == ((), (), ())
    assert (second.open[0].since, second.open[0].evidence) == (NOW, "other words")


def test_one_that_nobody_acknowledges_is_sent_again_after_a_day() -> None:
    told = sent(turn((), [finding()]).open, turn((), [finding()]).send, at=NOW)
    assert turn(told, [finding()], now=NOW + DAY - timedelta(seconds=1)).send == ()
    assert len(turn(told, [finding()], now=NOW + DAY).send) == 1


def test_a_message_that_did_not_arrive_is_sent_by_the_next_look() -> None:
    untold = turn((), [finding()]).open
    assert len(turn(untold, [finding()], now=NOW + timedelta(hours=1)).send) == 1


def test_an_acknowledged_one_is_not_sent_again_until_it_gets_worse() -> None:
    told = sent(turn((), [finding()]).open, turn((), [finding()]).send, at=NOW)
    said = [Acknowledgement(key="late:daily", since=NOW, by="ann", at=NOW, note="on it")]
    quiet = turn(told, [finding()], now=NOW + 3 * DAY, said=said)
    assert quiet.send == ()
    assert quiet.open[0].acknowledged_by == "ann"
    worse = turn(quiet.open, [finding(severity=Severity.CRITICAL)], now=NOW + 4 * DAY, said=said)
    assert len(worse.send) == 1
    assert worse.open[0].acknowledged_by is None


def test_an_acknowledgement_of_an_earlier_time_does_not_silence_a_new_one() -> None:
    said = [Acknowledgement(key="late:daily", since=NOW - DAY, by="ann", at=NOW, note="old")]
    told = sent(turn((), [finding()]).open, turn((), [finding()]).send, at=NOW)
    assert len(turn(told, [finding()], now=NOW + DAY, said=said).send) == 1


def test_what_is_gone_is_resolved_once() -> None:
    open_alerts = turn((), [finding()]).open
    gone = turn(open_alerts, [], now=NOW + DAY)
    assert [alert.key for alert in gone.resolved] == ["late:daily"]
    assert turn(gone.open, []).resolved == ()


FINDINGS = st.lists(
    st.builds(
        finding, rule=st.sampled_from("abc"), severity=st.sampled_from(Severity), evidence=st.sampled_from(["x", "y"])
    ),
    max_size=5,
)


@given(rounds=st.lists(FINDINGS, max_size=6))
def test_in_any_order_of_looks_open_is_what_was_found_last_and_nothing_is_lost(rounds: list[list[Finding]]) -> None:
    alerts: tuple[Alert, ...] = ()
    raised = resolved = 0
    for index, findings in enumerate(rounds):
        now = NOW + timedelta(hours=index)
        result = turn(alerts, findings, now=now)
        assert {alert.key for alert in result.open} == {item.key for item in findings}
        assert len({alert.key for alert in result.open}) == len(result.open)
        raised += len(result.raised)
        resolved += len(result.resolved)
        assert all(alert in result.open for alert in result.send)
        alerts = sent(result.open, result.send, at=now)
        assert all(alert.sent_at is not None for alert in alerts)
    assert raised - resolved == len(alerts)


def test_a_message_says_what_since_when_and_what_to_do_and_keeps_many_of_a_kind_together() -> None:
    many = [finding(rule="paused", evidence=f"dag {number} is paused") for number in range(9)]
    alerts = tuple(
        Alert(
            key=f"{item.rule}:{number}",
            rule=item.rule,
            subject=str(number),
            severity=item.severity,
            evidence=item.evidence,
            next_step=item.next_step,
            since=NOW - DAY,
            seen_at=NOW,
        )
        for number, item in enumerate(many)
    )
    text = message("pulse_messages", alerts, (), now=NOW, url="http://a/run")
    assert text.count("paused (since 2025-03-11 03:30 UTC)") == 1
    assert "and 4 more" in text
    assert "*Next:* do" in text
    assert "<http://a/run|run>" in text
    assert "is resolved" in message("pulse_messages", (), alerts[:1], now=NOW, url="u")


@pytest.fixture
def bucket(tmp_path: Any) -> Bucket:
    return Bucket(tmp_path)


def one_look(bucket: Bucket, now: datetime, told: list[str], *, arrives: bool = True, airflow: bool = True) -> Any:
    source = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    source = type(source)(**{**{f: getattr(source, f) for f in source.__dataclass_fields__}, "tiers": {}})
    facts = HealthFacts(
        source="pulse_messages", now=now, airflow=AirflowFacts(unreachable=None if airflow else "refused")
    )
    return look(
        facts,
        source,
        board=Board(bucket.store, source="pulse_messages", encryption=PLAIN),
        ledger=Ledger(bucket.store, source="pulse_messages", encryption=PLAIN, policy=EvidencePolicy()),
        run_id="run",
        tell=lambda alerts, resolved: bool(told.append(message("p", alerts, resolved, now=now, url="u"))) or arrives,
        log=logging.getLogger("test"),
    )


def test_a_look_tells_once_keeps_the_alert_in_the_evidence_and_beats(bucket: Bucket) -> None:
    told: list[str] = []
    assert one_look(bucket, NOW, told, airflow=False).raised == 1
    assert one_look(bucket, NOW + timedelta(hours=1), told, airflow=False).told == 0
    ended = one_look(bucket, NOW + timedelta(hours=2), told)
    assert (ended.resolved, ended.open, len(told)) == (1, (), 2)
    board = Board(bucket.store, source="pulse_messages", encryption=PLAIN)
    beat = board.heartbeat()
    assert beat is not None
    assert beat.at == NOW + timedelta(hours=2)
    ledger = Ledger(bucket.store, source="pulse_messages", encryption=PLAIN, policy=EvidencePolicy())
    assert ledger.last_sequence() == 2


def test_an_alarm_that_nobody_got_is_told_again_and_the_report_says_so(bucket: Bucket) -> None:
    told: list[str] = []
    report = one_look(bucket, NOW, told, arrives=False, airflow=False)
    assert not report.delivered
    assert "NOBODY COULD BE TOLD" in report.line()
    assert one_look(bucket, NOW + timedelta(minutes=1), told, airflow=False).told == 1


def test_a_person_acknowledges_an_open_alert_and_no_other(bucket: Bucket) -> None:
    told: list[str] = []
    one_look(bucket, NOW, told, airflow=False)
    board = Board(bucket.store, source="pulse_messages", encryption=PLAIN)
    with pytest.raises(ParameterError, match="open: unreachable:airflow"):
        board.acknowledge("late:daily", by="ann", at=NOW, note="n")
    for _ in range(2):
        board.acknowledge("unreachable:airflow", by="ann", at=NOW, note="restarting it")
    later = one_look(bucket, NOW + 5 * DAY, told, airflow=False)
    assert (later.told, later.open[0].acknowledged_by, later.open[0].note) == (0, "ann", "restarting it")


@pytest.mark.parametrize(
    ("age_minutes", "pulse"), [(0, Pulse.ALIVE), (149, Pulse.ALIVE), (151, Pulse.SILENT), (-151, Pulse.SILENT)]
)
def test_the_watch_alarms_when_the_heartbeat_is_old_or_of_another_time(age_minutes: int, pulse: Pulse) -> None:
    beat = Heartbeat(source="s", at=NOW - timedelta(minutes=age_minutes), alerts=0, run_id="r")
    assert judge("s", beat, now=NOW, most=timedelta(minutes=150)).pulse is pulse


def test_the_watch_alarms_when_there_never_was_a_heartbeat() -> None:
    assert judge("s", None, now=NOW, most=DAY).pulse is Pulse.NEVER
