"""What the benchmark makes of its seconds."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.figures import Figures, Series, Target, median_of_ratios, medians
from tests.benchmarks.ours import Chain, Restored
from tests.benchmarks.rounds import targets

MIB = 1 << 20


def make_chain(**overrides: object) -> Chain:
    """Return a backup as measured."""
    values: dict[str, object] = {
        "backup_id": "x",
        "seconds": 6.0,
        "process_seconds": 7.0,
        "steps": {"dump": 4.0},
        "compressed_bytes": 100 * MIB,
        "uncompressed_bytes": 400 * MIB,
        "memory": 100 * MIB,
        "staging": 105 * MIB,
    }
    return Chain(**{**values, **overrides})  # type: ignore[arg-type]


def verdicts(seconds: dict[str, list[float]], chain: Chain) -> dict[str, str]:
    """Return the verdict on each target."""
    found = targets(seconds, [chain], [Restored(seconds=1.0, parts={}, memory=90 * MIB)])
    return {target.name: target.verdict for target in found}


GOOD = {"a": [4.0], "b": [40.0], "d": [6.0], "e": [10.0], "g": [7.9]}


def test_a_round_in_which_all_was_slow_changes_no_ratio() -> None:
    assert median_of_ratios([6.0, 18.0, 6.3], [4.0, 12.0, 4.2]) == pytest.approx(1.5)


def test_all_targets_are_met_by_good_figures() -> None:
    assert set(verdicts(GOOD, make_chain()).values()) == {"PASS"}


@pytest.mark.parametrize(
    ("name", "seconds", "chain"),
    [
        ("backup (d) : bound (a)", {"d": [6.5]}, make_chain()),
        ("backup (d) : strategy (b)", {"b": [29.0]}, make_chain()),
        ("restore (g) : gunzip | psql (e)", {"g": [8.1]}, make_chain()),
        ("memory of a backup", {}, make_chain(memory=257 * MIB)),
        ("staging : compressed size", {}, make_chain(staging=111 * MIB)),
    ],
)
def test_a_missed_target_is_named(name: str, seconds: dict[str, list[float]], chain: Chain) -> None:
    found = verdicts({**GOOD, **seconds}, chain)
    assert [target for target, verdict in found.items() if verdict == "FAIL"] == [name]


def test_a_value_at_its_limit_passes() -> None:
    assert Target(name="x", value=1.6, limit=1.6).passed


def test_figures_are_plain_json_and_fail_with_one_missed_target() -> None:
    figures = Figures(
        machine={"processors": 2},
        series=(Series(key="a", label="bound", seconds=(4.0, 5.0, 4.5)),),
        parts={"backup steps": medians([{"dump": 4.0}, {"dump": 6.0}])},
        targets=(Target(name="met", value=1.0, limit=1.6), Target(name="missed", value=2.0, limit=1.6)),
    )
    document = json.loads(json.dumps(figures.to_dict()))
    assert document["series"][0]["median"] == 4.5
    assert document["parts"] == {"backup steps": {"dump": 5.0}}
    assert not document["passed"]
