"""docs/DAGs.md tells what the DAG files say."""

from __future__ import annotations

from scripts.dag_docs import TARGET, dag_docs
from tests.dags.bag import read_dags


def test_the_page_is_up_to_date() -> None:
    dags = sorted(read_dags().dags.values(), key=lambda dag: str(dag.dag_id))
    assert TARGET.read_text() == dag_docs(dags), "run make docs"
