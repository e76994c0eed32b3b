"""People whose data was erased after a backup was taken: a restore brings them back, unless they are erased again."""

from __future__ import annotations

from datetime import datetime

from include.backup.store import ObjectStore

PREFIX = "erasures"
SUFFIX = ".json"


def erased_since(store: ObjectStore, source: str, moment: datetime) -> tuple[str, ...]:
    """Return the ids of erasures that were recorded after a snapshot, from ``erasures/<source>/<id>.json``.

    A store tells whole seconds: what was recorded within the snapshot's own second counts, since it may be later.
    """
    prefix = f"{PREFIX}/{source}/"
    return tuple(
        item.key.removeprefix(prefix).removesuffix(SUFFIX)
        for item in store.list(prefix)
        if item.key.endswith(SUFFIX) and item.modified >= moment.replace(microsecond=0)
    )
