"""The policy file: what is read, what is refused, and with which words."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.backup_id import KINDS, SOURCE_NAME, TIERS
from include.backup.cron import cron_problem
from include.backup.errors import PolicyError, UnknownSourceError, UnknownTierError
from include.backup.policy import PROJECT, SCHEMA_FILE, SHIPPED_POLICY, Policy, load_policy, policy_path
from include.backup.policy.checks import RESERVED_PREFIXES
from include.backup.retention import STRATEGY_MINIMUM, Retention
from include.backup.retention.thinning import Thinning

SHIPPED = SHIPPED_POLICY.read_text()


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def changed(old: str, new: str) -> str:
    """Return the shipped policy with one place changed."""
    assert SHIPPED.count(old) >= 1, old
    return SHIPPED.replace(old, new, 1)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load_policy(write(folder, text), strict=True)
    return str(caught.value)


def line_with(text: str, needle: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if needle in line)


def test_the_shipped_policy_is_acceptable_and_has_what_is_built() -> None:
    policy = load_policy(SHIPPED_POLICY, strict=True)
    assert list(policy.sources) == ["pulse_messages"]
    source = policy.source("pulse_messages")
    assert {"daily", "pre_deployment", "hourly"} <= set(source.tiers)
    daily, guard = source.tier("daily"), source.tier("pre_deployment")
    assert daily.schedule is not None
    assert (daily.schedule.cron, daily.schedule.timezone) == ("0 2 * * *", "UTC")
    assert (str(daily.keep), daily.prefix, daily.prove) == ("7 days", "daily/", "in_chain")
    assert (guard.schedule, str(guard.keep), guard.prefix, guard.prove) == (
        None,
        "30 days",
        "pre_deployment/",
        "in_chain",
    )
    assert source.store.encryption.sse == "aws:kms"
    assert source.lock_timeout_seconds == 60
    assert source.slack is not None
    assert source.slack.connection == "pulse_slack"
    assert source.supabase is not None
    assert (source.supabase.project_ref, source.supabase.connection) == ("pulsemessagesdemoref", "pulse_supabase")
    assert source.supabase.daily_backup_grace == timedelta(hours=6)


@pytest.mark.parametrize(
    ("tier", "cron", "keep", "prefix", "storage_class"),
    [
        ("daily", "0 2 * * *", "7 days", "daily/", "STANDARD"),
        ("weekly", "0 1 * * 0", "4 weeks", "weekly/", "STANDARD"),
        ("monthly", "0 4 1 * *", "12 months", "monthly/", "GLACIER"),
        ("yearly", None, "7 years", "yearly/", "DEEP_ARCHIVE"),
        ("pre_deployment", None, "30 days", "pre_deployment/", "STANDARD"),
        ("hourly", "30 * * * *", "9 days", "tables/", "STANDARD"),
    ],
)
def test_the_shipped_tiers_are_those_of_the_strategy(
    tier: str, cron: str | None, keep: str, prefix: str, storage_class: str
) -> None:
    found = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").tier(tier)
    assert (found.schedule.cron if found.schedule else None, str(found.keep)) == (cron, keep)
    assert (found.prefix, found.storage_class) == (prefix, storage_class)
    assert found.thinning == (Thinning(after=timedelta(hours=48)) if tier == "hourly" else None)


def test_a_source_that_supabase_does_not_host_leaves_the_block_out(tmp_path: Path) -> None:
    text = "\n".join(
        line for line in SHIPPED.splitlines() if "supabase" not in line.lower() and "project_ref" not in line
    )
    text = "\n".join(line for line in text.splitlines() if "of copies says so" not in line)
    assert load_policy(write(tmp_path, text), strict=True).source("pulse_messages").supabase is None


def test_the_dump_may_take_its_budget_and_the_wait_for_the_lock() -> None:
    source = load_policy(SHIPPED_POLICY).source("pulse_messages")
    assert source.tier("daily").timeouts.dump == timedelta(minutes=240, seconds=1800)
    assert source.tier("daily").timeouts.preflight == timedelta(minutes=5)


def test_a_source_overrides_a_default_and_keeps_the_others(tmp_path: Path) -> None:
    text = changed("    store:\n      connection", "    jobs: 7\n    store:\n      concurrency: 9\n      connection")
    source = load_policy(write(tmp_path, text), strict=True).source("pulse_messages")
    assert (source.jobs, source.store.concurrency, source.store.part_size_mib) == (7, 9, 16)


def test_a_tier_of_the_defaults_counts_only_for_a_source_that_names_it(tmp_path: Path) -> None:
    text = changed("      pre_deployment:\n        keep: 30 days\n        prefix: pre_deployment/\n", "")
    tiers = load_policy(write(tmp_path, text), strict=True).source("pulse_messages").tiers
    assert "pre_deployment" not in tiers
    assert "daily" in tiers


@pytest.mark.parametrize(
    ("old", "new", "needle", "words"),
    [
        ("    connection: pulse_messages_db", "    unknown_key: x", "unknown_key", "unknown key 'unknown_key'"),
        ("        prefix: daily/", "        prefix: daily", "prefix: daily", "each followed by /"),
        ("keep: 7 days", "keep: 7 hours", "7 hours", "days, weeks, months or years"),
        ("keep: 7 days", "keep: 7", "keep: 7", "must be text"),
        ("keep: 7 days", "keep: 168h", "168h", "days, weeks, months or years"),
        ("keep: 7 days", "keep: 6 days", "6 days", "keeps daily backups 7 days"),
        ("keep: 30 days", "keep: 4 weeks", "4 weeks", "keeps pre_deployment backups 30 days"),
        ("keep: 30 days", "keep: 1 month", "1 month", "keeps pre_deployment backups 30 days"),
        ("  jobs: 2", "  jobs: 0", "jobs: 0", "1 to 64"),
        ("  jobs: 2", "  jobs: two", "jobs: two", "a whole number"),
        ("  jobs: 2", "  jobs: true", "jobs: true", "a whole number"),
        ("preflight: 5 minutes", "preflight: 5 days", "5 days", "seconds, minutes or hours"),
        ("preflight: 5 minutes", "preflight: 300", "300", "must be text"),
        ("lock_wait_seconds: 1800", "lock_wait_minutes: 30", "lock_wait_minutes", "lock_wait_seconds"),
        ("timezone: UTC", "timezone: Europe/Zurich", "Zurich", "allowed: UTC"),
        ('cron: "0 2 * * *"', 'cron: "0 25 * * *"', "schedule:", "the hour 25"),
        ('cron: "0 2 * * *"', 'cron: "@daily"', "schedule:", "5 fields"),
        ("storage_class: STANDARD", "storage_class: S3 Standard", "S3 Standard", "STANDARD_IA"),
        ("storage_class: STANDARD", "storage_class: GLACIER", "prove: in_chain", "allowed: prove: after, or another"),
        ("prove: in_chain # in STANDARD", "prove: after # in STANDARD", "prove: after #", "allowed: prove: in_chain"),
        (
            "      yearly:\n",
            '      yearly:\n        schedule: {cron: "0 1 1 1 *", timezone: UTC}\n',
            'cron: "0 1 1 1 *"',
            "allowed: schedule: null",
        ),
        ("      buckets:\n        - attachments\n", "      buckets: []\n", "buckets: []", "at least one"),
        ("        - attachments\n", "        - attachments\n        - attachments\n", "buckets:", "different bucket"),
        ("connection: pulse_messages_storage", "endpoint: x", "endpoint: x", "allowed: connection, buckets"),
        ("keep: 12 months", "keep: 11 months", "11 months", "keeps monthly backups 12 months"),
        ("keep: 7 years\n        prefix", "keep: 6 years\n        prefix", "6 years", "keeps yearly backups 7 years"),
        ("sse: aws:kms", "sse: kms", "sse: kms", "aws:kms, AES256, none"),
        ("        kms_key_id: alias/pulse-backups\n", "", "sse: aws:kms", "needs kms_key_id"),
        ("sse: aws:kms", "sse: none", "kms_key_id", "needs sse: aws:kms"),
        ("prefix: pre_deployment/", "prefix: daily/", "prefix: daily/", "overlaps daily/ of tier daily"),
        ("prefix: pre_deployment/", "prefix: daily/x/", "prefix: daily/x/", "overlaps daily/ of tier daily"),
        ("prefix: daily/", "prefix: proofs/", "prefix: proofs/", "another use"),
        ("kind: full", "kind: wal", "kind: wal", "allowed: full"),
        ("schedule: null", 'schedule: {cron: "0 1 * * *", timezone: UTC}', 'cron: "0 1', "schedule: null"),
        ("bucket: pulse-backups", "bucket: Pulse", "bucket: Pulse", "S3 bucket"),
        ("      daily:\n        schedule", "      fortnightly:\n        schedule", "fortnightly:", "daily, weekly"),
        ("proof_level: complete", "proof_level: full", "proof_level: full", "complete, data"),
        ("  pulse_messages:", "  Pulse-Messages:", "Pulse-Messages:", "a-z, 0-9"),
        ("pulsemessagesdemoref", "pulse-messages", "project_ref: pulse", "20 letters a-z"),
        ("      project_ref: pulsemessagesdemoref", "      ref: pulsemessagesdemoref", "ref:", "project_ref"),
        ("connection: pulse_supabase", "connection: pulse supabase", "pulse supabase", "an Airflow connection id"),
        (
            "connection: pulse_supabase",
            "connection: pulse_supabase\n      daily_backup_grace_hours: 24",
            "grace_hours: 24",
            "1 to 23 hours",
        ),
        ("format_version: 1", "format_version: 2", "format_version: 2", "allowed: 1"),
        ("format_version: 1", "format_version: 1\nowner: me", "owner: me", "unknown key 'owner'"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, needle: str, words: str
) -> None:
    text = changed(old, new)
    message = refusal(tmp_path, text)
    lines = [number for number, line in enumerate(text.splitlines(), 1) if needle in line]
    assert words in message
    assert any(f"policy.yaml:{number}: " in message for number in lines), message


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    text = changed("keep: 7 days", "keep: 1 day").replace("keep: 30 days", "keep: 2 days")
    message = refusal(tmp_path, text)
    assert f":{line_with(text, '1 day')}: " in message
    assert f":{line_with(text, '2 days')}: " in message


def test_a_missing_key_is_named_with_the_source(tmp_path: Path) -> None:
    message = refusal(tmp_path, changed("    connection: pulse_messages_db\n", ""))
    assert "sources.pulse_messages lacks 'connection'" in message


def test_a_shorter_retention_is_accepted_with_a_reason(tmp_path: Path) -> None:
    text = changed("keep: 7 days", 'keep: 3 days\n        below_strategy: "a copy of a copy, kept elsewhere"')
    tier = load_policy(write(tmp_path, text), strict=True).source("pulse_messages").tier("daily")
    assert (str(tier.keep), tier.below_strategy) == ("3 days", "a copy of a copy, kept elsewhere")


def test_a_reason_that_is_not_needed_is_refused(tmp_path: Path) -> None:
    text = changed("keep: 7 days", 'keep: 8 days\n        below_strategy: "nobody knows any more"')
    assert "remove below_strategy" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("format_version: 1\nsources: {}\n", "a mapping from a source's name"),
        ("format_version: 1\nsources: []\n", "must be a mapping"),
        ("format_version: [1\nsources: {}\n", "not valid YAML"),
        ("format_version: 1\nsources: &s {}\ndefaults: *s\n", "aliases"),
        ("format_version: 1\nformat_version: 1\nsources: {}\n", "is there twice, first in line 1"),
        ("format_version: 1\n1: 2\nsources: {}\n", "a key must be plain text"),
        ("\x01", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_as_a_whole(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PolicyError, match=re.escape(words)):
        load_policy(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.yaml cannot be read"):
        load_policy(tmp_path / "none.yaml")


def three_sources(middle: str) -> str:
    own = SHIPPED[SHIPPED.index("  pulse_messages:") :]
    good = [own.replace("  pulse_messages:", f"  {name}:", 1) for name in ("first", "third")]
    return SHIPPED[: SHIPPED.index("  pulse_messages:")] + good[0] + middle + good[1]


@pytest.mark.parametrize(
    ("middle", "words"),
    [
        ("  second:\n    unknown_key: x\n", "unknown key 'unknown_key'"),
        ("  second: 3\n", "must be a mapping"),
        ("  second:\n", "must be a mapping"),
        ("  second:\n    jobs: 1\n    jobs: 2\n", "is there twice"),
    ],
)
def test_a_bad_source_hides_no_other(tmp_path: Path, middle: str, words: str) -> None:
    text = three_sources(middle)
    policy = load_policy(write(tmp_path, text))
    assert list(policy.sources) == ["first", "third"]
    assert list(policy.rejected) == ["second"]
    with pytest.raises(UnknownSourceError, match=f"source second is left out of the policy.*{words}"):
        policy.source("second")
    with pytest.raises(PolicyError):
        load_policy(write(tmp_path, text), strict=True)


def test_a_source_that_is_there_twice_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    own = SHIPPED[SHIPPED.index("  pulse_messages:") :]
    text = three_sources("") + own.replace("  pulse_messages:", "  first:", 1)
    policy = load_policy(write(tmp_path, text))
    assert list(policy.sources) == ["third"]
    assert "is there twice" in str(policy.rejected["first"])


def test_sources_share_a_tiers_prefix_but_not_across_tiers(tmp_path: Path) -> None:
    own = SHIPPED[SHIPPED.index("  pulse_messages:") :]
    head = SHIPPED[: SHIPPED.index("  pulse_messages:")]
    assert list(load_policy(write(tmp_path, head + own + own.replace("pulse_messages:", "b:", 1))).sources) == [
        "pulse_messages",
        "b",
    ]
    nested = own.replace("pulse_messages:", "b:", 1).replace("prefix: daily/", "prefix: daily/b/")
    policy = load_policy(write(tmp_path, head + own + nested))
    assert list(policy.sources) == ["pulse_messages"]
    assert "overlaps daily/ of pulse_messages's tier daily in the same bucket" in str(policy.rejected["b"])
    elsewhere = nested.replace("bucket: pulse-backups", "bucket: other-bucket")
    assert len(load_policy(write(tmp_path, head + own + elsewhere)).sources) == 2


def test_an_unknown_source_or_tier_names_those_that_there_are() -> None:
    policy = load_policy(SHIPPED_POLICY)
    with pytest.raises(UnknownSourceError, match="has no source 'other'; it has pulse_messages"):
        policy.source("other")
    with pytest.raises(UnknownTierError, match="no tier 'fortnightly' for pulse_messages; it has daily, pre_depl"):
        policy.source("pulse_messages").tier("fortnightly")


def test_an_empty_policy_says_that_it_has_none() -> None:
    with pytest.raises(UnknownSourceError, match="it has none"):
        Policy(path=Path("p.yaml"), sources={}).source("x")


def test_the_policys_path_comes_from_the_environment() -> None:
    assert policy_path({}) == SHIPPED_POLICY
    assert policy_path({"BACKUP_POLICY": ""}) == SHIPPED_POLICY
    assert policy_path({"BACKUP_POLICY": "a/b.yaml"}) == PROJECT / "a" / "b.yaml"
    assert policy_path({"BACKUP_POLICY": "/etc/b.yaml"}) == Path("/etc/b.yaml")


def test_the_schema_knows_the_same_names_as_the_code() -> None:
    settings = json.loads(SCHEMA_FILE.read_text())["$defs"]["settings"]["properties"]
    assert tuple(settings["tiers"]["properties"]) == TIERS == tuple(STRATEGY_MINIMUM)
    (pattern,) = json.loads(SCHEMA_FILE.read_text())["properties"]["sources"]["patternProperties"]
    assert pattern == f"^{SOURCE_NAME.pattern}$"
    kinds = json.loads(SCHEMA_FILE.read_text())["$defs"]["tier"]["properties"]["kind"]["enum"]
    assert set(kinds) <= set(KINDS)


def test_every_object_of_the_schema_refuses_unknown_keys() -> None:
    def objects(node: object) -> list[dict[str, object]]:
        if isinstance(node, list):
            return [found for item in node for found in objects(item)]
        if not isinstance(node, dict):
            return []
        here = [node] if "properties" in node and node.get("type") is not None else []
        return here + [found for item in node.values() for found in objects(item)]

    found = objects(json.loads(SCHEMA_FILE.read_text()))
    assert len(found) > 8
    assert [item for item in found if item.get("additionalProperties") is not False] == []


def test_no_tier_can_lie_where_something_else_lies(tmp_path: Path) -> None:
    for reserved in RESERVED_PREFIXES:
        text = changed("prefix: daily/", f"prefix: {reserved}daily/")
        assert f"overlaps {reserved}" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("one", "other", "shorter"),
    [
        ("7 days", "7 days", False),
        ("6 days", "1 week", True),
        ("1 week", "7 days", False),
        ("1 year", "12 months", False),
        ("11 months", "1 year", True),
        ("365 days", "12 months", True),
        ("366 days", "12 months", False),
        ("1 month", "28 days", False),
        ("1 month", "29 days", True),
        ("2 months", "30 days", False),
        ("2557 days", "7 years", False),
        ("2556 days", "7 years", True),
    ],
)
def test_retentions_compare_by_the_calendar(one: str, other: str, shorter: bool) -> None:
    first, second = Retention.parse(one), Retention.parse(other)
    assert first is not None
    assert second is not None
    assert first.is_shorter_than(second) is shorter


@pytest.mark.parametrize("text", ["0 days", "7", "days", "7days", "7 hours", "-7 days", "7 days ", "1.5 years"])
def test_other_texts_are_no_retention(text: str) -> None:
    assert Retention.parse(text) is None


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/15 * * * *", "0 1 * * 0", "5,35 0-6/2 1 1,7 7"])
def test_these_crons_are_right(cron: str) -> None:
    assert cron_problem(cron) is None


@pytest.mark.parametrize(
    "cron",
    [
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "a * * * *",
    ],
)
def test_these_crons_are_wrong(cron: str) -> None:
    assert cron_problem(cron) is not None
