"""The stack with Airflow that the tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow_stack import NOWHERE_SLACK, AirflowStack, running_stack
from tests.support.small_sources import SmallSource

BROKEN = "broken"
# Rows that do not compress, so that the archive has three parts.
RANDOM_ROWS = """
CREATE TABLE public.blobs AS SELECT n AS id,
  (SELECT string_agg(uuid_send(gen_random_uuid()), '') FROM generate_series(1, 4096) m WHERE m + n > 0) AS data
  FROM generate_series(1, 190) n
"""
# One row whose constraint takes its time to check, also when it is restored.
SLOW_ROW = """
CREATE FUNCTION public.slow(id int) RETURNS boolean LANGUAGE sql AS 'SELECT id <> 1 OR pg_sleep(8)::text = ''''';
CREATE TABLE public.slow_to_load (id int CHECK (public.slow(id)));
INSERT INTO public.slow_to_load VALUES (2), (1)
"""
LEFT_OUT = "CREATE TABLE public.left_out (id int); INSERT INTO public.left_out VALUES (1)"
# Two critical tables, and one that they refer to.
REFERRED = """
CREATE TABLE public.regions (id int PRIMARY KEY);
INSERT INTO public.regions VALUES (1);
ALTER TABLE public.customers ADD region int DEFAULT 1 REFERENCES public.regions
"""
# Without a key rows cannot be matched.
ORDERS_KEY = "ALTER TABLE public.orders ADD PRIMARY KEY (id)"
SOURCES = (
    SmallSource(name="shop"),
    SmallSource(name="tiers", weekly=True, excluded_tables=("public.left_out",), extra_sql=LEFT_OUT),
    SmallSource(name="orders"),
    SmallSource(
        name="history",
        retries=1,  # of a worker that a busy machine has lost; what is wrong with a remote is not tried again
        critical_tables=("public.customers", "public.orders"),
        schema_in_git=True,
        extra_sql=REFERRED,
    ),
    SmallSource(name="cleared"),
    SmallSource(name="woken"),
    SmallSource(name="unshared", prove="in_chain", staging="none"),
    SmallSource(name="restore_yes"),
    SmallSource(name="restore_no"),
    SmallSource(name="restore_back"),
    SmallSource(name="restore_own"),
    SmallSource(name="restore_marked"),
    SmallSource(name="restore_late", response_timeout="5 seconds"),
    SmallSource(name="tables_yes", extra_sql=ORDERS_KEY),
    SmallSource(name="tables_marked", extra_sql=ORDERS_KEY),
    SmallSource(name="restore_cold"),
    SmallSource(name="unheard", slack=NOWHERE_SLACK),
    SmallSource(name="fail_preflight", bucket="no-such-bucket", retries=2),
    SmallSource(name="fail_dump", lock_timeout_seconds=1),
    SmallSource(name="fail_compress"),
    SmallSource(name="fail_upload"),
    SmallSource(name="fail_verify"),
    SmallSource(name="fail_prepare_scratch", prove="in_chain"),
    SmallSource(name="fail_restore_test", prove="in_chain"),
    SmallSource(name="fail_close_staging"),
    SmallSource(name="kill_dump", retries=1),
    SmallSource(name="kill_compress", retries=1),
    SmallSource(name="kill_upload", retries=1, part_size_mib=5, extra_sql=RANDOM_ROWS),
    SmallSource(name="kill_restore_test", retries=1, prove="in_chain", extra_sql=SLOW_ROW),
    SmallSource(name="kill_task", retries=1),
    SmallSource(name="mark_dump", retries=1),
    SmallSource(name="late_run", deadline="2 seconds"),
    SmallSource(name="outage_long", retries=1),
    # A retry that comes a second later finds the API server still away.
    SmallSource(name="outage_short", retries=5),
)


@pytest.fixture(scope="session")
def airflow_stack(state_dir: Path) -> Iterator[AirflowStack]:
    """Airflow with the shipped source, many small ones, and one that the policy's checks refuse."""
    with running_stack(state_dir / "air", SOURCES, broken=BROKEN) as running:
        yield running
