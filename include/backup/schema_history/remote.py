"""How to reach the git remote of the schema's history, and git's environment: nothing of the user's is in it.

Secrets reach git by files that only this user can read and by its environment; never by arguments, a URL or a
configuration.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self
from urllib.parse import urlsplit

from include.backup.connection_spec import ConnectionSpec, Secret, bad_connection
from include.backup.http_address import is_loopback

_EXTRAS = ("private_key", "known_hosts", "ca")
_SCP = re.compile(r"(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^\s:][^\s]*)")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PATH = re.compile(r"/[^\s?#\x00-\x1f]+")
_SSH_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)
# Says the token to git, which asks for user and password by a line that begins so.
_ASKPASS = """\
#!/bin/sh
case "$1" in
Username*) printf '%s\\n' "$PULSE_GIT_USER" ;;
*) printf '%s\\n' "$PULSE_GIT_PASSWORD" ;;
esac
"""
_SLOWEST_BYTES, _SLOW_SECONDS = "1000", "60"


class Transport(StrEnum):
    """How a remote is reached."""

    FILE = "file"
    SSH = "ssh"
    HTTPS = "https"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRemote:
    """A git remote. The URL holds no secret."""

    conn_id: str
    url: str
    transport: Transport
    user: str | None = None
    token: Secret | None = field(default=None, repr=False)
    private_key: Secret | None = field(default=None, repr=False)
    known_hosts: str | None = field(default=None, repr=False)
    ca: str | None = None

    @classmethod
    def from_spec(cls, spec: ConnectionSpec) -> Self:
        """Read the allow-listed parts of a connection of the type git; raises ConnectionDefinitionError."""
        spec.require("git", extras=_EXTRAS)
        if not spec.host:
            raise bad_connection(
                spec.conn_id, "has no host; set it to the remote's URL, e.g. git@github.com:owner/repository.git"
            )
        transport = _transport(spec.conn_id, spec.host)
        extra = {name: spec.text(name) for name in _EXTRAS}
        _check_secrets(spec, transport, extra)
        key = extra["private_key"]
        return cls(
            conn_id=spec.conn_id,
            url=spec.host,
            transport=transport,
            user=spec.login,
            token=spec.password,
            private_key=Secret(key) if key else None,
            known_hosts=extra["known_hosts"],
            ca=extra["ca"],
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        return tuple(str(secret) for secret in (self.token, self.private_key) if secret)


@contextmanager
def git_environment(remote: GitRemote | None) -> Iterator[dict[str, str]]:
    """Yield the environment in which git reaches the remote; what is in files is gone afterwards."""
    with TemporaryDirectory(prefix="pulse-git-") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        yield {**_isolated(folder / "home"), **({} if remote is None else _access(remote, folder))}


def ssh_command(folder: Path) -> str:
    """Return GIT_SSH_COMMAND, which git hands to a shell: every word is quoted."""
    files = (f"IdentityFile={_ssh_path(folder / 'key')}", f"UserKnownHostsFile={_ssh_path(folder / 'known_hosts')}")
    options = (word for option in (*_SSH_OPTIONS, *files) for word in ("-o", option))
    return shlex.join(["ssh", "-F", "/dev/null", *options])


def _ssh_path(path: Path) -> str:
    """Return a path as ssh's options take it: they split at spaces, and expand per cent signs."""
    return '"' + str(path).replace("%", "%%") + '"'


def _isolated(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": "file:ssh:https:http",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_HTTP_LOW_SPEED_LIMIT": _SLOWEST_BYTES,
        "GIT_HTTP_LOW_SPEED_TIME": _SLOW_SECONDS,
    }


def _access(remote: GitRemote, folder: Path) -> dict[str, str]:
    if remote.transport is Transport.SSH:
        key = str(remote.private_key or "").replace("\r\n", "\n").replace("\\n", "\n").strip("\n")
        _write_private(folder / "key", f"{key}\n")
        _write_private(folder / "known_hosts", f"{(remote.known_hosts or '').strip()}\n")
        return {"GIT_SSH_COMMAND": ssh_command(folder), "GIT_SSH_VARIANT": "ssh"}
    if remote.transport is Transport.HTTPS and remote.token:
        askpass = folder / "askpass"
        _write_private(askpass, _ASKPASS)
        askpass.chmod(0o700)
        named = {"PULSE_GIT_USER": remote.user or "git", "PULSE_GIT_PASSWORD": str(remote.token)}
        return {"GIT_ASKPASS": str(askpass), **named, **({"GIT_SSL_CAINFO": remote.ca} if remote.ca else {})}
    return {"GIT_SSL_CAINFO": remote.ca} if remote.ca else {}


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _transport(conn_id: str, url: str) -> Transport:
    if _SCP.fullmatch(url):
        return Transport.SSH
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise bad_connection(conn_id, "has a host that is no URL") from None
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise bad_connection(conn_id, "has a URL with a login in it; use login and password of the connection")
    if parts.scheme in ("", "file") and not parts.netloc and _PATH.fullmatch(parts.path):
        return Transport.FILE
    well_formed = host is not None and _HOST.fullmatch(_bracketed(host)) and _PATH.fullmatch(parts.path) and port != 0
    if well_formed and parts.scheme == "ssh" and _USER.fullmatch(parts.username or "git"):
        return Transport.SSH
    if well_formed and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or ""))):
        return Transport.HTTPS
    raise bad_connection(
        conn_id,
        "has a host that is no git remote; allowed: https://host/path, ssh://user@host/path, user@host:path, "
        "file:///path",
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_secrets(spec: ConnectionSpec, transport: Transport, extra: Mapping[str, str | None]) -> None:
    if transport is Transport.SSH:
        if not extra["private_key"]:
            raise bad_connection(
                spec.conn_id,
                "has no private_key in its extra; make a key with `ssh-keygen -t ed25519 -N ''`, put the private part "
                "there and the public part into the repository's deploy keys, with write access",
            )
        if not extra["known_hosts"]:
            raise bad_connection(
                spec.conn_id,
                "has no known_hosts in its extra; put the host's line there (`ssh-keyscan <host>`), after comparing "
                "its fingerprint with what the host's operator publishes",
            )
    elif extra["private_key"]:
        raise bad_connection(spec.conn_id, f"has a private_key, and a URL that is not for ssh ({transport.value})")
