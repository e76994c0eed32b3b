"""Parts of an upload: their size, their number, and the checksum that S3 gives the whole."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import strategies as st

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.multipart import MAXIMUM_PARTS, UploadPlan, _resume, checksum_of, part_size_for
from include.backup.multipart_calls import composite
from include.backup.store import Encryption
from tests.support.memory_store import MemoryStore
from tests.support.proofs import composite_checksum
from tests.support.properties import given

MEBIBYTE = 1 << 20
LARGEST_OBJECT = 5 << 40
LARGEST_PART = 5 << 30


@given(st.integers(1, LARGEST_OBJECT), st.integers(5, 5 * 1024).map(lambda size: size * MEBIBYTE))
def test_any_object_that_s3_takes_fits_into_its_parts(size: int, wanted: int) -> None:
    part_size = part_size_for(size, wanted)
    assert part_size >= wanted
    assert part_size % MEBIBYTE == 0
    assert -(-size // part_size) <= MAXIMUM_PARTS
    assert part_size <= max(wanted, LARGEST_PART)


@given(st.integers(1, LARGEST_OBJECT), st.integers(0, LARGEST_OBJECT))
def test_a_larger_object_never_gets_smaller_parts(size: int, more: int) -> None:
    assert part_size_for(size + more, 16 * MEBIBYTE) >= part_size_for(size, 16 * MEBIBYTE)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 16), (1, 16), (16 * MEBIBYTE * 9_900, 16), (16 * MEBIBYTE * 9_900 + 1, 17), (LARGEST_OBJECT, 530)],
)
def test_parts_grow_only_when_there_would_be_too_many(size: int, expected: int) -> None:
    assert part_size_for(size, 16 * MEBIBYTE) == expected * MEBIBYTE


def test_the_checksum_of_the_whole_is_that_of_the_checksums() -> None:
    digests = [hashlib.sha256(part).digest() for part in (b"a", b"b")]
    expected = base64.b64encode(hashlib.sha256(digests[0] + digests[1]).digest()).decode()
    assert composite(digests) == f"{expected}-2"


def make_plan(tmp_path: Path, part_size: int) -> UploadPlan:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 30)
    return UploadPlan(
        key="k",
        layout=TarLayout([FileMember(name="a", path=tmp_path / "a", length=256 * 30)], modified_at=0),
        part_size=part_size,
        concurrency=3,
        encryption=Encryption(algorithm=None),
        storage_class="STANDARD",
        tags={},
    )


@pytest.mark.parametrize("part_size", [512, 1000, 4096, 1 << 20])
def test_the_checksum_without_sending_is_that_of_the_parts(tmp_path: Path, part_size: int) -> None:
    plan = make_plan(tmp_path, part_size)
    archive = plan.layout.read(0, plan.layout.size)
    assert checksum_of(plan) == composite_checksum(archive, part_size)
    assert plan.parts == -(-len(archive) // part_size)


class Unfinished(MemoryStore):
    """Unfinished uploads of one key: each with its storage class and whether it has a part with a checksum."""

    def __init__(self, uploads: dict[str, tuple[str, bool]]) -> None:
        super().__init__({})
        self.aborted: list[str] = []
        self.s3 = cast(Any, self)
        self._uploads = uploads

    def get_paginator(self, name: str) -> Any:
        return type("Paginator", (), {"paginate": staticmethod(getattr(self, name))})

    def list_multipart_uploads(self, **_: Any) -> Any:
        yield {"Uploads": [{"Key": "k", "UploadId": one} for one in self._uploads]}

    def list_parts(self, **asked: Any) -> Any:
        storage_class, checksum = self._uploads[asked["UploadId"]]
        part = {"PartNumber": 1, "ETag": "e", "Size": 1, **({"ChecksumSHA256": "c"} if checksum else {})}
        yield {"StorageClass": storage_class, "Parts": [part]}

    def abort_multipart_upload(self, **asked: Any) -> None:
        self.aborted.append(asked["UploadId"])


@pytest.mark.parametrize(
    ("uploads", "kept"),
    [
        ({"a": ("STANDARD", False), "b": ("STANDARD", True)}, "b"),
        ({"a": ("GLACIER", True), "b": ("STANDARD", True)}, "b"),
        ({"a": ("STANDARD", True), "b": ("STANDARD", True)}, "a"),
        ({"a": ("STANDARD", False), "b": ("GLACIER", True)}, None),
        ({}, None),
    ],
)
def test_only_an_upload_that_was_begun_for_this_plan_is_resumed(
    tmp_path: Path, uploads: dict[str, tuple[str, bool]], kept: str | None
) -> None:
    store = Unfinished(uploads)
    upload_id, parts = _resume(store, make_plan(tmp_path, 512), None)
    assert (upload_id, bool(parts)) == (kept, kept is not None)
    assert store.aborted == [one for one in uploads if one != kept]
