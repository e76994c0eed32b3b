"""Deleting: all versions, tried again, and looked for afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from include.backup.deletion import BATCH, Gone, Outcome, delete_objects, list_versions
from include.backup.store import ObjectStore
from tests.support.fake_s3 import FakeS3, error

KEYS = [f"daily/b{number}.tar" for number in range(5)]


def make(**settings: Any) -> tuple[FakeS3, ObjectStore]:
    s3 = FakeS3(versioned=settings.pop("versioned", True))
    for name, value in settings.items():
        setattr(s3, name, value)
    for key in (*KEYS, "daily/other.tar", "daily/b0.tar.old", "weekly/b0.tar"):
        s3.add(key, b"x")
    client: Any = s3
    return s3, ObjectStore(s3=client, kms=client, bucket="b")


def delete(store: ObjectStore, *keys: str) -> dict[str, Outcome]:
    waited: list[float] = []
    return {one.key: one for one in delete_objects(store, keys, sleep=waited.append)}


@pytest.mark.parametrize("versioned", [True, False])
def test_all_versions_of_exactly_these_objects_go(versioned: bool) -> None:
    s3, store = make(versioned=versioned)
    s3.add(KEYS[0], b"a newer version")
    found = delete(store, *KEYS[:2])
    assert {one.gone for one in found.values()} == {Gone.DELETED}
    assert set(s3.keys) == {*KEYS[2:], "daily/other.tar", "daily/b0.tar.old", "weekly/b0.tar"}


def test_an_object_that_is_not_there_is_deleted() -> None:
    s3, store = make()
    assert delete(store, "daily/none.tar")["daily/none.tar"].gone is Gone.DELETED
    assert len(s3.keys) == 8


def test_markers_of_an_earlier_deletion_go_too() -> None:
    s3, store = make()
    s3.delete_object(Key=KEYS[0])
    assert delete(store, KEYS[0])[KEYS[0]].gone is Gone.DELETED
    assert KEYS[0] not in s3.keys


def test_what_fails_for_a_passing_reason_is_tried_again() -> None:
    s3, store = make(fault=lambda key, attempt: "SlowDown" if attempt < 3 else None)
    assert {one.gone for one in delete(store, *KEYS).values()} == {Gone.DELETED}
    assert not set(KEYS) & set(s3.keys)


def test_a_part_that_fails_for_good_is_named_and_the_rest_goes() -> None:
    s3, store = make(fault=lambda key, attempt: "InternalError" if key == KEYS[1] else None)
    found = delete(store, *KEYS)
    assert found[KEYS[1]].gone is Gone.LEFT
    assert found[KEYS[1]].error == "InternalError: as the test wants"
    assert set(KEYS) & set(s3.keys) == {KEYS[1]}


def test_a_deletion_that_silently_did_nothing_is_seen() -> None:
    _, store = make(fault=lambda key, attempt: "silent" if key == KEYS[1] else None)
    found = delete(store, *KEYS)
    assert found[KEYS[1]].gone is Gone.LEFT
    assert found[KEYS[1]].error == "the store said that it was deleted, and it is there"


def test_without_the_right_to_delete_versions_a_marker_hides_the_object_and_this_is_said() -> None:
    s3, store = make(deny_versions=True)
    found = delete(store, KEYS[0])
    assert (found[KEYS[0]].gone, found[KEYS[0]].error) == (Gone.HIDDEN, "AccessDenied: as the test wants")
    assert KEYS[0] not in s3.visible()
    assert KEYS[0] in s3.keys


@pytest.mark.parametrize("code", ["AccessDenied", "InternalError"])
def test_a_store_that_refuses_whole_requests_leaves_every_object_and_raises_nothing(code: str) -> None:
    s3, store = make(request_fault=code)
    found = delete(store, *KEYS)
    assert {one.gone for one in found.values()} == {Gone.LEFT}
    assert all(code in str(one.error) for one in found.values())
    assert set(KEYS) <= s3.visible()


def test_a_store_that_lists_no_versions_leaves_every_object_and_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    s3, store = make()

    def denied(**_: Any) -> Iterator[dict[str, Any]]:
        raise error("AccessDenied")
        yield

    monkeypatch.setattr(s3, "_versions", denied)
    found = delete(store, *KEYS[:2])
    assert {one.gone for one in found.values()} == {Gone.LEFT}


def test_a_second_cleanup_of_hidden_objects_sets_no_more_markers() -> None:
    s3, store = make(deny_versions=True)
    delete(store, KEYS[0])
    before = len(s3.keys[KEYS[0]])
    assert delete(store, KEYS[0])[KEYS[0]].gone is Gone.HIDDEN
    assert len(s3.keys[KEYS[0]]) == before


def test_many_objects_are_deleted_by_few_requests() -> None:
    s3, store = make()
    keys = [f"tables/h{number:05}.tar" for number in range(2 * BATCH + 1)]
    for key in keys:
        s3.add(key, b"x")
    s3.calls.clear()
    assert len(delete(store, *keys)) == len(keys)
    assert s3.calls.count("delete") == 3
    assert not any(key.startswith("tables/") for key in s3.keys)


def test_versions_are_listed_from_the_first_key_to_the_last() -> None:
    _, store = make()
    found = [one.key for one in list_versions(store, "daily/", first=KEYS[1], last=KEYS[3])]
    assert found == KEYS[1:4]
