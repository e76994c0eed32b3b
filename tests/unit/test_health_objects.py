"""The encryption and the locks of stored objects: what is not as the manifest or the policy says is a finding."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.backup.evidence import EventKind, Ledger
from include.backup.evidence.record import record_key
from include.backup.health.objects import archive_problem, evidence_problems
from include.backup.policy.evidence import EvidencePolicy
from include.backup.store import ObjectInfo
from tests.support.aged_bucket import NOW, PLAIN, Bucket
from tests.support.audits import SOURCE, shipped
from tests.support.builders import make_archive, make_manifest
from tests.support.memory_store import MemoryStore

GOOD = ObjectInfo(
    key="k", size=4096, modified=NOW, etag="x", checksum="abc=-1", encryption="aws:kms", kms_key_id="arn:one"
)


class OneObject(MemoryStore):
    """A store that says of any object what a test wants."""

    def __init__(self, info: ObjectInfo | None) -> None:
        super().__init__({})
        self.info = info

    def head(self, key: str) -> ObjectInfo | None:
        return self.info


@pytest.mark.parametrize(
    ("says", "manifest", "words"),
    [
        ({}, {}, None),
        ({"checksum": None}, {}, None),  # many stores keep none, and reading all of it back is a verification's matter
        ({"size": 4095}, {}, "4095 bytes instead of 4096"),
        ({"checksum": "other=-1"}, {}, "checksum other=-1"),
        ({"encryption": None, "kms_key_id": None}, {}, "encryption none"),
        ({"encryption": None, "kms_key_id": None, "checksum": None}, {}, "encryption none"),
        ({"encryption": "AES256"}, {}, "encryption AES256"),
        ({"kms_key_id": "arn:two"}, {}, "encryption aws:kms arn:two"),
        ({"storage_class": "GLACIER"}, {}, "storage class GLACIER"),
        # The manifest is true, and the policy is not kept.
        ({"encryption": "AES256"}, {"encryption": "AES256", "kms_key_arn": None}, "and the policy says aws:kms"),
        ({"encryption": None}, {"encryption": "none", "kms_key_arn": None}, "and the policy says aws:kms"),
    ],
)
def test_an_archive_is_compared_with_its_manifest_and_the_policy(
    says: dict[str, Any], manifest: dict[str, Any], words: str | None
) -> None:
    archive = make_archive(**{"kms_key_arn": "arn:one", **manifest})
    found = archive_problem(OneObject(replace(GOOD, **says)), make_manifest(archive=archive), shipped())
    assert (found is None) is (words is None), found
    assert words is None or words in str(found)


def test_an_archive_that_is_gone_is_said_so() -> None:
    assert archive_problem(OneObject(None), make_manifest(), shipped()) == "the archive is gone"


@pytest.mark.parametrize(
    ("object_lock", "locked", "mode", "words"),
    [
        (False, False, "GOVERNANCE", None),
        (True, False, "GOVERNANCE", "its lock is none"),
        (True, True, "COMPLIANCE", None),
        (True, True, "GOVERNANCE", "its lock is COMPLIANCE"),
    ],
)
def test_the_newest_record_of_the_evidence_is_locked_as_the_policy_says(
    tmp_path: Path, object_lock: bool, locked: bool, mode: str, words: str | None
) -> None:
    bucket = Bucket(tmp_path, object_lock=object_lock)
    source = replace(shipped(), evidence=EvidencePolicy(lock_mode=mode))
    assert evidence_problems(bucket.store, source) == {}
    ledger = Ledger(bucket.store, source=SOURCE, encryption=PLAIN, policy=EvidencePolicy())
    ledger.append(EventKind.BACKUP, subject="b", actor="test")
    if locked:
        bucket.s3.locks[record_key(SOURCE, 1)] = datetime(2099, 1, 1, tzinfo=UTC)
    found = evidence_problems(bucket.store, source)
    assert bool(found) is (words is not None), found
    assert words is None or words in found["evidence record 1"]
