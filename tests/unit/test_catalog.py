"""The catalogue: what the store holds, and a named error for each way in which a backup is not whole."""

from __future__ import annotations

from typing import Any

import pytest

from include.backup.catalog import Catalog, archive_key, manifest_key, proof_prefix
from include.backup.errors import (
    ArchiveWithoutManifestError,
    BackupMissingError,
    FormatVersionError,
    ManifestError,
    ManifestWithoutArchiveError,
    ObjectShortError,
)
from include.backup.manifest import Manifest
from tests.support.builders import BACKUP_ID, make_archive, make_manifest, make_proof
from tests.support.memory_store import MemoryStore

OLDER = "pulse_messages_daily_full_20260101T020000Z_000001"
DEPLOY = "pulse_messages_pre_deployment_full_20260301T120000Z_abcdef"


def objects(backup_id: str = BACKUP_ID, prefix: str = "daily", **changes: Any) -> dict[str, bytes]:
    """Return the two objects of one whole backup."""
    key = archive_key(prefix, backup_id)
    values = {"backup_id": backup_id, "archive": make_archive(key=key), **changes}
    manifest: Manifest = make_manifest(**values)
    return {key: bytes(4096), manifest_key(prefix, backup_id): manifest.to_json()}


def catalog(*parts: dict[str, bytes]) -> Catalog:
    stored = {key: content for part in parts for key, content in part.items()}
    return Catalog(MemoryStore(stored), source="pulse_messages", prefixes=["daily/", "pre_deployment/", "daily"])


def test_a_whole_backup_is_found_and_read() -> None:
    found = catalog(objects(), objects(DEPLOY, "pre_deployment"))
    assert found.manifest(BACKUP_ID).backup_id == BACKUP_ID
    assert found.locate(DEPLOY) == "pre_deployment"
    manifest, content = found.read(DEPLOY)
    assert content == manifest.to_json()


def test_the_list_is_in_order_of_time_and_shows_what_is_not_whole() -> None:
    broken = {archive_key("daily", OLDER): b"x"}
    alone = {manifest_key("pre_deployment", DEPLOY): b"{}"}
    proofs = {f"{proof_prefix(BACKUP_ID)}{n}.json": make_proof().to_json() for n in range(2)}
    listed = catalog(objects(), broken, alone, proofs).list()
    assert [(b.backup_id, b.prefix, bool(b.archive), bool(b.manifest), b.proofs) for b in listed] == [
        (OLDER, "daily", True, False, 0),
        (DEPLOY, "pre_deployment", False, True, 0),
        (BACKUP_ID, "daily", True, True, 2),
    ]


def test_what_is_no_backup_of_this_source_is_not_listed() -> None:
    foreign = {
        "daily/README.txt": b"",
        "daily/notes.tar": b"",
        "daily/sub/x.manifest.json": b"",
        archive_key("daily", BACKUP_ID.replace("pulse_messages", "other_source")): b"",
        "elsewhere/" + BACKUP_ID + ".tar": b"",
        "proofs/pulse_messages_x/y.json": b"",
    }
    assert catalog(foreign).list() == ()


def test_a_backup_that_is_not_there() -> None:
    with pytest.raises(BackupMissingError, match=f"pulse_messages has no backup {BACKUP_ID}; .*list"):
        catalog().manifest(BACKUP_ID)


def test_an_archive_without_its_manifest() -> None:
    with pytest.raises(ArchiveWithoutManifestError, match="no backup: its upload never finished, or its manifest was"):
        catalog({archive_key("daily", BACKUP_ID): b"x"}).manifest(BACKUP_ID)


def test_a_manifest_without_its_archive() -> None:
    only = {key: content for key, content in objects().items() if key.endswith(".json")}
    with pytest.raises(ManifestWithoutArchiveError, match=f"daily/{BACKUP_ID}.tar is gone"):
        catalog(only).manifest(BACKUP_ID)


@pytest.mark.parametrize("size", [0, 4095, 4097])
def test_an_archive_of_another_size(size: int) -> None:
    with pytest.raises(ObjectShortError, match=f"has {size} bytes and its manifest says 4096"):
        catalog({**objects(), archive_key("daily", BACKUP_ID): bytes(size)}).manifest(BACKUP_ID)


def test_a_manifest_under_the_name_of_another_backup() -> None:
    stolen = {manifest_key("daily", BACKUP_ID): objects(OLDER)[manifest_key("daily", OLDER)]}
    with pytest.raises(ManifestError, match=f"the manifest of {BACKUP_ID} is that of {OLDER}"):
        catalog(objects(OLDER), {**objects(), **stolen}).manifest(BACKUP_ID)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ManifestError),
        (b'{"format_version": 1}', ManifestError),
        (b'{"format_version": 99}', FormatVersionError),
    ],
)
def test_a_manifest_that_cannot_be_read(content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error, match=BACKUP_ID):
        catalog({**objects(), manifest_key("daily", BACKUP_ID): content}).manifest(BACKUP_ID)


def test_proofs_are_read_in_order_of_time() -> None:
    proofs = [make_proof(proof_id=f"2026051{n}T021000Z_abcdef") for n in (3, 1, 2)]
    stored = {f"{proof_prefix(BACKUP_ID)}{proof.proof_id}.json": proof.to_json() for proof in proofs}
    found = catalog(objects(), stored).proofs(BACKUP_ID)
    assert found == tuple(sorted(proofs, key=lambda proof: proof.proof_id))
    assert catalog(objects()).proofs(BACKUP_ID) == ()
