"""The policy's pools, queues and priorities, and what is done to Airflow's pools because of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from include import sync_pools
from include.backup.policy import SHIPPED_POLICY, SourcePolicy, load_policy
from include.backup.policy.scheduling import DEFAULT_POOLS, SchedulingPolicy, Work, work_of
from include.backup.settings import SHIPPED_SETTINGS, load_settings
from include.local import airflow_command

ROOT = Path(__file__).resolve().parents[2]
OWN = "    scheduling: {queue: eu, restore_queue: eu_restores, pools: {source: pg_eu}, priorities: {backup: 70}}\n"


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    text = SHIPPED_POLICY.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def source_of(path: Path) -> SourcePolicy:
    return load_policy(path, strict=True).source("pulse_messages")


def test_the_shipped_policy_and_one_without_the_blocks_mean_the_same(tmp_path: Path) -> None:
    text = SHIPPED_POLICY.read_text()
    start, end = text.index("pools: #"), text.index("  lock_wait_seconds")
    (tmp_path / "policy.yaml").write_text(text[:start] + "defaults:\n" + text[end:])
    for path in (SHIPPED_POLICY, tmp_path / "policy.yaml"):
        policy = load_policy(path, strict=True)
        assert policy.pools == DEFAULT_POOLS
        assert policy.source("pulse_messages").scheduling == SchedulingPolicy()


def test_the_settings_for_the_astro_cli_have_the_policys_pools() -> None:
    settings = load_settings(SHIPPED_SETTINGS, {}, only=())
    assert {pool.name: pool.slots for pool in settings.pools} == dict(load_policy(SHIPPED_POLICY).pools)


def test_a_source_overrides_what_it_names_and_inherits_the_rest(tmp_path: Path) -> None:
    path = written(
        tmp_path, ("  pg_source: 1", "  pg_eu: 1\n  pg_source: 1"), ("  pulse_messages:\n", "  pulse_messages:\n" + OWN)
    )
    found = source_of(path).scheduling
    assert (found.source_pool, found.scratch_pool, found.pool(Work.RESTORE)) == ("pg_eu", "scratch", "restores")
    assert (found.queue_of(Work.BACKUP), found.queue_of(Work.RESTORE)) == ("eu", "eu_restores")
    assert (found.priorities[Work.BACKUP], found.priorities[Work.RESTORE]) == (70, 100)


def test_restores_take_the_sources_queue_unless_they_have_their_own() -> None:
    assert SchedulingPolicy(queue="eu").queue_of(Work.RESTORE) == "eu"
    assert SchedulingPolicy(restore_queue="r").queue_of(Work.BACKUP) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("source: pg_source", "source: pg_sourec", "the pool pg_sourec is not among the policy's pools"),
        ("      restore: 100", "      restore: 0", "1 to 1000"),
        ("  scratch: 1", "  scratch: 0", "1 or more slots"),
        ("      restore: restores", "      restores: restores", "restores"),
    ],
)
def test_what_would_leave_tasks_waiting_for_ever_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        load_policy(written(tmp_path, (old, new)), strict=True)


def test_every_restore_goes_before_every_backup() -> None:
    names = {path.stem for path in (ROOT / "dags").glob("*.py")}
    restores = {name for name in names if name.startswith("restore_")}
    assert {name for name in names if work_of(name) is Work.RESTORE} == restores | {"backup_hold"}
    assert {work_of(name) for name in names} == set(Work)
    weights = SchedulingPolicy().priorities
    assert max(weights, key=lambda work: weights[work]) is Work.RESTORE


@pytest.fixture
def airflow_pools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Airflow's pools, behind a command line that exports and imports them as Airflow's does."""
    pools: dict[str, Any] = {
        "default_pool": {"slots": 128, "description": "Default pool", "include_deferred": False},
        "scratch": {"slots": 9, "description": "mine", "include_deferred": True},
        "of somebody else": {"slots": 3, "description": "", "include_deferred": False},
    }

    def airflow(*words: str) -> None:
        file = Path(words[-1])
        if words[:2] == ("pools", "export"):
            file.write_text(json.dumps(pools))
        else:
            assert words[:2] == ("pools", "import")
            pools.update(json.loads(file.read_text()))

    monkeypatch.setattr(airflow_command, "airflow", airflow)
    return pools


def test_pools_are_made_and_corrected_once_and_those_of_others_stay(airflow_pools: dict[str, Any]) -> None:
    wanted = {"scratch": 1, "restores": 2}
    assert sync_pools.sync_pools(wanted) == ["scratch 1 slots instead of 9", "restores 2 slots"]
    assert airflow_pools["scratch"] == {"slots": 1, "description": "mine", "include_deferred": True}
    assert airflow_pools["restores"]["slots"] == 2
    assert airflow_pools["of somebody else"]["slots"] == 3
    assert sync_pools.sync_pools(wanted) == []


def test_the_command_makes_those_of_the_policy_that_the_environment_names(
    airflow_pools: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACKUP_POLICY", str(written(tmp_path, ("  pg_source: 1", "  pg_source: 3"))))
    assert sync_pools.main() == 0
    assert "pg_source 3 slots" in capsys.readouterr().out
    assert airflow_pools["pg_source"]["slots"] == 3
    (tmp_path / "policy.yaml").write_text("format_version: 9\n")
    assert sync_pools.main() != 0
    assert "format_version" in capsys.readouterr().err


def test_without_a_shared_folder_what_hands_files_on_is_refused(tmp_path: Path) -> None:
    shared = "  staging: shared"
    assert source_of(SHIPPED_POLICY).shares_staging
    with pytest.raises(Exception, match=r"staging: none does not go with base_backup.*its own queue"):
        load_policy(written(tmp_path, (shared, "  staging: none")), strict=True)
    text = (tmp_path / "policy.yaml").read_text()
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith("    base_backup:"))
    end = next(number for number, line in enumerate(lines) if number > start and line.startswith("    tiers:"))
    del lines[start:end]
    (tmp_path / "policy.yaml").write_text("".join(line for line in lines if "incremental: {}" not in line))
    assert source_of(tmp_path / "policy.yaml").shares_staging is False


def test_one_source_read_alone_is_what_it_is_among_all(tmp_path: Path) -> None:
    data = yaml.safe_load(SHIPPED_POLICY.read_text())
    own = json.dumps(data["sources"]["pulse_messages"])
    sources = {name: json.loads(own) for name in ("good", "bad", "shadows", "shadowed", "freed", "odd")}
    sources["bad"]["tiers"]["daily"]["keep"] = "7 hours"
    # Overlaps what is accepted before it; what overlaps only a source that is left out is not touched by that.
    sources["shadows"]["tiers"]["weekly"]["prefix"] = "daily/of_it/"
    sources["bad"]["tiers"]["weekly"]["prefix"] = "other/"
    sources["freed"]["tiers"]["monthly"]["prefix"] = "other/of_it/"
    sources["shadowed"]["tiers"]["monthly"]["prefix"] = "weekly/of_it/"
    sources["odd"] = "no mapping"
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump({**data, "sources": sources}, sort_keys=False))
    together = load_policy(path)
    assert set(together.sources) == {"good", "freed"}
    for name in sources:
        alone = load_policy(path, only=name)
        assert set(alone.sources) | set(alone.rejected) == {name}
        assert alone.sources.get(name) == together.sources.get(name)
        assert str(alone.rejected.get(name)) == str(together.rejected.get(name))
    assert load_policy(path, only="nobody").sources == together.sources
