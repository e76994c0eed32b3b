"""The archive of a base backup while it grows: which bytes are final, and what is sent of them."""

from __future__ import annotations

import io
import logging
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from include.backup.archive.tar import FileMember, TarLayout
from include.backup.base import stream as stream_module
from include.backup.base.stream import PartStream, base_layout, known_so_far
from include.backup.errors import StoreUnreachableError
from include.backup.multipart import SentPart, SentParts, UploadPlan
from include.backup.store import Encryption

LOG = logging.getLogger("tests.base")
PART = 4096
WHEN = 1_700_000_000


def member(folder: Path, name: str, content: bytes) -> FileMember:
    (folder / name).write_bytes(content)
    return FileMember(name=name, path=folder / name, length=len(content))


def plan(layout: TarLayout) -> UploadPlan:
    return UploadPlan(
        key="base.tar",
        layout=layout,
        part_size=PART,
        concurrency=2,
        encryption=Encryption(algorithm=None),
        storage_class="STANDARD",
        tags={},
    )


def test_of_an_open_file_the_bytes_are_final_and_the_header_is_not(tmp_path: Path) -> None:
    closed = member(tmp_path, "1.tar.zst", b"a" * 1000)
    open_file = member(tmp_path, "base.tar.zst", b"b" * 2000)
    known = known_so_far([closed, open_file], modified_at=WHEN)
    header = 512 + 1024
    assert known.has(0, header)
    assert not known.has(header, header + 1)
    assert not known.has(0, header + 512)
    assert known.has(header + 512, header + 512 + 2000)
    assert not known.has(header + 512, header + 512 + 2001)


@pytest.mark.parametrize("size", [1, 8 << 30])
def test_a_header_has_one_length_whatever_the_files_is(size: int) -> None:
    """So that what was sent before the length was known stays where it is."""
    layout = TarLayout([FileMember(name="base.tar.zst", path=Path("x"), length=size)], modified_at=WHEN, gnu=True)
    assert layout.members[0].offset == 512
    header = tarfile.TarInfo.frombuf(layout.read(0, 512), "utf-8", "strict")
    assert (header.name, header.size) == ("base.tar.zst", size)


def test_a_tar_of_gnus_format_is_read_by_tar(tmp_path: Path) -> None:
    layout = base_layout([member(tmp_path, "a", b"1"), member(tmp_path, "b", b"22")], modified_at=WHEN)
    with tarfile.open(fileobj=io.BytesIO(layout.read(0, layout.size))) as tar:
        assert [(info.name, info.size) for info in tar] == [("a", 1), ("b", 2)]


class Recorder:
    """Takes the place of an upload: keeps the parts' bytes."""

    def __init__(self, *_: object) -> None:
        self.parts: dict[int, bytes] = {}

    def send(self, growing: UploadPlan, number: int) -> None:
        self.parts[number] = growing.layout.read((number - 1) * PART, PART)

    @property
    def sent(self) -> SentParts:
        parts = {str(number): SentPart(etag="e", checksum="c", size=PART) for number in self.parts}
        return SentParts(upload_id="u", part_size=PART, parts=parts)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_parts_are_sent_while_files_grow_and_are_those_of_the_final_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(stream_module, "GrowingUpload", lambda *_: recorder)
    with (
        PartStream(None, plan=plan, folder=tmp_path, modified_at=WHEN, log=LOG) as stream,  # type: ignore[arg-type]
        (tmp_path / "16400.tar.zst").open("wb", buffering=0) as first,
    ):
        first.write(b"1" * (3 * PART))
        until(lambda: set(recorder.parts) == {2, 3})
        first.write(b"1" * 100)
        first.close()
        with (tmp_path / "base.tar.zst").open("wb", buffering=0) as second:
            until(lambda: set(recorder.parts) == {1, 2, 3})
            second.write(b"2" * (2 * PART))
            until(lambda: 5 in recorder.parts)
        # The last file is whole only once the program has ended: it may end it after this one is there.
        (tmp_path / "backup_manifest.tmp").write_bytes(b"{}")
        time.sleep(4 * stream_module.POLL_SECONDS)
        assert 4 not in recorder.parts
    assert stream.order == ["16400.tar.zst", "base.tar.zst"]
    files = [
        FileMember(name=name, path=tmp_path / name, length=(tmp_path / name).stat().st_size) for name in stream.order
    ]
    layout = base_layout(files, modified_at=WHEN)
    for number, content in recorder.parts.items():
        assert content == layout.read((number - 1) * PART, PART)
    assert stream.sent is not None
    assert set(stream.sent.parts) == {"1", "2", "3", "4", "5"}


def test_a_store_that_takes_parts_in_their_order_alone_gets_the_first_one_when_the_program_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rclone's answers no later part before: all senders wait, and the first part holds an open header till the end."""
    first, waiting = threading.Event(), threading.Semaphore(0)

    class InOrder(Recorder):
        def send(self, growing: UploadPlan, number: int) -> None:
            waiting.release()
            assert number == 1 or first.wait(20)
            super().send(growing, number)
            first.set()

    recorder = InOrder()
    monkeypatch.setattr(stream_module, "GrowingUpload", lambda *_: recorder)
    with PartStream(None, plan=plan, folder=tmp_path, modified_at=WHEN, log=LOG) as stream:  # type: ignore[arg-type]
        (tmp_path / "base.tar.zst").write_bytes(b"1" * (9 * PART))
        for _ in range(plan(base_layout([], modified_at=WHEN)).concurrency):
            assert waiting.acquire(timeout=20)
    assert stream.sent is not None
    assert set(stream.sent.parts) == {str(number) for number in range(1, 10)}


def test_what_failed_is_not_sent_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(stream_module, "GrowingUpload", lambda *_: recorder)

    def fail() -> None:
        with PartStream(None, plan=plan, folder=tmp_path, modified_at=WHEN, log=LOG):  # type: ignore[arg-type]
            (tmp_path / "base.tar.zst").write_bytes(b"1" * (2 * PART))
            until(lambda: 2 in recorder.parts)
            raise RuntimeError("pg_basebackup failed")

    with pytest.raises(RuntimeError, match="pg_basebackup failed"):
        fail()
    assert set(recorder.parts) == {2}


def test_a_store_that_fails_ends_the_sending_and_not_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        def send(self, growing: UploadPlan, number: int) -> None:
            if number == 3:
                raise StoreUnreachableError("the store is away")
            super().send(growing, number)

    broken = Broken()
    monkeypatch.setattr(stream_module, "GrowingUpload", lambda *_: broken)
    with PartStream(None, plan=plan, folder=tmp_path, modified_at=WHEN, log=LOG) as stream:  # type: ignore[arg-type]
        (tmp_path / "base.tar.zst").write_bytes(b"1" * (5 * PART))
        until(lambda: "the store is away" in caplog.text)
        (tmp_path / "16400.tar.zst").write_bytes(b"late")
    assert stream.order == ["base.tar.zst", "16400.tar.zst"]
    assert stream.sent is not None
    assert "3" not in stream.sent.parts
