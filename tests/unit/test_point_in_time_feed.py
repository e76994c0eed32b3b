"""The small program that the server asks for WAL, and who brings it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.backup.errors import BackupError, MemberHashError
from include.backup.point_in_time import feed as feed_module
from include.backup.point_in_time.feed import AHEAD, SCRIPT_NAME, WalFeed
from include.backup.wal.chain import Chain, Span
from include.backup.wal.history import History
from include.backup.wal.keys import ClusterKeys
from include.backup.wal.segments import Segment

SIZE = 1 << 20
LOG = logging.getLogger("tests.feed")


def segment(number: int) -> Segment:
    return Segment(timeline=1, number=number, size=SIZE)


class Brought:
    """Takes the place of the store: notes what is fetched."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.error: Exception | None = None

    def fetch(self, _store: object, key: str, path: Path) -> None:
        if self.error is not None:
            raise self.error
        self.keys.append(key)
        path.write_bytes(key.encode())


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> Brought:
    found = Brought()
    monkeypatch.setattr(feed_module, "fetch_segment", found.fetch)
    return found


@pytest.fixture
def make(tmp_path: Path, brought: Brought) -> Callable[..., WalFeed]:
    def make(**options: Any) -> WalFeed:
        chain = Chain(size=SIZE, spans={1: (Span(first=5, last=40),)}, partials={segment(41): 41 * SIZE + 99})
        keys = ClusterKeys(system_identifier="7401")
        folder = tmp_path / "it's a folder"
        feed = WalFeed(None, keys, chain, History(timeline=1), folder=folder, user=None, log=LOG, **options)  # type: ignore[arg-type]
        feed.prepare()
        return feed

    return make


def ask(feed: WalFeed, name: str, target: Path) -> int:
    """Run the script as the server does."""
    argv = ["/bin/sh", str(feed.folder / SCRIPT_NAME), name, str(target)]
    return subprocess.run(argv, timeout=30, check=False).returncode


def test_a_segment_is_brought_as_it_is_asked_for(make: Callable[..., WalFeed], tmp_path: Path) -> None:
    feed = make()
    with feed.running():
        assert ask(feed, segment(7).name, tmp_path / "RECOVERYXLOG") == 0
    content = (tmp_path / "RECOVERYXLOG").read_bytes()
    assert len(content) == SIZE
    assert content.rstrip(b"\0").decode().endswith(f"{segment(7).name}.zst")
    assert not list((feed.folder / "wanted").iterdir())


def test_those_that_follow_are_brought_before_they_are_asked_for(
    make: Callable[..., WalFeed], brought: Brought, tmp_path: Path
) -> None:
    feed = make()
    with feed.running(first=segment(5)):
        assert ask(feed, segment(5).name, tmp_path / "a") == 0
        for number in range(6, 5 + AHEAD):
            assert ask(feed, segment(number).name, tmp_path / "a") == 0
    assert len(brought.keys) == len(set(brought.keys)) >= AHEAD


def test_nothing_is_brought_beyond_the_target(make: Callable[..., WalFeed], brought: Brought, tmp_path: Path) -> None:
    feed = make(last=segment(6))
    with feed.running():
        assert ask(feed, segment(5).name, tmp_path / "a") == 0
        assert ask(feed, segment(6).name, tmp_path / "a") == 0
    assert len(brought.keys) == 2


def test_what_is_not_stored_ends_the_log_and_is_noted(make: Callable[..., WalFeed], tmp_path: Path) -> None:
    feed = make()
    with feed.running():
        assert ask(feed, segment(42).name, tmp_path / "a") == 1
        assert ask(feed, "00000002.history", tmp_path / "a") == 1
    assert feed.facts.missing == [segment(42).name]


def test_the_beginning_of_a_segment_is_brought_under_its_name(
    make: Callable[..., WalFeed], brought: Brought, tmp_path: Path
) -> None:
    feed = make()
    with feed.running():
        assert ask(feed, segment(41).name, tmp_path / "a") == 0
    assert (tmp_path / "a").stat().st_size == SIZE
    assert "/partial/" in brought.keys[0]


def test_a_segment_can_be_asked_for_again(make: Callable[..., WalFeed], tmp_path: Path) -> None:
    """A server that crashes in recovery begins again at its last restart point."""
    feed = make()
    with feed.running():
        for _ in range(2):
            assert ask(feed, segment(9).name, tmp_path / "a") == 0


@pytest.mark.parametrize("error", [MemberHashError("it is damaged"), OSError(28, "No space left on device")])
def test_when_bringing_fails_recovery_stops_instead_of_ending_early(
    make: Callable[..., WalFeed], brought: Brought, tmp_path: Path, error: Exception
) -> None:
    brought.error = error
    feed = make()
    there = {path.name for path in feed.folder.iterdir()}
    with feed.running():
        assert ask(feed, segment(5).name, tmp_path / "a") == 200
    with pytest.raises(BackupError, match=r"damaged|No space"):
        feed.check()
    # The word that it is over takes no room: the disk may be full.
    assert {path.name for path in feed.folder.iterdir()} == there


def test_when_nobody_brings_any_more_the_script_says_so(make: Callable[..., WalFeed], tmp_path: Path) -> None:
    feed = make()
    assert ask(feed, segment(5).name, tmp_path / "a") == 200


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_script_that_waits_notices_that_its_bringer_was_killed(make: Callable[..., WalFeed], tmp_path: Path) -> None:
    feed = make()
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(ask(feed, segment(5).name, tmp_path / "a")))
    argv = [sys.executable, "-c", HOLD, str(feed.folder / "alive")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        thread.start()
        deadline = time.monotonic() + 20
        while not (feed.folder / "wanted" / segment(5).name).exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert codes == []
        holder.kill()
    thread.join(30)
    assert codes == [200]
