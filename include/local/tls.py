"""Make the embedded stack's certificate authority and the certificate of its servers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509

from include.local.credentials import write_private
from include.local.layout import HOST, Layout

LIFETIME = timedelta(days=365)
# A stack that is started with less left gets a new authority, so that no run meets its end.
RENEW_BEFORE = timedelta(days=30)


def ensure_certificates(layout: Layout, *, now: datetime | None = None) -> None:
    """Make the authority and the servers' certificate unless good ones are there.

    The authority's key is not kept: nobody can sign with it later.
    """
    moment = now or datetime.now(UTC)
    if layout.key.exists() and _expires(layout.certificate) > moment + RENEW_BEFORE:
        return
    layout.tls.mkdir(mode=0o700, exist_ok=True)
    authority = trustme.CA(organization_name="Pulse Messages local stack")
    issued = authority.issue_cert("localhost", HOST, not_after=moment + LIFETIME)
    write_private(layout.key, issued.private_key_pem.bytes().decode())
    write_private(layout.ca, authority.cert_pem.bytes().decode())
    # Last: its presence says that the other two belong to it.
    write_private(layout.certificate, "".join(blob.bytes().decode() for blob in issued.cert_chain_pems))


def _expires(certificate: Path) -> datetime:
    if not certificate.exists():
        return datetime.min.replace(tzinfo=UTC)
    return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
