"""The demo shows every DAG there is."""

from __future__ import annotations

from include.local.demo import DAG_ID
from include.local.demo_all import OTHERS
from tests.dags.bag import read_dags


def test_the_demo_runs_every_dag_of_the_shipped_policy_once() -> None:
    shown = [DAG_ID, *(other.dag_id for other in OTHERS)]
    assert sorted(shown) == sorted(read_dags().dags)
