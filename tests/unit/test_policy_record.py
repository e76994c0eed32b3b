"""The policy in the ledger: once for each change, with what changed, whoever sees it first, and without secrets."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.evidence import EventKind, Ledger
from include.backup.evidence.check import check_ledger
from include.backup.evidence.policy_record import newest_policy, policies_until, record_policy
from include.backup.evidence.record import Event, once_key, read_event, records_prefix
from include.backup.policy import SHIPPED_POLICY, SourcePolicy, load_policy
from include.backup.policy.content import About, about, differences, digest, flat
from include.backup.policy.evidence import EvidencePolicy
from include.backup.policy.origin import Origin, origin_of
from include.backup.store import Encryption
from tests.support.memory_store import MemoryStore
from tests.support.properties import given

NOW = datetime(2026, 5, 11, 2, tzinfo=UTC)
SOURCE = "pulse_messages"


@pytest.fixture(autouse=True)
def nobody_says_where_it_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.evidence.policy_record.origin_of", lambda _: None)


def shipped() -> SourcePolicy:
    return load_policy(SHIPPED_POLICY, strict=True).source(SOURCE)


def written(tmp_path: Path, old: str = "", new: str = "") -> SourcePolicy:
    """Return the source of the shipped policy with one text in the file replaced."""
    text = SHIPPED_POLICY.read_text()
    assert old in text
    path = tmp_path / "policy.yaml"
    path.write_text(text.replace(old, new, 1))
    return load_policy(path, strict=True).source(SOURCE)


def ledger_of(store: MemoryStore, in_force: SourcePolicy | None = None) -> Ledger:
    ticks = itertools.count()
    return Ledger(
        store,
        source=SOURCE,
        encryption=Encryption(algorithm=None),
        policy=EvidencePolicy(),
        clock=lambda: NOW + timedelta(seconds=next(ticks)),
        in_force=in_force,
    )


def events(store: MemoryStore) -> list[Event]:
    prefix = records_prefix(SOURCE)
    return [read_event(body, name=key) for key, body in sorted(store.objects.items()) if key.startswith(prefix)]


def set_to(source: SourcePolicy, settings: Mapping[str, Any]) -> SourcePolicy:
    return replace(source, settings=settings)


def test_a_policy_is_recorded_when_it_is_first_seen_and_not_again() -> None:
    store = MemoryStore({})
    first = record_policy(ledger_of(store), shipped(), actor="health r1")
    assert first is not None
    assert record_policy(ledger_of(store), shipped(), actor="health r2") is None
    assert (first.kind, first.actor, first.facts["changes"]) == (EventKind.POLICY_CHANGE, "health r1", [])
    assert first.facts["settings"]["tiers.daily.keep"] == "7 days"
    assert first.facts["policy_sha256"] == digest(first.facts["settings"])
    assert check_ledger(store, SOURCE).kinds == {"policy_change": 1}


@pytest.mark.parametrize(
    ("old", "new", "path", "before", "after"),
    [
        ("keep: 9 days # every hour for", "keep: 400 days # every hour for", "tiers.hourly.keep", "9 days", "400 days"),
        ("two_people: true", "two_people: false", "restore.approval.two_people", "true", "false"),
        ("alias/pulse-backups", "alias/other", "store.encryption.kms_key_id", "alias/pulse-backups", "alias/other"),
        ("bucket: pulse-backups", "bucket: other-backups", "store.bucket", "pulse-backups", "other-backups"),
        (
            "      - public.workspaces\n",
            "      - public.rooms\n",
            "critical_tables",
            "public.workspaces",
            "public.rooms",
        ),
        ("production: false", "production: true", "restore.servers.beside.production", "false", "true"),
        ("keep_days: 90", "keep_days: 30", "metadata.keep_days", "90", "30"),
        ("  restores: 2 #", "  restores: 4 #", "pools.restores", "2", "4"),
    ],
)
def test_each_change_is_named_by_its_path_with_what_it_was_and_is(
    tmp_path: Path, old: str, new: str, path: str, before: str, after: str
) -> None:
    store = MemoryStore({})
    record_policy(ledger_of(store), shipped(), actor="r1")
    event = record_policy(ledger_of(store), written(tmp_path, old.strip(" "), new.strip(" ")), actor="r2")
    assert event is not None
    (change,) = event.facts["changes"]
    assert change["path"] == path
    assert before in change["old"]
    assert after in change["new"]
    assert event.facts["previous_sha256"] == events(store)[0].facts["policy_sha256"]


def test_what_stands_elsewhere_in_the_file_and_comments_are_no_change_of_a_source(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    other = text.replace("  pulse_messages:\n", "  shop:\n", 1).partition("\nsources:\n")[2]
    path = tmp_path / "policy.yaml"
    path.write_text(f"# a comment\n{text}{other}")
    both = load_policy(path)
    assert set(both.sources) == {SOURCE, "shop"}
    assert flat(both.source(SOURCE).settings) == flat(shipped().settings)
    assert flat(load_policy(path, only=SOURCE).source(SOURCE).settings) == flat(shipped().settings)


def test_a_policy_that_comes_back_is_a_change_too() -> None:
    store = MemoryStore({})
    for number in (1, 2, 1, 2, 2):
        record_policy(ledger_of(store), set_to(shipped(), {"jobs": number}), actor="r")
    assert [event.facts["changes"] for event in events(store)] == [
        [],
        [{"path": "jobs", "old": "1", "new": "2"}],
        [{"path": "jobs", "old": "2", "new": "1"}],
        [{"path": "jobs", "old": "1", "new": "2"}],
    ]


def test_writers_that_see_the_same_change_at_once_record_it_once() -> None:
    store = MemoryStore({})
    record_policy(ledger_of(store), set_to(shipped(), {"jobs": 1}), actor="r")
    ready = threading.Barrier(8)
    failures: list[BaseException] = []

    def see(number: int) -> None:
        try:
            ready.wait(30)
            record_policy(ledger_of(store), set_to(shipped(), {"jobs": 2}), actor=f"r{number}")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=see, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    check = check_ledger(store, SOURCE)
    assert check.intact, check.findings
    assert check.kinds == {"policy_change": 2}


def test_a_writer_that_died_behind_its_mark_hides_no_change() -> None:
    store = MemoryStore({})
    record_policy(ledger_of(store), set_to(shipped(), {"jobs": 1}), actor="r")
    record_policy(ledger_of(store), set_to(shipped(), {"jobs": 2}), actor="r")
    for name in [name for name in store.objects if name.rpartition("/")[2].startswith("0000000002")]:
        del store.objects[name]
    assert once_key(SOURCE, "policy:2") in store.objects
    again = record_policy(ledger_of(store), set_to(shipped(), {"jobs": 3}), actor="r")
    assert again is not None
    assert (again.facts["number"], again.facts["changes"][0]["new"]) == (2, "3")


def test_the_newest_of_many_is_found_in_few_calls() -> None:
    store = MemoryStore({})
    for number in range(1, 41):
        record_policy(ledger_of(store), set_to(shipped(), {"jobs": number}), actor="r")
    store.calls.clear()
    number, event = newest_policy(ledger_of(store))
    assert event is not None
    assert (number, event.facts["settings"]) == (40, {"jobs": 40})
    assert len(store.calls) <= 16


def test_which_policy_was_in_force_at_a_time_is_found_backwards() -> None:
    store = MemoryStore({})
    ledger = ledger_of(store)
    for number in range(1, 6):
        record_policy(ledger, set_to(shipped(), {"jobs": number}), actor="r")
    times = [event.recorded_at for event in events(store)]
    found = policies_until(ledger, times[2])
    assert [event.facts["number"] for event in found] == [5, 4, 3]
    assert list(policies_until(ledger_of(MemoryStore({})), NOW)) == []


@pytest.mark.parametrize("kind", [EventKind.DELETION, EventKind.RESTORE, EventKind.APPROVAL, EventKind.HOLD])
def test_what_a_changed_policy_allows_is_on_record_only_after_the_change(kind: EventKind) -> None:
    """Change, use, change back within the hour: each hourly look sees the same policy."""
    store = MemoryStore({})
    record_policy(ledger_of(store), shipped(), actor="health")
    lax = set_to(shipped(), {**shipped().settings, "keep_failed_hours": 1})
    using = ledger_of(store, in_force=lax)
    using.append(kind, subject="one", actor="ann")
    using.append(kind, subject="two", actor="ann")
    record_policy(ledger_of(store), shipped(), actor="health")
    assert [(event.kind, event.actor) for event in events(store)] == [
        (EventKind.POLICY_CHANGE, "health"),
        (EventKind.POLICY_CHANGE, "ann"),
        (kind, "ann"),
        (kind, "ann"),
        (EventKind.POLICY_CHANGE, "health"),
    ]


def test_no_setting_of_the_shipped_policy_is_taken_for_a_secret() -> None:
    assert "***" not in str(flat(shipped().settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"tiers": {"daily": {"below_strategy": "see https://ann:hunter2@wiki/x"}}},
        {"tiers": {"daily": {"below_strategy": "password=hunter2, ask ann"}}},
        {"names": ["token: hunter2"]},
        {"password": "hunter2"},
        {"store": {"secret_key": ["hunter2"]}},
        {"note": "AKIAHUNTER2HUNTER2AA"},
    ],
)
def test_what_looks_like_a_secret_is_not_kept_for_ever(settings: dict[str, Any]) -> None:
    store = MemoryStore({})
    event = record_policy(ledger_of(store), set_to(shipped(), settings), actor="r")
    assert event is not None
    assert "hunter2" not in str(store.objects).lower()


def test_a_value_that_is_too_long_is_cut_and_a_change_behind_the_cut_still_shows() -> None:
    one, other = flat({"names": "x" * 5000 + "1"}), flat({"names": "x" * 5000 + "2"})
    assert len(one["names"]) < 400
    assert [change.path for change in differences(one, other)] == ["names"]
    many = flat({"names": [f"table_{number}" for number in range(5000)]})
    assert len(str(many)) < 500


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(st.text("abc", min_size=1, max_size=2), VALUES, max_size=4)


@given(old=SETTINGS, new=SETTINGS)
def test_two_policies_have_one_digest_exactly_when_nothing_changed(old: dict[str, Any], new: dict[str, Any]) -> None:
    one, other = flat(old), flat(new)
    assert (digest(one) == digest(other)) == (differences(one, other) == ())
    assert digest(one) == digest(dict(reversed(one.items())))
    assert {change.path for change in differences(one, other)} <= {*one, *other}


def test_what_a_setting_is_about() -> None:
    kinds: dict[About, set[str]] = {}
    for path in flat(shipped().settings):
        kinds.setdefault(about(path), set()).add(path)
    assert kinds[About.KEY] == {"store.encryption.kms_key_id", "store.encryption.sse"}
    assert {"store.bucket", "restore.approval.two_people", "restore.servers.beside.production", "connection"} <= kinds[
        About.ACCESS
    ]
    assert "tiers.daily.keep" in kinds[About.POLICY]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    def git(*words: str) -> None:
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.invalid")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    path = tmp_path / "policy.yaml"
    path.write_text("a: 1\n")
    git("init", "-q")
    git("add", "policy.yaml")
    git("commit", "-q", "-m", "first")
    return path


def test_the_revision_of_a_committed_file_names_who_made_it(clone: Path) -> None:
    found = origin_of(clone, {})
    assert found is not None
    assert (len(found.revision), found.author, found.uncommitted) == (40, "Ann", False)
    clone.write_text("a: 2\n")
    assert origin_of(clone, {}) == Origin(revision=found.revision, uncommitted=True)


def test_a_file_that_git_does_not_know_or_that_is_in_no_clone_has_no_origin(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("")
    assert origin_of(tmp_path / "other.yaml", {}) is None
    (tmp_path / ".git").rename(tmp_path / "git")
    assert origin_of(clone, {}) is None
    assert origin_of(None, {}) is None
    (tmp_path / ".git").write_text("gitdir: nowhere")
    assert origin_of(clone, {}) is None


def test_what_a_deployment_says_of_itself_goes_before_git(clone: Path) -> None:
    said = {"BACKUP_POLICY_REVISION": "4f2c91e", "BACKUP_POLICY_AUTHOR": "Ann\n token=hunter2"}
    assert origin_of(clone, said) == Origin(revision="4f2c91e", author="Ann token=***")
