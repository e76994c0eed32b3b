"""The DAG files, read as the dag-processor reads them."""

from __future__ import annotations

from typing import Any

from tests.dags.conftest import ROOT


def read_dags() -> Any:
    """Return a new bag of all DAG files."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))
