"""The Ed25519 key that signs exported evidence: from a file or a connection, never from an argument."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from include.backup.connection_spec import ConnectionSpec, bad_connection
from include.backup.errors import EvidenceError

OTHERS = 0o077


def new_key_pair(private: Path) -> Path:
    """Write a new private key, readable by its owner alone, and its public key beside it; return the latter."""
    key = Ed25519PrivateKey.generate()
    public = private.with_name(f"{private.name}.pub")
    for path, content in (
        (private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        (public, public_pem(key.public_key())),
    ):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError as error:
            raise EvidenceError(
                f"cannot make {path}: {error.strerror}; name a new file in a folder of yours"
            ) from error
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    return public


def private_key_of_file(path: Path) -> Ed25519PrivateKey:
    """Read a private key; raises EvidenceError, also when others may read the file."""
    if _mode(path) & OTHERS:
        raise EvidenceError(f"{path} can be read by others, so anybody may have signed with it; chmod 600 {path}")
    return _private(_content(path), str(path))


def private_key_of_connection(spec: ConnectionSpec) -> Ed25519PrivateKey:
    """Read the private key (PEM) that a connection has as its password."""
    if not spec.password:
        raise bad_connection(spec.conn_id, "has no password; set it to the PEM of an Ed25519 key")
    return _private(str(spec.password).replace("\\n", "\n").encode(), f"the password of connection {spec.conn_id}")


def public_key_of_file(path: Path) -> Ed25519PublicKey:
    """Read a public key; raises EvidenceError."""
    try:
        key = load_pem_public_key(_content(path))
    except (ValueError, UnsupportedAlgorithm):
        raise EvidenceError(f"{path} is no public key in PEM; give the file that was made as KEY.pub") from None
    if not isinstance(key, Ed25519PublicKey):
        raise EvidenceError(f"{path} is a public key of another kind; give an Ed25519 key")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private(content: bytes, where: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EvidenceError(f"{where} is no private key in PEM; `evidence keygen` makes one") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise EvidenceError(f"{where} is a private key of another kind; `evidence keygen` makes an Ed25519 key")
    return key


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}") from error


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise EvidenceError(f"cannot read {path}: {error.strerror}") from error
