"""Which backup is proven, and which one a person means."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from include.backup.catalog import Catalog, ListedBackup
from include.backup.errors import BackupMissingError, ManifestError, ParameterError
from include.backup.inventory import Completeness, Standing, find_backup, list_backups, standing_of
from include.backup.proof.record import Proof, Result
from include.backup.store import ObjectInfo
from tests.support.records import make_proof

MANIFEST = b"a manifest"
DAYS = [f"pulse_messages_daily_full_202501{day:02}T020000Z_3fa9c1" for day in (17, 18, 19)]
DEPLOY = "pulse_messages_pre_deployment_full_20250120T100000Z_3fa9c1"


def make_object(key: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=5, modified=datetime(2025, 1, 19, tzinfo=UTC), etag="x")


class FewBackups(Catalog):
    """A catalogue without a store: which objects are there, and the proofs of each backup."""

    def __init__(self, backups: dict[str, tuple[bool, bool]], proofs: dict[str, Sequence[Proof]]) -> None:
        self._backups = backups
        self._proofs = proofs

    def list(self) -> tuple[ListedBackup, ...]:
        return tuple(
            ListedBackup(
                backup_id=name,
                prefix="daily",
                archive=make_object(f"{name}.tar") if archive else None,
                manifest=make_object(f"{name}.manifest.json") if manifest else None,
                proof_keys=tuple(f"proofs/{name}/{number}" for number, _ in enumerate(self._proofs.get(name, ()))),
            )
            for name, (archive, manifest) in self._backups.items()
        )

    def manifest_bytes(self, backup_id: str) -> bytes:
        return MANIFEST

    def proofs(self, backup_id: str) -> tuple[Proof, ...]:
        found = self._proofs.get(backup_id, ())
        if "damaged" in found:
            raise ManifestError("the proof is damaged")
        return tuple(found)

    def manifest_of(self, listed: ListedBackup) -> bytes:
        return self.manifest_bytes(listed.backup_id)

    def proofs_of(self, listed: ListedBackup) -> tuple[Proof, ...]:
        return self.proofs(listed.backup_id)


@pytest.mark.parametrize(
    ("proofs", "standing"),
    [
        ([], Standing.UNPROVEN),
        ([make_proof(of=MANIFEST)], Standing.PROVEN),
        ([make_proof(of=b"another manifest")], Standing.UNPROVEN),
        ([make_proof(of=MANIFEST, result=Result.FAILED)], Standing.FAILED),
        ([make_proof(of=MANIFEST, age=timedelta(1)), make_proof(of=MANIFEST, result=Result.FAILED)], Standing.FAILED),
        ([make_proof(of=MANIFEST), make_proof(of=MANIFEST, age=timedelta(1), result=Result.FAILED)], Standing.PROVEN),
    ],
)
def test_the_newest_proof_of_the_same_manifest_decides(proofs: list[Proof], standing: Standing) -> None:
    assert standing_of(MANIFEST, proofs) is standing


def test_a_list_tells_what_is_missing_and_what_is_proven() -> None:
    whole, no_manifest, no_archive = DAYS
    catalog = FewBackups(
        {whole: (True, True), no_manifest: (True, False), no_archive: (False, True)},
        {whole: [make_proof(of=MANIFEST)]},
    )
    found = list_backups(catalog)
    assert [backup.completeness for backup in found] == [
        Completeness.COMPLETE,
        Completeness.NO_MANIFEST,
        Completeness.NO_ARCHIVE,
    ]
    assert [backup.standing for backup in found] == [Standing.PROVEN, None, Standing.UNPROVEN]


def test_a_proof_that_cannot_be_read_is_no_proof_and_hides_no_other_backup() -> None:
    catalog = FewBackups(
        {DAYS[0]: (True, True), DAYS[1]: (True, True)},
        {DAYS[0]: [make_proof(of=MANIFEST)], DAYS[1]: ["damaged"]},  # type: ignore[list-item]
    )
    assert [backup.standing for backup in list_backups(catalog)] == [Standing.PROVEN, Standing.UNREADABLE]
    assert find_backup(catalog, "pulse_messages", "latest-proven") == DAYS[0]


def test_latest_is_the_newest_complete_one_and_latest_proven_the_newest_proven_one() -> None:
    catalog = FewBackups(
        {DAYS[0]: (True, True), DAYS[1]: (True, True), DAYS[2]: (True, False), DEPLOY: (True, True)},
        {DAYS[0]: [make_proof(of=MANIFEST)]},
    )
    assert find_backup(catalog, "pulse_messages", "latest") == DEPLOY
    assert find_backup(catalog, "pulse_messages", "latest", tier="daily") == DAYS[1]
    assert find_backup(catalog, "pulse_messages", "latest-proven") == DAYS[0]


@pytest.mark.parametrize("wanted", ["latest", "latest-proven"])
def test_there_may_be_no_latest(wanted: str) -> None:
    with pytest.raises(BackupMissingError, match="in the tier daily"):
        find_backup(FewBackups({DEPLOY: (True, True)}, {}), "pulse_messages", wanted, tier="daily")


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "../../etc/passwd",
        "$(id)",
        "x'; DROP TABLE users; --",
        "pulse_messages_daily_full_20250119T020000Z_3fa9c1\n",
    ],
)
def test_what_is_no_id_is_refused(wanted: str) -> None:
    with pytest.raises(ParameterError, match="is no backup id"):
        find_backup(FewBackups({}, {}), "pulse_messages", wanted)


def test_an_id_of_another_source_or_tier_is_refused() -> None:
    with pytest.raises(ParameterError, match="a backup of pulse_messages, not of other"):
        find_backup(FewBackups({}, {}), "other", DAYS[0])
    with pytest.raises(ParameterError, match="of the tier daily, not pre_deployment"):
        find_backup(FewBackups({}, {}), "pulse_messages", DAYS[0], tier="pre_deployment")
