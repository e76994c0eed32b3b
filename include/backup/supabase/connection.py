"""How to reach Supabase's Management API: a personal access token, kept as a connection's password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.http_address import http_address, is_loopback

PUBLIC_API = "https://api.supabase.com"


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
        spec.require("http", extras=("verify",))
        token = Secret((spec.password or "").strip())
        if not token:
            raise bad_connection(
                spec.conn_id,
                "has no password; set it to a personal access token of Supabase (Account > Access Tokens) that may "
                "read the project's backups",
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise bad_connection(spec.conn_id, "has a password that is no access token; set the token anew in one line")
        return cls(conn_id=spec.conn_id, url=_url(spec), token=token, ca_bundle=spec.text("verify"))

    @property
    def is_local(self) -> bool:
        """Whether this is a stand-in on this machine: no proxy leads there."""
        return is_loopback(urlsplit(self.url).hostname or "")


def _url(spec: ConnectionSpec) -> str:
    """Return the API's base address; the token must not travel in clear text."""
    text = (spec.host or PUBLIC_API).rstrip("/")
    text = text if "://" in text else f"https://{text}"
    parts = http_address(spec.conn_id, text, what="a host")
    if parts.path or parts.query:
        raise bad_connection(spec.conn_id, f"has a host with more than an address; leave it out for {PUBLIC_API}")
    host, port = parts.hostname or "", parts.port or spec.port
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
