"""A process of its own that archives and proves the files of a bucket, and says how much memory it took.

Arguments: endpoint, certificate authority, bucket of files, bucket of archives. The keys are in the environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from include.backup.attachments import tar_upload
from include.backup.attachments.bucket import FileBucket
from include.backup.attachments.collect import Collector, listed_files
from include.backup.attachments.prove import prove_attachments
from include.backup.attachments.record import AttachmentsFacts
from include.backup.attachments.tar_upload import TarTarget, TarUpload
from include.backup.catalog import Catalog
from include.backup.connection_spec import Secret
from include.backup.connections import StoreConnection
from include.backup.steps.context import utc_now
from include.backup.store import Encryption, ObjectStore
from tests.support.builders import make_archive, make_manifest

KEY = "monthly/x.tar"
PART_BYTES = 16 << 20


def peak_mib() -> int:
    """Return the most memory that this program had; getrusage begins with what its parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def patient_store(connection: StoreConnection, bucket: str) -> ObjectStore:
    """Return the bucket with a client that waits while this store writes 2 GiB into one file at the end."""
    session = boto3.Session(connection.access_key, str(connection.secret_key), region_name=connection.region)
    config = Config(s3={"addressing_style": "path"}, read_timeout=600, retries={"total_max_attempts": 1})
    common: Any = {"endpoint_url": connection.endpoint_url, "verify": connection.ca_bundle, "config": config}
    return ObjectStore(s3=session.client("s3", **common), kms=session.client("kms", **common), bucket=bucket)


def main() -> None:
    """Archive, prove, and print what it took."""
    endpoint, ca, files, bucket = sys.argv[1:]
    connection = StoreConnection(
        region="us-east-1",
        endpoint_url=endpoint,
        access_key=os.environ["CHILD_ACCESS_KEY"],
        secret_key=Secret(os.environ["CHILD_SECRET_KEY"]),
        ca_bundle=ca,
    )
    # This store answers with an error when there is no unfinished upload to list.
    tar_upload.abort_unfinished = lambda *_, **__: 0
    started = time.monotonic()
    store = patient_store(connection, bucket)
    buckets = {files: FileBucket.connect(connection, bucket=files, concurrency=8)}
    listed, _ = listed_files(buckets, ())
    target = TarTarget(
        key=KEY,
        part_size=PART_BYTES,
        concurrency=4,
        encryption=Encryption(algorithm=None),
        storage_class="STANDARD",
        tags={},
        modified_at=0,
    )
    with TarUpload(store, target, progress=lambda _: None) as tar:
        collected = Collector(buckets, tar, known={}, log=logging.getLogger("child")).run(listed)
        stored = tar.seal()
        tar.complete()
    facts = AttachmentsFacts(
        recovery_point="x",
        buckets=(files,),
        other_buckets=(),
        based_on=None,
        reconciled_with=None,
        files=tuple(collected.files),
        missing=(),
        extra=(),
        changed=(),
        troubled=tuple(collected.troubled),
    )
    archive = make_archive(key=KEY, size=stored.size, part_size=PART_BYTES, checksum=stored.checksum)
    manifest = make_manifest(archive=archive, members=tuple(collected.members), attachments=facts)
    content = manifest.to_json()
    archived = time.monotonic()
    catalog = Catalog(store, source="pulse_messages", prefixes=["monthly/"])
    proof = prove_attachments(store, catalog, manifest, content, clock=utc_now)
    print(
        json.dumps(
            {
                "files": len(collected.files),
                "bytes": facts.bytes,
                "archive_bytes": stored.size,
                "manifest_bytes": len(content),
                "troubled": [str(note) for note in collected.troubled],
                "result": proof.result.value,
                "differences": [str(difference) for difference in proof.differences[:5]],
                "archive_seconds": round(archived - started, 1),
                "proof_seconds": round(time.monotonic() - archived, 1),
                "peak_mib": peak_mib(),
            }
        )
    )


if __name__ == "__main__":
    main()
