"""Critical tables, thinning and the schema's history in the policy: what is read, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.backup.policy import SHIPPED_POLICY, Schedule, SchemaBackupPolicy, load_policy
from tests.unit.test_policy import changed, line_with, refusal, write

TABLES = "      - public.users\n"


def test_the_shipped_policy_backs_up_the_tables_that_the_strategy_calls_critical() -> None:
    source = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
    assert source.critical_tables == ("public.users", "public.messages", "public.conversations", "public.workspaces")
    hourly = source.tier("hourly")
    assert (hourly.kind, hourly.prefix, hourly.prove) == ("tables", "tables/", "in_chain")
    assert hourly.thinning is not None
    # every hour for 48 hours, then one a day for 7 days
    assert (hourly.thinning.after, str(hourly.keep)) == (timedelta(hours=48), "9 days")
    assert source.tier("daily").thinning is None


def test_the_shipped_policy_keeps_the_schema_in_git() -> None:
    block = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages").schema_backup
    assert block == SchemaBackupPolicy(
        connection="pulse_schema_git",
        branch="main",
        folder="pulse_messages",
        author_name="Schema backup",
        author_email="schema-backup@pulse-messages.invalid",
        schedule=Schedule(cron="30 3 * * *", timezone="UTC"),
        timeout_minutes=30,
    )


def test_the_defaults_of_a_block_count_only_for_a_source_that_has_it(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    start = text.index("    schema_backup:\n      connection")
    end = text.index("    restore: # where")
    source = load_policy(write(tmp_path, text[:start] + text[end:]), strict=True).source("pulse_messages")
    assert source.schema_backup is None


@pytest.mark.parametrize(
    ("old", "new", "needle", "words"),
    [
        (TABLES, "      - users\n", "- users", "schema.table"),
        (TABLES, "      - public.users\n      - public.users\n", "critical_tables", "different schema.table names"),
        (TABLES, "      - 7\n", "- 7", "must be text"),
        ("prefix: tables/", "prefix: hourly/tables", "hourly/tables", "each followed by /"),
        ("prefix: tables/", "prefix: evidence/", "prefix: evidence/", "another use"),
        ("prefix: daily/", "prefix: tables/", "prefix: tables/", "overlaps tables/, which has another use"),
        ("kind: tables", "kind: full", "kind: full", "allowed in the tier hourly: tables"),
        ("after: 48 hours", "after: 2 days", "2 days", "seconds, minutes or hours"),
        ("after: 48 hours", "after: 300 hours", "thin:", "kept 9 days only"),
        ("keep: 9 days", "keep: 6 days", "6 days", "keeps hourly backups 7 days"),
        ("branch: main", "branch: -main", "-main", "a branch of letters"),
        ("branch: main", "branch: a..b", "a..b", "a branch of letters"),
        ("branch: main", "branch: main\n    folder: ../x", "../x", "a folder in the repository"),
        ("branch: main", "branch: main\n    folder: .git", ".git", "a folder in the repository"),
        ("author_name: Schema backup", "author_name: a <b>", "a <b>", "without < and >"),
        ("schema-backup@pulse-messages.invalid", "a b@c", "a b@c", "without spaces"),
        ("timeout_minutes: 30", "timeout_minutes: 0", "timeout_minutes: 0", "1 to 720"),
        ('cron: "30 3 * * *"', 'cron: "30 25 * * *"', "schedule:", "the hour 25"),
        ("withheld: []", "withheld: [x, x]", "withheld", "different object names"),
        ("connection: pulse_schema_git", "remote: x", "remote: x", "unknown key 'remote'"),
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


def test_the_hourly_tier_needs_tables(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    start, end = text.index("    critical_tables:"), text.index("    schema_backup:\n      connection")
    text = text[:start] + text[end:]
    message = refusal(tmp_path, text)
    assert "needs critical_tables" in message


@pytest.mark.parametrize("excluded", ["excluded_tables: [public.users]", "excluded_schemas: [public]"])
def test_a_critical_table_cannot_be_excluded(tmp_path: Path, excluded: str) -> None:
    text = changed("    critical_tables:", f"    {excluded}\n    critical_tables:")
    message = refusal(tmp_path, text)
    assert "public.users is excluded from every backup" in message
    assert f":{line_with(text, '- public.users')}: " in message


def test_no_other_tier_may_lie_below_tables(tmp_path: Path) -> None:
    assert "overlaps tables/" in refusal(tmp_path, changed("prefix: pre_deployment/", "prefix: tables/x/"))
