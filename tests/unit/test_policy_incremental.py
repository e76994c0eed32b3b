"""The policy's incremental block: what is read, what is refused, and with which words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.errors import PolicyError
from include.backup.policy import SHIPPED_POLICY, load_policy

SHIPPED = SHIPPED_POLICY.read_text()
BLOCK = "    incremental: {}"


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def with_block(block: str) -> str:
    assert BLOCK in SHIPPED
    return SHIPPED.replace(BLOCK, f"    incremental: {block}")


def test_the_shipped_block_stores_wal_every_quarter_of_an_hour_through_slots_with_the_sources_name() -> None:
    found = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").incremental
    assert found is not None
    assert (found.cron, found.hold_slot, found.run_slot) == (
        "*/15 * * * *",
        "pulse_messages_hold",
        "pulse_messages_run",
    )
    assert (found.max_slot_bytes, found.batch_bytes) == (4 << 30, 4 << 30)
    assert found.timeouts.receive < timedelta(minutes=15)


def test_the_defaults_alone_stream_no_wal(tmp_path: Path) -> None:
    text = "\n".join(line for line in SHIPPED.splitlines() if not line.startswith(BLOCK))
    assert load_policy(write(tmp_path, text), strict=True).source("pulse_messages").incremental is None


def test_slots_can_have_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, with_block("{slots: {hold: keep_wal, run: stream_wal}}"))
    found = load_policy(path, strict=True).source("pulse_messages").incremental
    assert found is not None
    assert (found.hold_slot, found.run_slot) == ("keep_wal", "stream_wal")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("{schedule: {cron: '*/15 * * *', timezone: UTC}}", "a cron expression has 5 fields"),
        ("{schedule: {cron: '*/15 * * * *', timezone: Europe/Berlin}}", "timezone"),
        ("{slots: {hold: same, run: same}}", "hold and run are both 'same'"),
        ("{slots: {hold: keep_wal}}", "run"),
        ("{slots: {hold: Keep-WAL, run: stream_wal}}", "a replication slot's name of a-z, 0-9 and _"),
        ("{max_slot_mib: 1}", "64 to 16777216 MiB of WAL that the source may keep"),
        ("{batch_mib: 0}", "16 to 1048576 MiB of WAL that one pass receives"),
        ("{storage_class: DEEP_ARCHIVE}", "allowed: STANDARD, STANDARD_IA"),
        ("{timeouts: {receive: 600}}", "seconds, minutes or hours"),
        ("{keep: 7 days}", "keep"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_what_is_allowed(tmp_path: Path, block: str, words: str) -> None:
    text = with_block(block)
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.startswith("    incremental: "))
    with pytest.raises(PolicyError) as refused:
        load_policy(write(tmp_path, text), strict=True)
    assert f"policy.yaml:{line}: " in str(refused.value)
    assert words in str(refused.value)
