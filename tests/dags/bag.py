"""The DAG files, read as the dag-processor reads them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from tests.dags.conftest import ROOT


def file_of(dag_id: str) -> Path:
    """Return the file that makes a DAG."""
    return ROOT / "dags" / f"{dag_id.rpartition('.')[2]}.py"


def read_dags(path: Path = ROOT / "dags") -> Any:
    """Return a new bag of all DAG files, or of one."""
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(str(path))


def read_dag(dag_id: str) -> Any:
    """Return one of them; none may have an error."""
    bag = read_dags(file_of(dag_id))
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def with_values(dag: Any, conf: dict[str, Any]) -> Any:
    """Return a DAG's form with other values in it; raises ParamValidationError for what it does not take."""
    params = copy.deepcopy(dag.params)
    params.update(conf)
    params.validate()
    return params
