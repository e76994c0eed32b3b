"""Parts of an upload: their size, their number, and the checksum that S3 gives the whole."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from hypothesis import strategies as st

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.multipart import MAXIMUM_PARTS, UploadPlan, checksum_of, part_size_for
from include.backup.multipart_calls import composite
from include.backup.store import Encryption
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


@pytest.mark.parametrize("part_size", [512, 1000, 4096, 1 << 20])
def test_the_checksum_without_sending_is_that_of_the_parts(tmp_path: Path, part_size: int) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 30)
    layout = TarLayout([FileMember(name="a", path=tmp_path / "a", length=256 * 30)], modified_at=0)
    plan = UploadPlan(
        key="k",
        layout=layout,
        part_size=part_size,
        concurrency=3,
        encryption=Encryption(algorithm=None),
        storage_class="STANDARD",
        tags={},
    )
    archive = layout.read(0, layout.size)
    assert checksum_of(plan) == composite_checksum(archive, part_size)
    assert plan.parts == -(-len(archive) // part_size)
