"""Secrets and certificates of the embedded stack: made once, private, never shown."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import threading
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from include.local.credentials import load_credentials, make_credentials, save_store_key, write_private
from include.local.errors import StackError
from include.local.layout import HOST, Layout, layout_of
from include.local.tls import LIFETIME, ensure_certificates


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    found = layout_of(6400, tmp_path / "state")
    found.make_folders()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_credentials_are_made_once_and_only_their_owner_can_read_them(layout: Layout) -> None:
    before = os.umask(0)
    try:
        first = load_credentials(layout.credentials)
    finally:
        os.umask(before)
    assert mode(layout.credentials) == 0o600
    assert load_credentials(layout.credentials) == first


def test_no_two_stacks_have_a_secret_in_common() -> None:
    one, other = asdict(make_credentials()), asdict(make_credentials())
    shared = [name for name in one if one[name] and one[name] == other[name]]
    assert shared == []


def test_credentials_do_not_show_themselves() -> None:
    made = make_credentials()
    shown = repr(made) + str(made) + f"{made}"
    assert not any(value in shown for value in asdict(made).values() if value)


def test_the_stores_key_is_kept_beside_the_rest(layout: Layout) -> None:
    first = load_credentials(layout.credentials)
    save_store_key(layout.credentials, "AKIA1", "hush")
    changed = load_credentials(layout.credentials)
    assert (changed.store_access_key, changed.store_secret_key) == ("AKIA1", "hush")
    assert changed.airflow_fernet_key == first.airflow_fernet_key
    assert mode(layout.credentials) == 0o600


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"airflow_jwt_secret": "x"'])
def test_a_damaged_file_is_refused_and_not_replaced(layout: Layout, content: str) -> None:
    layout.credentials.write_text(content)
    with pytest.raises(StackError, match="does not hold this stack's secrets") as caught:
        load_credentials(layout.credentials)
    assert str(layout.state) in str(caught.value)
    assert layout.credentials.read_text() == content


def test_a_private_file_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    victim, target = tmp_path / "victim", tmp_path / "target"
    victim.write_text("untouched")
    target.symlink_to(victim)
    write_private(target, "secret")
    assert victim.read_text() == "untouched"
    assert target.read_text() == "secret"
    assert not target.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target", "victim"]


def test_the_fernet_key_is_one_that_airflow_takes() -> None:
    from cryptography.fernet import Fernet

    Fernet(make_credentials().airflow_fernet_key.encode())


@pytest.mark.parametrize("name", ["localhost", HOST])
def test_a_client_that_trusts_the_authority_trusts_the_server(layout: Layout, name: str) -> None:
    ensure_certificates(layout)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(layout.certificate, layout.key)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=lambda: server_side.wrap_socket(theirs, server_side=True).recv(1))
        server.start()
        client_side = ssl.create_default_context(cafile=str(layout.ca))
        with client_side.wrap_socket(ours, server_hostname=name) as client:
            assert client.version() == "TLSv1.3"
            client.send(b"x")
        server.join(timeout=10)
    assert not server.is_alive()


def test_the_key_is_private_and_the_authoritys_key_is_not_kept(layout: Layout) -> None:
    ensure_certificates(layout)
    assert mode(layout.key) == 0o600
    assert sorted(path.name for path in layout.tls.iterdir()) == ["ca.pem", "server.key", "server.pem"]
    assert "PRIVATE" not in layout.ca.read_text() + layout.certificate.read_text()


def test_good_certificates_are_kept_and_those_near_their_end_are_replaced(layout: Layout) -> None:
    start = datetime.now(UTC)
    ensure_certificates(layout, now=start)
    first = layout.certificate.read_bytes()
    ensure_certificates(layout, now=start + LIFETIME - timedelta(days=31))
    assert layout.certificate.read_bytes() == first
    ensure_certificates(layout, now=start + LIFETIME - timedelta(days=29))
    assert layout.certificate.read_bytes() != first


def test_certificates_that_were_half_made_are_made_anew(layout: Layout) -> None:
    ensure_certificates(layout)
    layout.certificate.unlink()
    ensure_certificates(layout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(layout.certificate, layout.key)


def test_the_file_holds_nothing_but_text(layout: Layout) -> None:
    load_credentials(layout.credentials)
    assert all(isinstance(value, str) for value in json.loads(layout.credentials.read_text()).values())
