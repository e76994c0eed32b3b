"""What a restore computes anew is said of a proof, and only where the archive has it."""

from __future__ import annotations

import pytest

from include.backup.postgres.toc import TocEntry
from include.backup.proof.recomputed import RECOMPUTED_COLUMNS, RECOMPUTED_VIEWS, recomputed
from tests.support.builders import make_entry, make_toc

STORED = "CREATE TABLE t (\n    a integer,\n    b integer GENERATED ALWAYS AS ((a\n * 2)) STORED\n);\n"
VIRTUAL = "CREATE TABLE t (\n    a integer,\n    b integer GENERATED ALWAYS AS ((a * 2))\n);\n"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (make_entry(definition=STORED), [RECOMPUTED_COLUMNS]),
        (make_entry(desc="MATERIALIZED VIEW DATA"), [RECOMPUTED_VIEWS]),
        (make_entry(definition=VIRTUAL), []),
        (make_entry(desc="SEQUENCE", definition="ALTER TABLE t ALTER a ADD GENERATED ALWAYS AS IDENTITY (…);"), []),
        (make_entry(desc="MATERIALIZED VIEW"), []),
    ],
)
def test_what_is_computed_anew_is_said(entry: TocEntry, said: list[str]) -> None:
    assert list(recomputed(make_toc([entry]))) == said
