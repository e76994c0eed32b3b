"""How to reach Supabase's Management API: a personal access token, kept as a connection's password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.connections import is_loopback

PUBLIC_API = "https://api.supabase.com"
_TYPE = "http"
_EXTRAS = ("verify",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupabaseConnection:
    """Where the API is, and the token that it wants. ``ca_bundle`` is for a private authority."""

    conn_id: str
    url: str
    token: Secret = field(repr=False)
    ca_bundle: str | None = None

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection; raises ConnectionDefinitionError."""
        if spec.conn_type != _TYPE:
            raise bad_connection(spec.conn_id, f"has type {spec.conn_type!r}; allowed: {_TYPE}")
        if unknown := sorted(set(spec.extra) - set(_EXTRAS)):
            raise bad_connection(spec.conn_id, f"has the extra {', '.join(unknown)}; allowed: {', '.join(_EXTRAS)}")
        if not spec.password:
            raise bad_connection(
                spec.conn_id,
                "has no password; set it to a personal access token of Supabase (Account > Access Tokens) that may "
                "read the project's backups",
            )
        verify = spec.extra.get("verify") or None
        if verify is not None and not isinstance(verify, str):
            raise bad_connection(spec.conn_id, "has an extra verify that is not text; give a CA file or leave it out")
        return cls(conn_id=spec.conn_id, url=_url(spec), token=spec.password, ca_bundle=verify)

    @property
    def is_local(self) -> bool:
        """Whether this is a stand-in on this machine: no proxy leads there."""
        return is_loopback(urlsplit(self.url).hostname or "")


def _url(spec: ConnectionSpec) -> str:
    """Return the API's base address; the token must not travel in clear text."""
    text = (spec.host or PUBLIC_API).rstrip("/")
    text = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or spec.port
    except ValueError:
        raise bad_connection(spec.conn_id, "has a host that is no URL") from None
    if parts.username or parts.password:
        raise bad_connection(spec.conn_id, "has a host with a password in it; the token belongs into the password")
    if not host or parts.scheme not in ("http", "https") or parts.path or parts.query:
        raise bad_connection(spec.conn_id, f"has a host that is no https:// address; leave it out for {PUBLIC_API}")
    if parts.scheme == "http" and not is_loopback(host):
        raise bad_connection(spec.conn_id, "has a host without TLS; use https://")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
