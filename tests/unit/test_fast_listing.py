"""Listings by our parser and by botocore's: the same objects, whatever the answer looks like, and much sooner."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from hypothesis import strategies as st

from include.backup.errors import StoreError
from include.backup.fast_listing import speed_up_listings
from include.backup.store import ObjectInfo, ObjectStore
from tests.support.properties import given

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)


class Raw:
    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.body


def a_store(pages: Sequence[bytes], *, fast: bool) -> ObjectStore:
    """Return a store whose server answers with these pages in turn, without a network."""
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})
    client: Any = boto3.client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b", config=config
    )
    answers = iter(pages)

    def send(request: Any, **_: Any) -> AWSResponse:
        return AWSResponse(request.url, 200, {"Content-Type": "application/xml"}, Raw(next(answers)))

    client.meta.events.register("before-send.s3", send)
    if fast:
        speed_up_listings(client)
    return ObjectStore(s3=client, kms=client, bucket="b")


def item(info: ObjectInfo, *, between: str = "", key_first: bool = True) -> str:
    key = f"<Key>{escape(quote(info.key))}</Key>"
    rest = (
        f"<LastModified>{info.modified:%Y-%m-%dT%H:%M:%S}.000Z</LastModified><ETag>&quot;{info.etag}&quot;</ETag>"
        f"<Size>{info.size}</Size><StorageClass>{info.storage_class}</StorageClass>"
    )
    return f"<Contents>{between}{key + rest if key_first else rest + key}</Contents>{between}"


def page(items: Sequence[str], *, more: bool = False, cursor: str = "t", namespace: str = NAMESPACE) -> bytes:
    following = f"<NextContinuationToken>{cursor}</NextContinuationToken>" if more else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{namespace}><Name>b</Name><EncodingType>url'
        f"</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>{following}{''.join(items)}<KeyCount>1</KeyCount>"
        "</ListBucketResult>"
    ).encode()


INFOS = st.lists(
    st.builds(
        ObjectInfo,
        key=st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12),
        size=st.integers(0, 1 << 40),
        modified=st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)),
        etag=st.sampled_from(["abc-2", "d41d8cd98f00b204e9800998ecf8427e"]),
        storage_class=st.sampled_from(["STANDARD", "GLACIER"]),
    ),
    max_size=5,
)


@given(first=INFOS, second=INFOS, between=st.sampled_from(["", "\n  "]), key_first=st.booleans(), own=st.booleans())
def test_the_same_objects_are_listed_as_by_botocore(
    first: list[ObjectInfo], second: list[ObjectInfo], between: str, key_first: bool, own: bool
) -> None:
    written = [[item(one, between=between, key_first=key_first) for one in infos] for infos in (first, second)]
    namespace = NAMESPACE if own else ""
    pages = [page(written[0], more=True, namespace=namespace), page(written[1], namespace=namespace)]
    expected = list(a_store(pages, fast=False).list("x"))
    assert expected == [*first, *second]
    assert list(a_store(pages, fast=True).list("x")) == expected
    assert list(a_store(pages, fast=True).keys("x")) == [one.key for one in expected]


ONE = ObjectInfo(key="a&b", size=1, modified=NOW, etag="e")


def test_entities_and_comments_are_read_by_the_real_parser() -> None:
    plain = item(ONE)
    for text in (plain.replace("a%26b", "a&#38;b"), f"<!-- <Contents> -->{plain.replace('a%26b', 'a&amp;b')}"):
        assert list(a_store([page([text])], fast=True).keys("x")) == ["a&b"]


@pytest.mark.parametrize("cut", [-1, -30, 40])
def test_an_answer_that_was_cut_off_is_an_error_and_no_short_listing(cut: int) -> None:
    body = page([item(ONE)] * 3)[:cut]
    for read in ("list", "keys"):
        with pytest.raises(StoreError):
            list(getattr(a_store([body], fast=True), read)("x"))


def test_an_error_with_status_200_is_an_error() -> None:
    body = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
    for read in ("list", "keys"):
        with pytest.raises(StoreError):
            list(getattr(a_store([body], fast=True), read)("x"))


def test_what_lacks_a_field_is_left_to_botocore() -> None:
    body = page([item(ONE).replace("<Size>1</Size>", "")])
    with pytest.raises(KeyError):
        list(a_store([body], fast=True).list("x"))


def test_keys_are_listed_several_times_as_fast() -> None:
    pages = [page([item(ONE)] * 1000, more=number < 9, cursor=f"t{number}") for number in range(10)]

    def seconds(read: str, *, fast: bool) -> float:
        # This thread's own, the best of three: whatever else the process does (other threads, the
        # collector walking over what other tests left) is not the listing's time.
        gc.disable()
        try:
            return min(listed(a_store(pages, fast=fast), read) for _ in range(3))
        finally:
            gc.enable()

    def listed(store: ObjectStore, read: str) -> float:
        started = time.thread_time()
        assert sum(1 for _ in getattr(store, read)("x")) == 10_000
        return time.thread_time() - started

    slow = seconds("list", fast=False)
    assert seconds("list", fast=True) < slow / 2
    assert seconds("keys", fast=True) < slow / 3
