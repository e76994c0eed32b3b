"""Alerts: told once, again until somebody answers, resolved when gone; and the heartbeat of the dead man's switch."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.audit.people import alert_rows
from include.backup.errors import AmbiguousChoiceError, ParameterError
from include.backup.evidence.ledger import Ledger
from include.backup.evidence.record import Event, read_event, records_prefix
from include.backup.health.acknowledge import Acknowledged, acknowledge, find_alert
from include.backup.health.alerts import Acknowledgement, Alert, advance, alert_name, sent
from include.backup.health.board import Board, Heartbeat
from include.backup.health.facts import AirflowFacts, DiskFact, HealthFacts
from include.backup.health.finding import Finding, RowsBefore, Severity
from include.backup.health.look import look, message
from include.backup.health.use import grows_per_day
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


def test_another_table_that_is_gone_is_told_though_those_before_were_acknowledged() -> None:
    def gone(*tables: str) -> Finding:
        return replace(finding("tables_gone"), gone=dict.fromkeys(tables, RowsBefore(backup_id="b", rows=1)))

    first = turn((), [gone("one", "two")])
    said = [Acknowledgement(key="tables_gone:daily", since=NOW, by="ann", at=NOW, note="on purpose")]
    quiet = turn(sent(first.open, first.send, at=NOW), [gone("two")], now=NOW + 2 * DAY, said=said)
    assert (quiet.send, quiet.open[0].acknowledged_by) == ((), "ann")
    (alert,) = turn(quiet.open, [gone("two", "three")], now=NOW + 3 * DAY, said=said).send
    assert (alert.acknowledged_by, alert.worse_at) == (None, NOW + 3 * DAY)


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
    many = [finding(rule="paused", evidence=f"dag <!channel> & {number} is paused") for number in range(9)]
    alerts = tuple(
        Alert(
            key=f"{item.rule}:{number}",
            rule=item.rule,
            subject=f"<!here> {number}",
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
    assert "dag &lt;!channel&gt; &amp; 0 is paused" in text
    assert "*Next:* do" in text
    assert "<http://a/run|run>" in text
    assert "paused of &lt;!here&gt; 0 is resolved" in message("pulse_messages", (), alerts[:1], now=NOW, url="u")


@pytest.fixture
def bucket(tmp_path: Any) -> Bucket:
    return Bucket(tmp_path)


def one_look(
    bucket: Bucket,
    now: datetime,
    told: list[str],
    *,
    arrives: bool = True,
    airflow: bool = True,
    disks: tuple[DiskFact, ...] = (),
) -> Any:
    source = replace(load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages"), tiers={}, base_backup=None)
    facts = HealthFacts(
        source="pulse_messages",
        now=now,
        airflow=AirflowFacts(unreachable=None if airflow else "refused"),
        disks=disks,
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


def test_an_end_that_nobody_was_told_of_is_told_by_the_next_look(bucket: Bucket) -> None:
    told: list[str] = []
    one_look(bucket, NOW, told, airflow=False)
    assert not one_look(bucket, NOW + timedelta(hours=1), told, arrives=False).delivered
    assert (one_look(bucket, NOW + timedelta(hours=2), told).told, "is resolved" in told[-1]) == (1, True)
    assert one_look(bucket, NOW + timedelta(hours=3), told).told == 0


def test_what_a_kill_left_out_of_the_evidence_is_there_after_the_next_look(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(hours: int, *, airflow: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "append", kill)
            with pytest.raises(KeyboardInterrupt):
                one_look(bucket, NOW + timedelta(hours=hours), [], airflow=airflow)

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    killed(0, airflow=False)
    killed(1, airflow=True)
    told: list[str] = []
    one_look(bucket, NOW + timedelta(hours=2), told)
    assert "unreachable of airflow is resolved" in told[0]
    assert [event.facts["what"] for event in events(bucket)] == ["raised", "resolved"]
    one_look(bucket, NOW + timedelta(hours=3), told, airflow=False)
    assert [event.facts["what"] for event in events(bucket)] == ["raised", "resolved", "raised"]


def test_one_that_becomes_worse_holds_since_the_same_time_and_is_to_be_acknowledged_anew(bucket: Bucket) -> None:
    disk = DiskFact(name="d", used=85, size=100)
    one_look(bucket, NOW, [], disks=(disk,))
    say(bucket, "capacity:d")
    for hour in (1, 2):
        worse = one_look(bucket, NOW + timedelta(hours=hour), [], disks=(replace(disk, used=100),))
    assert (worse.open[0].since, worse.open[0].acknowledged_by) == (NOW, None)
    assert say(bucket, "capacity:d", now=NOW + timedelta(hours=3)).said.number == 2
    quiet = one_look(bucket, NOW + 3 * DAY, [], disks=(replace(disk, used=100),))
    assert (quiet.told, quiet.open[0].acknowledged_by) == (0, "ann")
    one_look(bucket, NOW + 4 * DAY, [])
    (row,) = alert_rows(events(bucket), (), begin=NOW, until=datetime(2999, 1, 1, tzinfo=UTC))
    assert (row.severity, row.acknowledged_by, row.resolved_at is None) == ("critical", "ann", False)
    raised = [event.facts["severity"] for event in events(bucket) if event.facts["what"] == "raised"]
    assert raised == ["warning", "critical"]


def events(bucket: Bucket) -> list[Event]:
    keys = sorted(key for key in bucket.s3.visible() if key.startswith(records_prefix("pulse_messages")))
    return [read_event(bucket.store.get(key), name=key) for key in keys]


def test_a_person_acknowledges_an_open_alert_and_no_other(bucket: Bucket) -> None:
    told: list[str] = []
    one_look(bucket, NOW, told, airflow=False)
    with pytest.raises(ParameterError, match="open: unreachable:airflow"):
        say(bucket, "late:daily")
    for _ in range(2):
        say(bucket, "unreachable:airflow")
    assert open_ledger(bucket).last_sequence() == 2
    later = one_look(bucket, NOW + 5 * DAY, told, airflow=False)
    assert (later.told, later.open[0].acknowledged_by, later.open[0].note) == (0, "ann", "restarting it")


def test_an_acknowledgement_until_a_time_is_over_then_and_may_be_said_again(bucket: Bucket) -> None:
    told: list[str] = []
    one_look(bucket, NOW, told, airflow=False)
    assert say(bucket, "unreach", until=NOW + 3 * DAY).said.number == 1
    assert one_look(bucket, NOW + 2 * DAY, told, airflow=False).told == 0
    over = one_look(bucket, NOW + 3 * DAY, told, airflow=False)
    assert (over.told, over.open[0].acknowledged_by, over.open[0].note) == (1, None, "")
    assert one_look(bucket, NOW + 3 * DAY + timedelta(hours=1), told, airflow=False).told == 0
    again = say(bucket, over.open[0].short_id, now=NOW + 3 * DAY)
    assert (again.said.number, again.said.until) == (2, None)
    assert one_look(bucket, NOW + 9 * DAY, told, airflow=False).told == 0
    assert open_ledger(bucket).last_sequence() == 3


def test_who_prolongs_an_acknowledgement_is_who_is_known(bucket: Bucket) -> None:
    one_look(bucket, NOW, [], airflow=False)
    say(bucket, "unreachable:airflow", until=NOW + DAY)
    assert say(bucket, "unreachable:airflow", by="bob", until=NOW + 2 * DAY).said.by == "bob"
    seen = one_look(bucket, NOW + timedelta(hours=1), [], airflow=False).open[0]
    assert (seen.acknowledged_by, seen.acknowledged_until) == ("bob", NOW + 2 * DAY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"note": " "}, "says nothing"), ({"until": NOW}, "over already"), ({"until": datetime(2030, 1, 1)}, "zone")],  # noqa: DTZ001
)
def test_an_acknowledgement_that_says_nothing_or_is_over_is_refused(
    bucket: Bucket, arguments: dict[str, Any], message: str
) -> None:
    one_look(bucket, NOW, [], airflow=False)
    with pytest.raises(ParameterError, match=message):
        say(bucket, "unreachable:airflow", **arguments)
    assert open_ledger(bucket).last_sequence() == 1


def test_an_alert_is_found_by_its_id_its_name_or_a_beginning_that_only_one_has() -> None:
    alerts = turn((), [finding(), finding(rule="late_too"), finding(rule="paused")]).open
    late = alerts[0]
    for wanted in ("late:daily", "late:", late.short_id, f" {late.short_id} "):
        assert find_alert(alerts, wanted, source="s") is late
    with pytest.raises(AmbiguousChoiceError, match=rf"fits 2 alerts of s: late:daily \({late.short_id}\), late_too"):
        find_alert(alerts, "late", source="s")
    for nothing in ("", "weekly", "late:daily2"):
        with pytest.raises(ParameterError, match="open: late:daily"):
            find_alert(alerts, nothing, source="s")


def test_the_message_names_the_id_with_which_an_alert_is_acknowledged() -> None:
    (alert,) = turn((), [finding()]).open
    assert f"[`{alert.short_id}`]" in message("s", (alert,), (), now=NOW, url="u")


def test_an_acknowledgement_of_the_first_version_is_still_known(bucket: Bucket) -> None:
    one_look(bucket, NOW, [], airflow=False)
    done = say(bucket, "unreachable:airflow")
    (key,) = (key for key in bucket.s3.visible() if "/acknowledged/" in key)
    assert key == f"health/pulse_messages/acknowledged/{alert_name(done.alert.key, NOW)}.json"
    old = {name: value for name, value in json.loads(bucket.store.get(key)).items() if name not in ("until", "number")}
    bucket.store.replace(key, json.dumps(old).encode(), encryption=PLAIN)
    assert one_look(bucket, NOW + 5 * DAY, [], airflow=False).open[0].acknowledged_by == "ann"


def open_ledger(bucket: Bucket) -> Ledger:
    return Ledger(bucket.store, source="pulse_messages", encryption=PLAIN, policy=EvidencePolicy())


def say(bucket: Bucket, wanted: str, *, by: str = "ann", now: datetime = NOW, **arguments: Any) -> Acknowledged:
    board = Board(bucket.store, source="pulse_messages", encryption=PLAIN)
    return acknowledge(board, open_ledger(bucket), wanted, by=by, now=now, **{"note": "restarting it", **arguments})


@pytest.mark.parametrize(
    ("age_minutes", "pulse"), [(0, Pulse.ALIVE), (149, Pulse.ALIVE), (151, Pulse.SILENT), (-151, Pulse.SILENT)]
)
def test_the_watch_alarms_when_the_heartbeat_is_old_or_of_another_time(age_minutes: int, pulse: Pulse) -> None:
    beat = Heartbeat(source="s", at=NOW - timedelta(minutes=age_minutes), alerts=0, run_id="r")
    assert judge("s", beat, now=NOW, most=timedelta(minutes=150)).pulse is pulse


def test_the_watch_alarms_when_there_never_was_a_heartbeat() -> None:
    assert judge("s", None, now=NOW, most=DAY).pulse is Pulse.NEVER


def test_how_fast_a_disk_fills_is_what_is_used_against_a_week_ago(bucket: Bucket) -> None:
    board = Board(bucket.store, source="pulse_messages", encryption=PLAIN)
    for hour in range(0, 24 * 10, 6):
        one_look(bucket, NOW + timedelta(hours=hour), [], disks=(DiskFact(name="d", used=1000 + hour, size=9000),))
    uses, now = board.uses(), NOW + 10 * DAY
    assert [(use.at - NOW).days for use in uses] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert grows_per_day(uses, "d", 1000 + 2 * 24 + 80, now=now) == 10
    assert grows_per_day(uses, "d", 1000 + 2 * 24, now=now) == 0
    assert grows_per_day(uses, "another", 5, now=now) is None
    assert grows_per_day(uses[-1:], "d", 5, now=uses[-1].at + timedelta(hours=22)) is None
