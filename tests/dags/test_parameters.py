"""Parameters of a pre-deployment backup: refused by the API before a run starts, and by the core."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.bag import read_dag

RELEASES = [("2025.3.1", True), ("v1+build-2_x", True), ("a" * 64, True)] + [
    (bad, False)
    for bad in ("", "-x", "a b", "a;b", "$(id)", "a'b", "a/b", "a\n", "é", "a" * 65, "'; DROP TABLE users; --")
]
SHAS = [("0123abc", True), ("f" * 40, True)] + [
    (bad, False) for bad in ("", "0123ab", "f" * 41, "0123ABC", "HEAD", "0123abc\n", "main; rm -rf /")
]


@pytest.fixture(scope="module")
def form() -> Any:
    """The parameters as the API server has them: read back from the serialized DAG."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag = read_dag("pulse_messages.pre_deployment_backup")
    return DagSerialization.from_dict(DagSerialization.to_dict(dag)).params


def accepted(form: Any, **conf: object) -> bool:
    from airflow.sdk.exceptions import ParamValidationError

    try:
        form.deep_merge(conf).validate()
    except ParamValidationError:
        return False
    return True


@pytest.mark.parametrize(("release", "good"), RELEASES)
def test_a_release_is_checked_before_a_run_starts(form: Any, release: str, good: bool) -> None:
    assert accepted(form, release=release, git_sha="0123abc") is good


@pytest.mark.parametrize(("sha", "good"), SHAS)
def test_a_commit_is_checked_before_a_run_starts(form: Any, sha: str, good: bool) -> None:
    assert accepted(form, release="1.0", git_sha=sha) is good


def test_release_and_commit_are_required_and_waiting_is_a_choice(form: Any) -> None:
    assert not accepted(form)
    assert not accepted(form, release="1.0")
    assert not accepted(form, release="1.0", git_sha="0123abc", wait_for_proof="yes")
    assert accepted(form, release="1.0", git_sha="0123abc", wait_for_proof=True)


def test_the_core_refuses_the_same_releases() -> None:
    from include.backup.errors import ParameterError
    from include.backup.steps.context import Release

    def core(name: str, sha: str) -> bool:
        try:
            Release(name=name, git_sha=sha).check()
        except ParameterError:
            return False
        return True

    assert [core(name, "0123abc") for name, _ in RELEASES] == [good for _, good in RELEASES]
    assert [core("1.0", sha) for sha, _ in SHAS] == [good for _, good in SHAS]
