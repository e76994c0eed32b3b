"""A data folder: made by initdb, configured by files of our own that each start writes anew."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from include.backup.postgres.account import PASSABLE, give
from include.backup.postgres.tools import PostgresTools

OWN_CONFIGURATION = "pulse.conf"
LOCALE_PROVIDER_SINCE = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificate, key and, to check clients' certificates, the authority; copied into the data folder."""

    certificate: Path
    key: Path
    authority: Path | None = None


def initdb_argv(
    tools: PostgresTools, data: Path, superuser: str, password_file: Path, *, lasting: bool
) -> tuple[str, ...]:
    """Return the argv that makes a UTF-8 data folder in which every connection needs a password."""
    provider = ("--locale-provider=libc",) if tools.major >= LOCALE_PROVIDER_SINCE else ()
    return (
        tools.path("initdb"),
        f"--pgdata={data}",
        f"--username={superuser}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        *provider,
        "--no-instructions",
        *(("--data-checksums",) if lasting else ("--no-sync",)),
    )


@contextmanager
def new_data_folder(data: Path, password: str, *, user: str | None) -> Iterator[tuple[Path, Path]]:
    """Give a folder and a password file to initdb; the folder becomes ``data`` only when all went well."""
    work = Path(tempfile.mkdtemp(prefix=f".{data.name}.", dir=data.parent))
    try:
        work.chmod(PASSABLE)
        folder = work / "data"
        folder.mkdir(mode=0o700)
        give(folder, user)
        password_file = work / "password"
        write_private(password_file, password, user=user)
        yield folder, password_file
        folder.rename(data)
    finally:
        shutil.rmtree(work)


def configure(
    data: Path,
    *,
    user: str | None,
    settings: Mapping[str, str],
    hba: Sequence[str],
    tls: TlsFiles | None,
) -> None:
    """Write settings, who may connect, and TLS files. ALTER SYSTEM still wins over them."""
    main = data / "postgresql.conf"
    text = main.read_text()
    include = f"include '{OWN_CONFIGURATION}'\n"
    if include not in text:
        write_private(main, f"{text}\n{include}", user=user)
    lines = (f"{name} = {quote(value)}\n" for name, value in settings.items())
    write_private(data / OWN_CONFIGURATION, "".join(lines), user=user)
    write_private(data / "pg_hba.conf", "".join(f"{line}\n" for line in hba), user=user)
    if tls is not None:
        for source, name in _tls_names(tls):
            write_private(data / name, source.read_text(), user=user)


def connection_settings(port: int, listen: Sequence[str], socket_dir: Path, *, tls: TlsFiles | None) -> dict[str, str]:
    """Return the settings that say how the server is reached."""
    directory = str(socket_dir.absolute()).replace('"', '""')
    settings = {
        "port": str(port),
        "listen_addresses": ",".join(listen),
        "unix_socket_directories": f'"{directory}"',
        "password_encryption": "scram-sha-256",
    }
    if tls is None:
        return settings
    files = {f"ssl_{name.rpartition('.')[2]}_file": name for _, name in _tls_names(tls)}
    names = {"ssl_crt_file": "ssl_cert_file", "ssl_key_file": "ssl_key_file", "ssl_ca_file": "ssl_ca_file"}
    return {
        **settings,
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.3",
        **{names[name]: value for name, value in files.items()},
    }


def default_hba(*, listen: bool, tls: bool) -> tuple[str, ...]:
    """Return who may connect: everyone with a password, from this machine; over TCP by TLS if there is any."""
    lines = ["local all all scram-sha-256", "local replication all scram-sha-256"]
    if listen:
        kind = "hostssl" if tls else "host"
        for database in ("all", "replication"):
            lines += [f"{kind} {database} all {address} scram-sha-256" for address in ("127.0.0.1/32", "::1/128")]
    return tuple(lines)


def quote(value: str) -> str:
    r"""Return a value as postgresql.conf wants it.

    >>> print(quote("it's a \\"))
    'it''s a \\'
    """
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{doubled}'"


def write_private(path: Path, text: str, *, user: str | None) -> None:
    """Replace a file by one that only the user can read; never follow a link that the user has put there."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    work.unlink(missing_ok=True)
    with open(work, "x", opener=private) as file:
        give(work, user)
        file.write(text)
    work.replace(path)


def private(path: str, flags: int) -> int:
    """Open a file that only its owner can read, and no link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _tls_names(tls: TlsFiles) -> list[tuple[Path, str]]:
    pairs = [(tls.certificate, "server.crt"), (tls.key, "server.key")]
    return pairs if tls.authority is None else [*pairs, (tls.authority, "client.ca")]
