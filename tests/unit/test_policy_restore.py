"""The policy's restore block: what is read, what is refused, and with which words."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.errors import PolicyError
from include.backup.policy import SHIPPED_POLICY, load_policy

SHIPPED = SHIPPED_POLICY.read_text()


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_the_shipped_block_asks_two_people_and_writes_nowhere_else() -> None:
    restore = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").restore
    assert restore is not None
    assert restore.source_connection == "pulse_messages_restore"
    assert restore.connections == ("pulse_messages_restore",)
    assert (restore.approval.two_people, restore.approval.response_timeout) == (True, timedelta(hours=24))
    assert {name: server.production for name, server in restore.servers.items()} == {"beside": False}
    assert (restore.keep_old_days, restore.thaw.tier, restore.thaw.days) == (7, "Standard", 3)


def test_the_defaults_alone_allow_no_restore(tmp_path: Path) -> None:
    begin, _, rest = SHIPPED.partition("    restore: # where restores may write")
    end = rest[rest.index("    tiers:") :]
    source = load_policy(write(tmp_path, begin + end), strict=True).source("pulse_messages")
    assert source.restore is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("tier: Standard", "tier: Fast", "Expedited, Standard, Bulk"),
        (" days: 3", " days: 0", "1 to 30 days that a thawed copy can be read"),
        ("keep_old_days: 7", "keep_old_days: 0", "1 to 90 days that a database which was replaced"),
        ("two_people: true", "two_people: 2", "who asked for a restore cannot approve it"),
        ("response_timeout: 24 hours", "response_timeout: 1 day", "a number and seconds, minutes or hours"),
        ("production: false", "production: maybe", "needs a person's approval"),
        ("production: false", "prod: true", "prod"),
        ("source_connection: pulse_messages_restore", "source_connection: a-b", "an Airflow connection id"),
        ("source_connection: pulse_messages_restore # ", "# ", "source_connection"),
        ("        beside:", "        Be-Side:", "Be-Side"),
    ],
)
def test_what_is_not_acceptable_is_named_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert SHIPPED.count(old) == 1, old
    text = SHIPPED.replace(old, new)
    with pytest.raises(PolicyError) as caught:
        load_policy(write(tmp_path, text), strict=True)
    assert words in str(caught.value)
    assert "policy.yaml:" in str(caught.value)
