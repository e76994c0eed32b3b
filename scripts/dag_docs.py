"""Write docs/DAGs.md from the DAG files; with --check, only say whether it is up to date."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "DAGs.md"
HEADER = """\
# DAGs

Made from the DAG files by `make docs`; do not edit. Each source of the policy has these DAGs under its own name; here
are those of the shipped policy.

| DAG | schedule (UTC) | tags | what |
|---|---|---|---|
"""


def dag_docs(dags: list[Any]) -> str:
    """Return the page: a table of the DAGs, then each one's runbook, parameters and tasks."""
    rows = [
        f"| [`{dag.dag_id}`](#{_anchor(dag.dag_id)}) | {_schedule(dag)} | {', '.join(sorted(dag.tags))} "
        f"| {dag.description} |\n"
        for dag in dags
    ]
    return HEADER + "".join(rows) + "".join(_section(dag) for dag in dags)


def _section(dag: Any) -> str:
    runbook = dag.doc_md.strip().split("\n", 1)
    parts = [f"\n## {dag.dag_id}\n\n{runbook[0].lstrip('# ')}\n{runbook[1] if len(runbook) > 1 else ''}\n"]
    if dag.params:
        parts.append("\n| parameter | default | allowed | what |\n|---|---|---|---|\n")
        parts.extend(_parameter(name, dag.params.get_param(name)) for name in dag.params)
    parts.append("\n| task | operator | tries | at most | then |\n|---|---|---|---|---|\n")
    parts.extend(_task(task) for task in dag.topological_sort())
    return "".join(parts)


def _parameter(name: str, param: Any) -> str:
    schema = param.schema
    default = f"`{param.value}`" if param.has_value else "must be given"
    allowed = str(schema.get("pattern", schema.get("type", ""))).replace("|", "\\|")
    return f"| `{name}` | {default} | `{allowed}` | {schema.get('description_md') or param.description or ''} |\n"


def _task(task: Any) -> str:
    then = ", ".join(f"`{name}`" for name in sorted(task.downstream_task_ids)) or "end"
    kind = "setup, " if task.is_setup else "teardown, " if task.is_teardown else ""
    return f"| `{task.task_id}` | {kind}{task.task_type} | {task.retries + 1} | {task.execution_timeout} | {then} |\n"


def _schedule(dag: Any) -> str:
    if dag.schedule is None:
        return "triggered"
    # A DAG that assets wake too has the timetable of its clock inside.
    clock = getattr(dag.timetable, "timetable", None)
    return f"`{dag.timetable.expression}`" if clock is None else f"`{clock.expression}`, and with each new backup"


def _anchor(dag_id: str) -> str:
    return dag_id.replace(".", "").lower()


def read_dags() -> list[Any]:
    """Return the DAGs of the shipped policy; raises RuntimeError when a file does not import."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    if bag.import_errors:
        raise RuntimeError(f"DAG files do not import: {bag.import_errors}")
    return sorted(bag.dags.values(), key=lambda dag: str(dag.dag_id))


def main() -> int:
    """Write or check the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 when docs/DAGs.md is not up to date")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__UNIT_TEST_MODE="True",
            AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
            AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        )
        os.environ.pop("BACKUP_POLICY", None)
        sys.path[:0] = [str(ROOT), str(ROOT / "plugins")]
        text = dag_docs(read_dags())
    if options.check:
        fresh = TARGET.exists() and TARGET.read_text() == text
        sys.stderr.write("" if fresh else "docs/DAGs.md is not up to date: run make docs\n")
        return 0 if fresh else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
