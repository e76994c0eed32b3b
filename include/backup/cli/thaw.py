"""thaw: make an archive in Glacier readable, and say when that will be."""

from __future__ import annotations

import time
from dataclasses import replace

from include.backup.cli.session import Session
from include.backup.restore.destination import restore_policy
from include.backup.restore.thaw import Thawing, thaw, thaw_state
from include.backup.steps.context import utc_now


def run(session: Session) -> int:
    """Ask once, and with --wait look again until the archive can be read."""
    arguments = session.arguments
    manifest = session.catalog.manifest(session.backup_id)
    if arguments.dry_run:
        state, storage_class = thaw_state(session.store, manifest)
        document = {"dry_run": True, "backup_id": manifest.backup_id, "state": state, "storage_class": storage_class}
        session.output.result("thaw", document, [f"{manifest.backup_id} is in {storage_class}: {state}"])
        return 0
    policy = restore_policy(session.source).thaw
    if arguments.thaw_tier is not None:
        policy = replace(policy, tier=arguments.thaw_tier)
    asked_at = utc_now()
    report = thaw(session.store, manifest, policy, asked_at=asked_at)
    while arguments.wait and report.state is not Thawing.READABLE:
        session.output.message(report.line())
        time.sleep(policy.poll_seconds)
        report = thaw(session.store, manifest, policy, asked_at=asked_at)
    session.output.result("thaw", {"dry_run": False, **report.to_dict()}, [report.line()])
    return 0
