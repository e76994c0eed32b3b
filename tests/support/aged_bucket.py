"""A bucket in memory with backups of some ages, for what lists, judges and deletes them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.backup.backup_id import make_backup_id
from include.backup.catalog import archive_key, manifest_key
from include.backup.evidence import Ledger
from include.backup.manifest import SnapshotFacts, fingerprint
from include.backup.policy import SHIPPED_POLICY, SourcePolicy, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.proof.record import Result
from include.backup.retention.cleanup import CleanupContext
from include.backup.store import Encryption, ObjectStore
from tests.support.builders import make_archive, make_dump, make_manifest, make_proof
from tests.support.fake_s3 import FakeS3

NOW = datetime(2026, 6, 1, 4, tzinfo=UTC)
PLAIN = Encryption(algorithm=None)
DAY = timedelta(days=1)


class Bucket:
    """A store with backups of some ages."""

    def __init__(self, tmp_path: Path, **settings: Any) -> None:
        self.s3 = FakeS3()
        self.s3.now = NOW
        for name, value in settings.items():
            setattr(self.s3, name, value)
        client: Any = self.s3
        self.store = ObjectStore(s3=client, kms=client, bucket="b")
        self.source: SourcePolicy = load_policy(SHIPPED_POLICY, strict=True).source("pulse_messages")
        self.staging = tmp_path / "staging"
        self.staging.mkdir()

    def context(self, now: datetime = NOW) -> CleanupContext:
        ledger = Ledger(
            self.store, source=self.source.name, encryption=PLAIN, policy=EvidencePolicy(), clock=lambda: now
        )
        return CleanupContext(
            source=self.source,
            store=self.store,
            ledger=ledger,
            encryption=PLAIN,
            actor="test",
            log=logging.getLogger("tests.cleanup"),
            staging_root=self.staging,
            clock=lambda: now,
        )

    def backup(
        self,
        age: float,
        *,
        tier: str = "daily",
        proven: bool = True,
        kind: str = "full",
        depends_on: tuple[str, ...] = (),
    ) -> str:
        taken = NOW - age * DAY
        backup_id = make_backup_id(
            source="pulse_messages", tier=tier, kind=kind, run_after=taken, dag_id="d", run_id=f"{tier}{age}{kind}"
        )
        prefix = self.source.tier(tier).prefix
        content = make_manifest(
            backup_id=backup_id,
            tier=tier,
            kind=kind,
            dump=make_dump(snapshot=SnapshotFacts(time=taken, lsn_before="0/1", lsn_after="0/2")),
            archive=make_archive(key=archive_key(prefix, backup_id)),
            depends_on=depends_on,
        ).to_json()
        self.s3.add(archive_key(prefix, backup_id), bytes(4096), modified=taken)
        self.s3.add(manifest_key(prefix, backup_id), content, modified=taken)
        if proven:
            proof = make_proof(
                proof_id=f"{taken:%Y%m%dT%H%M%SZ}_abcdef",
                backup_id=backup_id,
                manifest_sha256=fingerprint(content),
                result=Result.PASSED,
                finished_at=taken,
            )
            self.s3.add(f"proofs/{backup_id}/{proof.proof_id}.json", proof.to_json(), modified=taken)
        return backup_id

    def archives(self) -> set[str]:
        return {key.rpartition("/")[2][:-4] for key in self.s3.visible() if key.endswith(".tar")}

    def manifests(self) -> set[str]:
        return {key.rpartition("/")[2].partition(".")[0] for key in self.s3.visible() if ".manifest." in key}
