"""recover --in-project: Supabase is asked once, after a yes, and the evidence says who did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from include.backup.cli.main import main
from include.backup.cli.session import Session
from include.backup.evidence.check import check_ledger
from include.backup.point_in_time.hosted import restore_hosted
from tests.support.aged_bucket import PLAIN
from tests.support.memory_store import MemoryStore
from tests.support.supabase_api import REF, RunningApi, running_api

ASKED = f"POST /v1/projects/{REF}/database/backups/restore-pitr"
TARGET = datetime.now(tz=UTC).replace(microsecond=0) - timedelta(hours=3)
COMMAND = ["recover", "pulse_messages", "--in-project", "--json"]
TO_TIME = [*COMMAND, "--to-time", TARGET.isoformat()]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore({})
    monkeypatch.setattr(Session, "store", made)
    monkeypatch.setattr("include.backup.evidence.ledger.encryption_of", lambda *_: PLAIN)
    return made


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> Iterator[RunningApi]:
    """A project that is at work until somebody has looked at it."""
    with running_api(pitr_enabled=True, restore_seconds=3600) as running:

        def end_work(_: float) -> None:
            running.project.restoring_until = None

        monkeypatch.setattr(Session, "open_supabase", lambda session: running.open())
        monkeypatch.setattr(
            "include.backup.cli.recover_project.restore_hosted", partial(restore_hosted, sleep=end_work)
        )
        yield running


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the document; before it are the lines of the server, which runs in this process."""
    out = capsys.readouterr().out
    document: dict[str, Any] = json.loads(out[out.index("{") :])
    return document


def test_a_look_shows_the_window_and_asks_for_nothing(api: RunningApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TO_TIME, "--dry-run"], {}) == 0
    preview = printed(capsys)["preview"]
    assert (preview["project_ref"], preview["target"]) == (REF, TARGET.isoformat())
    assert ASKED not in api.asked


def test_without_a_yes_nothing_is_asked_for(api: RunningApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(TO_TIME, {}) == 2
    assert "add --yes, or --dry-run" in capsys.readouterr().err
    assert ASKED not in api.asked


def test_with_a_yes_supabase_is_asked_once_followed_and_recorded(
    api: RunningApi, store: MemoryStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TO_TIME, "--yes"], {}) == 0
    assert printed(capsys)["report"]["status"] == "ACTIVE_HEALTHY"
    assert api.asked.count(ASKED) == 1
    assert api.project.restored_to == int(TARGET.timestamp())
    assert check_ledger(store, "pulse_messages").intact
    records = [json.loads(body) for key, body in store.objects.items() if "/records/" in key]
    (record,) = [record for record in records if record["kind"] == "restore"]
    assert (record["subject"], record["facts"]["status"]) == (REF, "ACTIVE_HEALTHY")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ([*COMMAND, "--to-lsn", "0/100", "--yes"], 2, "to a time only"),
        ([*TO_TIME, "--folder", "/srv/copy"], 2, "not allowed with"),
        ([*COMMAND, "--to-time", "2020-01-01T00:00:00Z", "--yes"], 2, "lies outside of what Supabase can recover"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_asked_for(
    api: RunningApi, capsys: pytest.CaptureFixture[str], argv: list[str], code: int, words: str
) -> None:
    assert main(argv, {}) == code
    assert words in capsys.readouterr().err
    assert ASKED not in api.asked
