"""Addresses of HTTP services that a connection names: no login in them, and TLS except on this machine itself."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

from include.backup.connection_spec import bad_connection


def http_address(conn_id: str, text: str, *, what: str) -> SplitResult:
    """Return the parts of an address, whose host and port can be read; raises ConnectionDefinitionError.

    ``what`` says where it stands, as in "an endpoint_url"; no error shows the address, which may be a secret.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise bad_connection(conn_id, f"has {what} that is no URL") from None
    if parts.username or parts.password:
        raise bad_connection(conn_id, f"has {what} with a user or a password in it; they have fields of their own")
    if not host or parts.scheme not in ("http", "https") or not text.isprintable():
        raise bad_connection(conn_id, f"has {what} that is no https:// URL")
    if parts.scheme == "http" and not is_loopback(host):
        raise bad_connection(conn_id, f"has {what} without TLS; use https://")
    return parts


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself, where nothing needs TLS.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("db.example")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
