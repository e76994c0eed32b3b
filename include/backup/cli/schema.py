"""schema: commit the schema to its git remote, or show what has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from include.backup.chain import new_run
from include.backup.cli.session import Session
from include.backup.policy.schema_backup import schema_policy
from include.backup.schema_history.changes import SchemaChanges
from include.backup.schema_history.drift import Drift, drift_from_release
from include.backup.schema_history.history import SchemaHistory
from include.backup.schema_history.remote import GitRemote


def run(session: Session) -> int:
    """Back the schema up, or show what would be committed; then say how it differs from the last release."""
    history = open_history(session)
    return _preview(session, history) if session.arguments.dry_run else _back_up(session, history)


def open_history(session: Session) -> SchemaHistory:
    """Return the history of the source that the command names."""
    policy = schema_policy(session.source)
    remote = GitRemote.from_spec(session.connection(policy.connection))
    for secret in remote.secrets:
        session.output.hide(secret)
    return SchemaHistory(
        source=session.source,
        database=session.database(session.source.connection),
        remote=remote,
        staging_root=session.staging_root,
        runner=session.runner,
        run_id=new_run().run_id,
    )


def _preview(session: Session, history: SchemaHistory) -> int:
    preview = history.preview()
    document = {
        "source": session.source.name,
        "head": preview.head,
        "would_commit": bool(preview.changes),
        **changes_document(preview.changes),
        "diff": preview.diff,
    }
    session.output.result("schema", document, _preview_lines(session.source.name, preview.changes, preview.diff))
    return 0


def _back_up(session: Session, history: SchemaHistory) -> int:
    done = history.back_up()
    drift = drift_from_release(history, history.committed(done.head), store=session.store, catalog=session.catalog)
    document = {**done.to_dict(), **changes_document(done.changes), "drift": None if drift is None else _drift(drift)}
    session.output.result("schema", document, _lines(done.line(), done.changes, drift))
    return 0


def changes_document(changes: SchemaChanges) -> dict[str, list[str]]:
    """Return the names of what changed."""
    return {
        "added_objects": [str(name) for name in changes.added],
        "removed_objects": [str(name) for name in changes.removed],
        "changed_objects": [str(name) for name in changes.changed],
    }


def _drift(drift: Drift) -> dict[str, Any]:
    return {
        "release": drift.release,
        "git_sha": drift.git_sha,
        "backup_id": drift.backup_id,
        "as_of": drift.as_of.isoformat(),
        **changes_document(drift.changes),
        "diff": drift.diff,
    }


def _preview_lines(source: str, changes: SchemaChanges, diff: str) -> Iterator[str]:
    if not changes:
        yield f"the schema of {source} has not changed; nothing would be committed"
        return
    yield from changes.lines()
    yield ""
    yield from diff.splitlines()


def _lines(line: str, changes: SchemaChanges, drift: Drift | None) -> Iterator[str]:
    yield line
    yield from changes.lines()
    if drift is None:
        yield "there is no pre-deployment backup to compare with"
    else:
        yield drift.line()
        yield from drift.diff.splitlines()
