"""quarantine: what is switched off in a restored copy, and putting it back."""

from __future__ import annotations

from dataclasses import replace

from include.backup.cli.confirming import confirm
from include.backup.cli.output import columns
from include.backup.cli.restore import target_connection
from include.backup.cli.restoring import record_release
from include.backup.cli.session import Session
from include.backup.quarantine import quarantined, release
from include.backup.quarantine.quarantine import as_document, not_quarantined, others_records
from include.backup.restore.target import check_database_name


def run(session: Session) -> int:
    """Show what is off, or put it back after a person has said so."""
    arguments = session.arguments
    check_database_name(arguments.database)
    connection = target_connection(session, session.source.connection)
    endpoint = replace(connection, dbname=arguments.database)
    items = quarantined(endpoint)
    others = () if items else others_records(endpoint)
    document = {"database": arguments.database, "items": as_document(items)}
    rows = [(item.kind, item.name) for item in items]
    lines = list(columns(("switched off", "name"), rows)) if items else [not_quarantined(arguments.database, others)]
    if arguments.action == "show":
        shown = {"action": "show", **document, "others_records": list(others)}
        session.output.result("quarantine", shown, lines)
        return 0
    session.output.preview(lines)
    if items and not arguments.yes:
        confirm(
            "It will act on the world again. Type the database's name to go on",
            word=arguments.database,
            what="the database's name",
            look="`show` to only look",
            undone="released",
        )
    report = release(endpoint)
    done = f"{arguments.database} is released: {len(report.items)} things act again"
    on_record = record_release(session, endpoint, report)
    session.output.result("quarantine", {"action": "release", **document, **report.to_dict(), **on_record}, [done])
    return 0
