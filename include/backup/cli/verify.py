"""verify: what the store says of a backup, and, if asked, what a restore of it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from include.backup.cli.output import error_content
from include.backup.cli.session import Session
from include.backup.errors import ProofFailedError
from include.backup.proof.record import Proof
from include.backup.steps.restore_test import StoredBackup, check_passed, prove_stored, report
from include.backup.steps.verify import VerifyReport, verify_archive


def run(session: Session) -> int:
    """Verify a backup; a failed restore test is printed whole before it ends in an error."""
    backup_id = session.backup_id
    manifest = session.catalog.manifest(backup_id)
    stored = verify_archive(session.store, manifest)
    proof = _restore_test(session, backup_id) if session.arguments.restore_test else None
    document = {
        "source": session.source.name,
        "backup_id": backup_id,
        "store": stored.to_dict(),
        "proof": None if proof is None else _plain(proof),
    }
    try:
        if proof is not None:
            check_passed(proof)
    except ProofFailedError as error:
        if not session.output.as_json:
            raise
        session.output.message(f"error: {error_content(error)['message']}")
        session.output.result("verify", {**document, "error": error_content(error)}, ())
        return error.exit_code
    session.output.result("verify", document, _lines(stored, proof))
    return 0


def _restore_test(session: Session, backup_id: str) -> Proof:
    stored = StoredBackup(
        backup_id=backup_id,
        source=session.source,
        store=session.store,
        catalog=session.catalog,
        scratch_root=session.scratch_root,
    )
    return prove_stored(stored, runner=session.runner, log=session.log)


def _plain(proof: Proof) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(proof.to_json())
    return content


def _lines(stored: VerifyReport, proof: Proof | None) -> Iterator[str]:
    yield stored.line()
    if proof is not None:
        yield report(proof).line()
