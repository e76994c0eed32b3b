"""What runs the checks elsewhere: the workflow and dependabot, as far as files can say it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def read(path: str) -> dict[str, Any]:
    # YAML 1.1 takes "on" for a boolean.
    found: dict[Any, Any] = yaml.safe_load((ROOT / path).read_text())
    return {"on" if key is True else key: value for key, value in found.items()}


def test_every_change_runs_what_ci_run_does_and_the_night_what_takes_long() -> None:
    workflow = read(".github/workflows/ci.yml")
    assert {"push", "pull_request", "schedule"} <= workflow["on"].keys()
    runs = {name: [step.get("run", "") for step in job["steps"]] for name, job in workflow["jobs"].items()}
    assert ".ci/run" in runs["test"]
    assert ".ci/run test-full" in runs["test-full"]
    assert workflow["jobs"]["test-full"]["if"] == "github.event_name == 'schedule'"
    assert workflow["permissions"] == {"contents": "read"}
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"test", "test-full"} <= set(targets)
    assert (ROOT / ".ci/run").read_text().rstrip().endswith('make "${1:-test}"')


def test_everything_that_has_versions_is_watched_for_new_ones() -> None:
    watched = {update["package-ecosystem"] for update in read(".github/dependabot.yml")["updates"]}
    assert watched == {"pip", "github-actions", "docker", "docker-compose"}
    for path in ("requirements.txt", ".github/workflows/ci.yml", "Dockerfile", "docker-compose.yaml"):
        assert (ROOT / path).is_file()
