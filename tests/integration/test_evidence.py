"""The ledger on a real store: many writers at once, a versioned bucket's memory, Object Lock."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from include.backup.connections import StoreConnection
from include.backup.evidence import Event, EventKind, Ledger
from include.backup.evidence.check import check_ledger, read_records
from include.backup.evidence.policy_record import record_policy
from include.backup.evidence.record import read_event, record_key
from include.backup.policy import SHIPPED_POLICY, load_policy
from include.backup.policy.evidence import EvidencePolicy
from include.backup.steps import restore_test, upload
from include.backup.steps.context import open_store
from include.backup.store import Encryption, ObjectStore
from include.local.s3 import BUCKET, REGION
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, run_chain
from tests.support.store_owner import owner_of

WRITERS, EACH = 8, 6
LOCKED_BUCKET = "pulse-locked"


def ledger_of(connection: StoreConnection, source: str, *, bucket: str = BUCKET) -> Ledger:
    store = ObjectStore.connect(connection, bucket=bucket)
    return Ledger(store, source=source, encryption=Encryption(algorithm=None), policy=EvidencePolicy())


def write_many(connection: StoreConnection, writer: int, start: Any) -> None:
    """One process: its own events, and two that all processes try to record: a hold, and a change of the policy."""
    ledger = ledger_of(connection, "race")
    start.wait(200)
    for number in range(EACH):
        ledger.append(EventKind.BACKUP, subject=f"{writer}-{number}", actor=f"writer {writer}")
    ledger.append(EventKind.HOLD, subject="shared", actor=f"writer {writer}", once="shared")
    record_policy(ledger, load_policy(SHIPPED_POLICY).source("pulse_messages"), actor=f"writer {writer}")


def test_eight_processes_at_once_neither_fork_the_chain_nor_lose_a_record(stack: Stack) -> None:
    connection = stack.store_connection()
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(WRITERS)
    writers = [context.Process(target=write_many, args=(connection, number, start)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(240)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    check = check_ledger(ObjectStore.connect(connection, bucket=BUCKET), "race")
    assert check.intact, check.findings
    assert check.head.sequence == WRITERS * EACH + 2
    assert check.subjects["backup"] == {f"{writer}-{number}" for writer in range(WRITERS) for number in range(EACH)}
    assert check.kinds == {"backup": WRITERS * EACH, "hold": 1, "policy_change": 1}


@pytest.mark.parametrize("last", ["removed", "overwritten"])
def test_a_versioned_bucket_remembers_what_was_done_to_the_last_record(stack: Stack, last: str) -> None:
    source = f"versions_{last}"
    ledger = ledger_of(stack.store_connection(), source)
    for number in range(3):
        head = ledger.append(EventKind.BACKUP, subject=str(number), actor="test").head
    store, key = ledger.store, record_key(source, 3)
    if last == "removed":
        owner = owner_of(stack)  # the role that writes may not
        owner.delete_object(Bucket=BUCKET, Key=key)
        owner.delete_object(Bucket=BUCKET, Key=f"evidence/{source}/receipts/0000000003-{head.sha256}")
    else:
        content = store.get(key)
        store.s3.put_object(Bucket=BUCKET, Key=key, Body=content + b" ")
        store.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
    found = "; ".join(map(str, check_ledger(store, source).findings))
    assert f"{key} has" in found
    assert "was overwritten or deleted" in found


def test_records_are_locked_where_the_bucket_has_object_lock(stack: Stack) -> None:
    s3 = owner_of(stack)
    s3.create_bucket(Bucket=LOCKED_BUCKET, ObjectLockEnabledForBucket=True)
    store = ObjectStore(s3=s3, kms=boto3.client("kms", region_name=REGION), bucket=LOCKED_BUCKET)
    ledger = Ledger(store, source="shop", encryption=Encryption(algorithm=None), policy=EvidencePolicy())
    ledger.append(EventKind.BACKUP, subject="b", actor="test")
    found = s3.head_object(Bucket=LOCKED_BUCKET, Key=record_key("shop", 1))
    assert found["ObjectLockMode"] == "GOVERNANCE"
    assert found["ObjectLockRetainUntilDate"] > datetime.now(tz=UTC) + timedelta(days=6 * 365)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=LOCKED_BUCKET, Key=record_key("shop", 1), VersionId=found["VersionId"])
    assert check_ledger(store, "shop").intact


def test_a_backup_and_its_proof_leave_one_record_each_also_when_the_steps_are_retried(
    make_context: ContextMaker,
) -> None:
    ctx = make_context()
    run_chain(ctx, until=restore_test)
    upload.run(ctx)
    store = open_store(ctx.source, ctx.store_connection)
    check = check_ledger(store, ctx.source.name)
    assert check.intact, check.findings
    events = [event for event in iterate(store, ctx.source.name, check.head.sequence) if event.subject == ctx.backup_id]
    assert [event.kind for event in events] == [EventKind.BACKUP, EventKind.PROOF]
    assert events[0].facts["bytes"] == ctx.catalog.manifest(ctx.backup_id).archive.size
    (proof,) = ctx.catalog.proofs(ctx.backup_id)
    assert events[1].facts["proof_id"] == proof.proof_id
    # The proof was made behind the backup's record, and says so.
    assert proof.evidence_head is not None
    assert int(proof.evidence_head.partition(":")[0]) >= events[0].sequence


def iterate(store: ObjectStore, source: str, last: int) -> Iterator[Event]:
    for stored in read_records(store, source, range(1, last + 1)):
        if stored.content is not None:
            yield read_event(stored.content, name=str(stored.sequence))
