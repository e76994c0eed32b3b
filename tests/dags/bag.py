"""The DAG files, read as the dag-processor reads them."""

from __future__ import annotations

import copy
from typing import Any

from tests.dags.conftest import ROOT


def read_dags() -> Any:
    """Return a new bag of all DAG files."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(ROOT / "dags"))


def read_dag(dag_id: str) -> Any:
    """Return one of them; none may have an error."""
    bag = read_dags()
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def with_values(dag: Any, conf: dict[str, Any]) -> Any:
    """Return a DAG's form with other values in it; raises ParamValidationError for what it does not take."""
    params = copy.deepcopy(dag.params)
    params.update(conf)
    params.validate()
    return params
