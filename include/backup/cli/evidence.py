"""evidence: check the ledger of a source, export it signed, check what was exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from include.backup.chain import user_name
from include.backup.cli.session import Session
from include.backup.errors import EvidenceError, ParameterError
from include.backup.evidence.bundle import About, BundleCheck, check_bundle, write_bundle
from include.backup.evidence.check import Finding, LedgerCheck, check_ledger, listed_records, read_records
from include.backup.evidence.crosscheck import crosscheck, proof_anchors
from include.backup.evidence.keys import (
    new_key_pair,
    private_key_of_connection,
    private_key_of_file,
    public_key_of_file,
)
from include.backup.evidence.record import Head
from include.backup.steps.context import utc_now

SHOWN = 20


def run(session: Session) -> int:
    """Do what the action says."""
    return _ACTIONS[session.arguments.action](session)


def _verify(session: Session) -> int:
    check, findings = _checked(session)
    document = {
        "source": check.source,
        "intact": not findings,
        "records": check.head.sequence,
        "head": str(check.head),
        "kinds": dict(check.kinds),
        "findings": [str(finding) for finding in findings],
        "notes": list(check.notes),
    }
    session.output.result("evidence", document, _verify_lines(check, findings))
    return 0 if not findings else EvidenceError.exit_code


def _checked(session: Session) -> tuple[LedgerCheck, list[Finding]]:
    source, store = session.source, session.store
    given = [("the given head", Head.parse(text)) for text in session.arguments.anchor or ()]
    anchors = [*given, *proof_anchors(store, source.name)]
    with session.output.progress() as progress:
        progress.phase("records", len(listed_records(store, source.name)[0]), "records")
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            progress.at(done)

        check = check_ledger(store, source.name, anchors=anchors, progress=step)
    return check, [*check.findings, *crosscheck(store, source, check)]


def _verify_lines(check: LedgerCheck, findings: list[Finding]) -> Iterator[str]:
    if not check.head.sequence and not findings:
        yield f"{check.source} has no evidence yet"
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(check.kinds.items()))
    yield f"{check.head.sequence} records ({kinds})"
    yield f"head {check.head}  (keep it elsewhere: --anchor checks against it)"
    yield from check.notes
    yield from (f"  {finding}" for finding in findings[:SHOWN])
    if len(findings) > SHOWN:
        yield f"  and {len(findings) - SHOWN} more (--json shows all)"
    yield (
        "every record is as it was written, and nothing is missing"
        if not findings
        else f"NOT intact: {len(findings)} findings. Keep the bucket as it is, and find out who could write there"
    )


def _export(session: Session) -> int:
    source, arguments = session.source, session.arguments
    if arguments.key is not None:
        key = private_key_of_file(arguments.key)
    elif source.evidence is not None and source.evidence.signing_connection is not None:
        key = private_key_of_connection(session.connection(source.evidence.signing_connection))
    else:
        raise ParameterError("nothing to sign with; give --key FILE, or set evidence.signing_connection in the policy")
    arguments.anchor = None
    check, findings = _checked(session)
    if findings and not arguments.even_damaged:
        raise EvidenceError(
            f"the ledger of {source.name} is not intact ({findings[0]}); `evidence verify` shows all, "
            "--even-damaged exports it as it is"
        )
    sequences = [number for number in listed_records(session.store, source.name)[0] if number <= check.head.sequence]
    about = About(
        source=source.name,
        records=len(sequences),
        head_sequence=check.head.sequence,
        head_sha256=check.head.sha256,
        exported_at=utc_now(),
        exported_by=user_name(),
    )
    write_bundle(arguments.output, about=about, records=read_records(session.store, source.name, sequences), key=key)
    document = {"source": source.name, "file": str(arguments.output), "records": about.records, "head": str(check.head)}
    session.output.result(
        "evidence", document, [f"{about.records} records, head {check.head}, signed in {arguments.output}"]
    )
    return 0


def _check(session: Session) -> int:
    path: Path = session.arguments.file
    check = check_bundle(path, public_key_of_file(session.arguments.public_key))
    session.output.result("evidence", _bundle_document(path, check), _bundle_lines(path, check))
    return 0 if check.intact else EvidenceError.exit_code


def _bundle_document(path: Path, check: BundleCheck) -> dict[str, Any]:
    return {
        "file": str(path),
        "source": check.about.source,
        "intact": check.intact,
        "records": check.about.records,
        "head": str(check.about.head),
        "exported_at": check.about.exported_at.isoformat(),
        "exported_by": check.about.exported_by,
        "findings": [str(finding) for finding in check.findings],
    }


def _bundle_lines(path: Path, check: BundleCheck) -> Iterator[str]:
    about = check.about
    yield (
        f"{path}: {about.records} records of {about.source}, exported {about.exported_at:%Y-%m-%d %H:%M} UTC by "
        f"{about.exported_by}; the signature is good"
    )
    yield from (f"  {finding}" for finding in check.findings[:SHOWN])
    yield "every record is as it was signed" if check.intact else "NOT as it was signed"


def _keygen(session: Session) -> int:
    private: Path = session.arguments.output
    public = new_key_pair(private)
    session.output.result(
        "evidence",
        {"private_key": str(private), "public_key": str(public)},
        [
            f"private key {private}: keep it from everybody who can write to the bucket",
            f"public key {public}: for the auditor",
        ],
    )
    return 0


_ACTIONS = {"verify": _verify, "export": _export, "check": _check, "keygen": _keygen}
