"""A bundle of evidence: checked with nothing but a public key, and with openssl alone."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import ConnectionDefinitionError, EvidenceError
from include.backup.evidence import EventKind
from include.backup.evidence.bundle import About, check_bundle, write_bundle
from include.backup.evidence.check import check_ledger, listed_records, read_records
from include.backup.evidence.keys import (
    new_key_pair,
    private_key_of_connection,
    private_key_of_file,
    public_key_of_file,
)
from tests.support.memory_store import MemoryStore
from tests.support.programs import unpack
from tests.unit.test_evidence import filled, make_ledger

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private = tmp_path / "key"
    return private, new_key_pair(private)


@pytest.fixture
def bundle(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    return export(filled(5), tmp_path / "evidence.tar", keys[0])


def export(store: MemoryStore, path: Path, key: Path) -> Path:
    head = check_ledger(store, "shop").head
    about = About(
        source="shop",
        records=head.sequence,
        head_sequence=head.sequence,
        head_sha256=head.sha256,
        exported_at=datetime(2026, 6, 1, tzinfo=UTC),
        exported_by="auditor",
    )
    records = read_records(store, "shop", listed_records(store, "shop")[0])
    write_bundle(path, about=about, records=records, key=private_key_of_file(key))
    return path


def changed(bundle: Path, change: Change) -> Path:
    """Write the bundle anew with other members."""
    with tarfile.open(bundle) as tar:
        members = {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar.getmembers()}
    change(members)
    with tarfile.open(bundle, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return bundle


def test_a_bundle_is_checked_with_the_public_key_alone(bundle: Path, keys: tuple[Path, Path]) -> None:
    check = check_bundle(bundle, public_key_of_file(keys[1]))
    assert check.intact
    assert (check.about.source, check.about.records, check.about.exported_by) == ("shop", 5, "auditor")


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("way", ["removed", "changed", "swapped"])
def test_whatever_is_done_to_a_record_of_a_bundle_shows(
    bundle: Path, keys: tuple[Path, Path], number: int, way: str
) -> None:
    name, other = f"records/{number:010d}.json", f"records/{number % 5 + 1:010d}.json"

    def change(members: dict[str, bytes]) -> None:
        if way == "removed":
            del members[name]
        elif way == "changed":
            members[name] = members[name].replace(b'"bytes": ', b'"bytes": 1')
        else:
            members[name], members[other] = members[other], members[name]

    assert not check_bundle(changed(bundle, change), public_key_of_file(keys[1])).intact


def test_a_record_that_was_added_shows(bundle: Path, keys: tuple[Path, Path]) -> None:
    store = filled(5)
    make_ledger(store).append(EventKind.BACKUP, subject="b", actor="test")
    added = store.objects["evidence/shop/records/0000000006.json"]
    check = check_bundle(
        changed(bundle, lambda members: members.update({"records/0000000006.json": added})),
        public_key_of_file(keys[1]),
    )
    assert "6 records are in the bundle, 5 were signed" in str(check.findings[-1])


@pytest.mark.parametrize("name", ["bundle.json", "bundle.sig"])
def test_another_signature_or_another_statement_is_refused(bundle: Path, keys: tuple[Path, Path], name: str) -> None:
    broken = changed(bundle, lambda members: members.update({name: members[name][:-1] + b"x"}))
    with pytest.raises(EvidenceError, match="not signed by this key"):
        check_bundle(broken, public_key_of_file(keys[1]))


def test_a_bundle_that_was_signed_anew_with_another_key_is_refused(
    tmp_path: Path, bundle: Path, keys: tuple[Path, Path]
) -> None:
    new_key_pair(tmp_path / "forger")
    forged = export(filled(5), tmp_path / "forged.tar", tmp_path / "forger")
    with pytest.raises(EvidenceError, match="not signed by this key"):
        check_bundle(forged, public_key_of_file(keys[1]))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl")
def test_the_readme_of_a_bundle_is_true_without_our_code(bundle: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(bundle) as tar:
        unpack(tar, tmp_path / "out")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin"]
    files = ["-in", "bundle.json", "-sigfile", "bundle.sig"]
    done = subprocess.run([*command, *files], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "openssl pkeyutl -verify" in (tmp_path / "out" / "README.txt").read_text()
    (tmp_path / "out" / "bundle.json").write_bytes(b"{}")
    done = subprocess.run([*command, *files], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode != 0


def test_what_is_no_bundle_is_named(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    public = public_key_of_file(keys[1])
    (tmp_path / "text").write_text("hello")
    for path in (tmp_path / "text", tmp_path / "not-there"):
        with pytest.raises(EvidenceError, match="cannot be read as a bundle"):
            check_bundle(path, public)
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(EvidenceError, match=r"has no proper bundle\.json"):
        check_bundle(tmp_path / "empty.tar", public)


def test_a_bundle_never_overwrites_a_file_and_leaves_none_half_written(
    bundle: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(EvidenceError, match="is there already"):
        export(filled(1), bundle, keys[0])
    store = filled(3)
    sequences = listed_records(store, "shop")[0]
    del store.objects["evidence/shop/records/0000000002.json"]
    about = About(
        source="shop",
        records=3,
        head_sequence=3,
        head_sha256="0" * 64,
        exported_at=datetime(2026, 6, 1, tzinfo=UTC),
        exported_by="x",
    )
    with pytest.raises(EvidenceError, match="record 2 vanished"):
        write_bundle(
            tmp_path / "new.tar",
            about=about,
            records=read_records(store, "shop", sequences),
            key=private_key_of_file(keys[0]),
        )
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


def test_keys_are_private_and_of_the_right_kind(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(EvidenceError, match="cannot make"):
        new_key_pair(private)
    other = generate_private_key(SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other").touch(mode=0o600)
    (tmp_path / "other").write_bytes(pem)
    with pytest.raises(EvidenceError, match="of another kind"):
        private_key_of_file(tmp_path / "other")
    (tmp_path / "other.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(EvidenceError, match="of another kind"):
        public_key_of_file(tmp_path / "other.pub")
    with pytest.raises(EvidenceError, match="no public key"):
        public_key_of_file(private)
    private.chmod(0o640)
    with pytest.raises(EvidenceError, match="can be read by others"):
        private_key_of_file(private)
    with pytest.raises(EvidenceError, match="cannot read"):
        private_key_of_file(tmp_path / "none")
    assert public.exists()


def test_a_key_can_be_the_password_of_a_connection(keys: tuple[Path, Path]) -> None:
    pem = Secret(keys[0].read_text())
    spec = ConnectionSpec(conn_id="signer", conn_type="generic", password=pem)
    found = private_key_of_connection(spec).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert found == keys[1].read_bytes()
    with pytest.raises(ConnectionDefinitionError, match="signer has no password"):
        private_key_of_connection(ConnectionSpec(conn_id="signer", conn_type="generic"))
    with pytest.raises(EvidenceError, match="password of connection signer is no private key") as raised:
        private_key_of_connection(ConnectionSpec(conn_id="signer", conn_type="generic", password=Secret("hunter2")))
    assert "hunter2" not in str(raised.value)
