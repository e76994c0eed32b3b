"""What would make a restore in place fail as a whole: known before anybody is asked."""

from __future__ import annotations

from include.backup.postgres.session import connect, query
from include.backup.postgres.toc import Toc
from include.backup.restore.in_place import entries_of
from include.backup.restore.target import Target

KINDS = {
    **dict.fromkeys(("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"), "relation"),
    **dict.fromkeys(("TYPE", "SHELL TYPE", "DOMAIN"), "type"),
    **dict.fromkeys(("FUNCTION", "PROCEDURE", "AGGREGATE"), "function"),
    "FK CONSTRAINT": "key",
}


def in_the_way(target: Target, toc: Toc, schemas: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the target has beyond the archive and with which these schemas' objects cannot be dropped.

    What PostgreSQL would drop with them is meant too, where it holds rows. ``public`` itself is never dropped, so that
    what is new there may stay unless it hangs on what is archived.
    """
    entries = list(entries_of(toc, schemas))
    archived = [(KINDS[entry.desc], entry.namespace, entry.tag) for entry in entries if entry.desc in KINDS]
    kinds, spaces, tags = (list(column) for column in zip(*archived, strict=True)) if archived else ([], [], [])
    dropped = [entry.tag for entry in entries if entry.drop_statement.startswith("DROP SCHEMA")]
    with connect(target.endpoint) as session:
        parameters = {"kinds": kinds, "spaces": spaces, "tags": tags, "schemas": list(schemas), "dropped": dropped}
        return tuple(str(row["name"]) for row in query(session, "in_the_way", parameters))
