"""What a restore computes anew, as no dump holds it: there is nothing with which its values could be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

from include.backup.postgres.toc import Toc

RECOMPUTED_COLUMNS = "values of generated columns (no dump holds them, and a restore computes them anew)"
RECOMPUTED_VIEWS = "rows of materialized views (no dump holds them, and a restore computes them anew)"
_GENERATED = re.compile(r" GENERATED ALWAYS AS \(.*\) STORED", re.DOTALL)


def recomputed(toc: Toc) -> Iterator[str]:
    """Yield what of an archive is recomputed, whatever the level of its proof."""
    if any(entry.desc == "TABLE" and _GENERATED.search(entry.definition) for entry in toc.entries):
        yield RECOMPUTED_COLUMNS
    if any(entry.desc == "MATERIALIZED VIEW DATA" for entry in toc.entries):
        yield RECOMPUTED_VIEWS
