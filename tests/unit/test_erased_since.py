"""Who has to be erased again when a backup comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.backup.restore.erasure import erased_since
from tests.support.memory_store import MemoryStore

RECORDED = datetime(2026, 5, 11, tzinfo=UTC)  # of every object in that store, in whole seconds as S3 tells them


@pytest.mark.parametrize(
    ("snapshot", "found"),
    [
        (RECORDED - timedelta(days=1), ("ann", "bea")),
        (RECORDED + timedelta(milliseconds=900), ("ann", "bea")),
        (RECORDED + timedelta(seconds=1), ()),
    ],
)
def test_an_erasure_counts_unless_the_snapshot_was_surely_later(snapshot: datetime, found: tuple[str, ...]) -> None:
    keys = ("erasures/shop/ann.json", "erasures/shop/bea.json", "erasures/shop/note.txt", "erasures/shop2/cid.json")
    assert erased_since(MemoryStore(dict.fromkeys(keys, b"{}")), "shop", snapshot) == found
