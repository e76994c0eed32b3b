"""Servers shared by all tests of a session: one embedded stack, and one PostgreSQL 15 where Debian's is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.policy import SHIPPED_POLICY, SourcePolicy, load_policy
from include.local import ports
from include.local.stack import Stack
from tests.support.contexts import ContextMaker
from tests.support.source15 import source15_server
from tests.support.stack_image import StackImage

SAMPLE_MB = 12
AIRFLOW = "the shared Airflow"
AIRFLOW_FILES = "test_airflow_"
AIRFLOW_SECONDS = 1800
POSTGRES15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def state_dir() -> Iterator[Path]:
    """A folder for servers; short, since a unix socket's path may have 107 bytes at most."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stack_image(state_dir: Path) -> StackImage:
    """What ``stack`` is laid anew from."""
    return StackImage(state_dir, sample_mb=SAMPLE_MB)


@pytest.fixture(scope="module")
def stack(stack_image: StackImage) -> Iterator[Stack]:
    """PostgreSQL 17 with the sample database and S3 with KMS, both with TLS; no Airflow.

    Each file has its own: what one leaves in the store or the ledger is no other's matter.
    """
    yield stack_image.fresh()
    stack_image.clear()


@pytest.fixture(scope="session")
def policy_source() -> SourcePolicy:
    """The source that the shipped policy protects."""
    return load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")


@pytest.fixture
def make_context(stack: Stack, policy_source: SourcePolicy, tmp_path: Path) -> ContextMaker:
    """Return a maker of step contexts on the embedded stack, each with a run of its own."""
    return ContextMaker.of(stack, policy_source, tmp_path)


@pytest.fixture(scope="session")
def source15(state_dir: Path) -> Iterator[DatabaseConnection]:
    """The sample database on Debian's PostgreSQL 15, reached by its unix socket."""
    if not POSTGRES15.is_dir():
        pytest.skip("postgresql-15 is not installed: apt-get install postgresql-15")
    with source15_server(state_dir / "pg15", sample_mb=SAMPLE_MB) as connection:
        yield connection


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of the shared Airflow, which take longest; a test's time has what its fixtures wait for."""
    for item in items:
        if scope_of(item.nodeid) == AIRFLOW and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(AIRFLOW_SECONDS))
    items.sort(key=lambda item: scope_of(item.nodeid) != AIRFLOW)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a file's tests on one worker, and all tests of the shared Airflow on one, so that it is started once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ByFile(config, log)


def scope_of(nodeid: str) -> str:
    """Return what goes to one worker as a whole: a file, or all files of the shared Airflow."""
    file = nodeid.partition("::")[0]
    return AIRFLOW if file.rpartition("/")[2].startswith(AIRFLOW_FILES) else file


def pytest_configure(config: pytest.Config) -> None:
    """Keep the developer's own Airflow, AWS and PostgreSQL settings out of the tests."""
    for name in list(os.environ):
        if name.startswith(("AIRFLOW", "AWS_", "PG", "PULSE_", "BACKUP_")):
            del os.environ[name]
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER"), os.environ.get("PYTEST_XDIST_WORKER_COUNT")
    if worker and workers:
        # Ports of their own for each worker: what is free now another one may be about to take.
        ports.FREE_RANGE = ports.FREE_RANGE[int(worker.removeprefix("gw")) :: int(workers)]
