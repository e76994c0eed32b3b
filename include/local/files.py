"""The sample's files: an object for each row of storage.objects, with the size and the ETag that the row says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

FILES_BUCKET = "attachments"
CONCURRENCY = 8
_ROWS = """
SELECT name, (metadata->>'size')::bigint, metadata->>'mimetype', owner::text
FROM storage.objects WHERE bucket_id = %s ORDER BY name
"""


def file_content(name: str, size: int) -> bytes:
    """Return a sample file; the sample's SQL computes the same bytes for its ETag.

    >>> file_content("a", 5)
    b'0cc17'
    """
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest().encode()
    return (digest * (size // len(digest) + 1))[:size]


def upload_files(s3: S3Client, conninfo: str) -> int:
    """Upload the files that the bucket lacks; return how many those were."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=FILES_BUCKET)
    there = {item["Key"] for page in pages for item in page.get("Contents", [])}
    missing = [row for row in _rows(conninfo) if row[0] not in there]

    def put(row: tuple[str, int, str, str | None]) -> None:
        name, size, content_type, owner = row
        metadata = {} if owner is None else {"owner": owner}
        s3.put_object(
            Bucket=FILES_BUCKET,
            Key=name,
            Body=file_content(name, size),
            ContentType=content_type,
            CacheControl="max-age=3600",
            Metadata=metadata,
        )

    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="file") as pool:
        list(pool.map(put, missing))
    return len(missing)


def _rows(conninfo: str) -> Iterator[tuple[str, int, str, str | None]]:
    with psycopg.connect(conninfo) as connection:
        yield from connection.execute(_ROWS, (FILES_BUCKET,))
