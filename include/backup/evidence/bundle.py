"""A signed bundle: the whole ledger in one file, which an auditor can check without the store and without us."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from include.backup.errors import ArchiveError, EvidenceError
from include.backup.evidence.check import ChainCheck, Finding, Stored, against_anchors
from include.backup.evidence.keys import public_pem
from include.backup.evidence.record import Head
from include.backup.records import from_json, to_json

FORMAT_VERSION = 1
ABOUT, SIGNATURE, PUBLIC_KEY, README = "bundle.json", "bundle.sig", "public_key.pem", "README.txt"
_RECORD = re.compile(r"records/([0-9]{10})\.json")
LARGEST_MEMBER_BYTES = 1 << 20

README_TEXT = """\
The evidence of one source: a record for each thing that happened to its backups, in a chain.

records/<number>.json  one record; previous_sha256 is the SHA-256 of the file before it, bytes as they are here
bundle.json            source, number of records, and the SHA-256 of the last record: with the chain it fixes them all
bundle.sig             Ed25519 signature of bundle.json
public_key.pem         the key that signed; trust it only if you were given the same key in another way

Check it with the project:
  python -m include.backup evidence check BUNDLE.tar --public-key KEY_YOU_WERE_GIVEN.pem

Or without it:
  openssl pkeyutl -verify -pubin -inkey KEY_YOU_WERE_GIVEN.pem -rawin -in bundle.json -sigfile bundle.sig
  sha256sum records/*.json    # each but the last is the previous_sha256 of the next; the last is head_sha256
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is signed."""

    source: str
    records: int
    head_sequence: int
    head_sha256: str
    exported_at: datetime
    exported_by: str

    @property
    def head(self) -> Head:
        return Head(sequence=self.head_sequence, sha256=self.head_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleCheck:
    """What a bundle says, and what in it is not as it was signed."""

    about: About
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        return not self.findings


def write_bundle(path: Path, *, about: About, records: Iterable[Stored], key: Ed25519PrivateKey) -> None:
    """Write a bundle; it gets its name only once it is whole. Raises EvidenceError when there is a file already."""
    if path.exists():
        raise EvidenceError(f"{path} is there already; name a new file")
    content = to_json(about, format_version=FORMAT_VERSION)
    unfinished = path.with_name(f".{path.name}.tmp")
    try:
        with tarfile.open(unfinished, "w") as tar:
            _add(tar, README, README_TEXT.encode(), about)
            _add(tar, ABOUT, content, about)
            _add(tar, SIGNATURE, key.sign(content), about)
            _add(tar, PUBLIC_KEY, public_pem(key.public_key()), about)
            for stored in records:
                if stored.content is None:
                    raise EvidenceError(f"record {stored.sequence} vanished while it was exported; verify the ledger")
                _add(tar, f"records/{stored.sequence:010d}.json", stored.content, about)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_bundle(path: Path, public_key: Ed25519PublicKey) -> BundleCheck:
    """Check signature and chain of a bundle.

    Raises EvidenceError for what is no bundle, or is signed by another key.
    """
    with _opened(path) as tar:
        content, signature = _member(tar, ABOUT), _member(tar, SIGNATURE)
        try:
            public_key.verify(signature, content)
        except InvalidSignature:
            raise EvidenceError(
                f"{path} is not signed by this key: it was changed, or comes from somebody else"
            ) from None
        try:
            about = from_json(About, content, format_version=FORMAT_VERSION, name=f"{ABOUT} of {path}")
        except ArchiveError as error:
            raise EvidenceError(str(error)) from error
        chain = ChainCheck(about.source)
        count = 0
        for stored in _records(tar):
            chain.add(stored)
            count += 1
    findings = [*chain.findings, *against_anchors(chain.digests, [("the signature", about.head)])]
    if count != about.records or chain.head.sequence != about.head_sequence:
        findings.append(Finding(sequence=0, what=f"{count} records are in the bundle, {about.records} were signed"))
    return BundleCheck(about=about, findings=tuple(findings))


def _records(tar: tarfile.TarFile) -> Iterator[Stored]:
    names = {}
    for member in tar.getmembers():
        match = _RECORD.fullmatch(member.name)
        if match is not None and member.isfile():
            names[int(match[1])] = member.name
    for sequence in sorted(names):
        yield Stored(sequence=sequence, content=_member(tar, names[sequence]))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        info = tar.getmember(name)
        handle = tar.extractfile(info) if info.size <= LARGEST_MEMBER_BYTES else None
    except KeyError:
        handle = None
    if handle is None:
        raise EvidenceError(f"{tar.name!s} has no proper {name}; it is no bundle of evidence")
    return handle.read()


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (OSError, tarfile.TarError) as error:
        raise EvidenceError(f"{path} cannot be read as a bundle of evidence: {error}") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes, about: About) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    info.mtime = int(about.exported_at.timestamp())
    tar.addfile(info, io.BytesIO(content))
