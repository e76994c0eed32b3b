"""All backups of a source, wherever below the bucket they lie."""

from __future__ import annotations

from collections.abc import Iterable

from include.backup.base.stored import base_prefix, clusters
from include.backup.catalog import Catalog
from include.backup.policy import SourcePolicy
from include.backup.steps.context import open_catalog
from include.backup.store import ObjectStore


def every_backup(source: SourcePolicy, store: ObjectStore, *, also: Iterable[str] = ()) -> Catalog:
    """Return the catalogue over all backups of a source, base backups included, and those below other prefixes."""
    return open_catalog(source, store, also=[*also, *(base_prefix(cluster) for cluster in clusters(store))])
