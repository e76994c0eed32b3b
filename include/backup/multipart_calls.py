"""The store's calls for an object in parts, each with its SHA-256: whoever uploads or copies in parts makes them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import IO, Any

from botocore.exceptions import ClientError

from include.backup.errors import ObjectExistsError
from include.backup.store import Encryption, ObjectStore, tagging

# Only an object that is not there yet may come into being.
IF_ABSENT: Mapping[str, str] = {"IfNoneMatch": "*"}


def begin(
    store: ObjectStore, key: str, *, storage_class: str, encryption: Encryption, tags: Mapping[str, str], what: str
) -> str:
    """Begin an object in parts; return the upload's id. ``what`` is what an error says that could not be begun."""
    with store.errors(key, f"begin {what}"):
        answer = store.s3.create_multipart_upload(
            Bucket=store.bucket,
            Key=key,
            ChecksumAlgorithm="SHA256",
            ContentType="application/x-tar",
            StorageClass=storage_class,  # type: ignore[arg-type]
            Tagging=tagging(tags),
            **encryption.arguments(),
        )
    return answer["UploadId"]


def put_part(
    store: ObjectStore, key: str, upload_id: str, number: int, body: bytes | IO[bytes], *, length: int, checksum: str
) -> str:
    """Send one part; return its ETag. The store refuses a body that has not this SHA-256."""
    with store.errors(key, "upload a part of"):
        return store.s3.upload_part(
            Bucket=store.bucket,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=body,
            ContentLength=length,
            ChecksumSHA256=checksum,
        )["ETag"]


def part_entry(number: int, *, etag: str, checksum: str) -> dict[str, Any]:
    """Return a part as the completion names it."""
    return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}


def complete(
    store: ObjectStore,
    key: str,
    upload_id: str,
    parts: Sequence[Mapping[str, Any]],
    *,
    guard: Mapping[str, str] = IF_ABSENT,
) -> None:
    """Make the object of its parts; raises ObjectExistsError when somebody else wrote it, as ``guard`` notices.

    An object of exactly these parts that was absent before is this one: the client asks again when an answer is lost.
    """
    conditions: Any = dict(guard)
    entries: Any = list(parts)
    with store.errors(key, "complete"):
        try:
            store.s3.complete_multipart_upload(
                Bucket=store.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": entries}, **conditions
            )
        except ClientError as error:
            if error.response["Error"].get("Code") not in {"PreconditionFailed", "412"}:
                raise
            if guard is IF_ABSENT and _is_made(store, key, parts):
                store.abort(key, upload_id)
                return
            raise ObjectExistsError(
                f"{store.url(key)} was written by another run meanwhile; it was left as it is"
            ) from error


def _is_made(store: ObjectStore, key: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    there = store.head(key)
    known = all("ChecksumSHA256" in part for part in parts)
    return known and there is not None and there.checksum == composite_of(parts)


def part_checksum(digest: bytes) -> str:
    """Return a part's SHA-256 as the store has it.

    >>> part_checksum(hashlib.sha256(b"").digest())
    '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return base64.b64encode(digest).decode()


def composite(digests: Sequence[bytes]) -> str:
    """Return S3's checksum of a multipart object: the SHA-256 of the parts' SHA-256, and their number.

    >>> composite([hashlib.sha256(b"").digest()])
    'Xfbg4nYTWdMKgnUFjimfzAOBU0VF9Vz0PkGYP11MlFY=-1'
    """
    return f"{part_checksum(hashlib.sha256(b''.join(digests)).digest())}-{len(digests)}"


def composite_of(parts: Sequence[Mapping[str, Any]]) -> str:
    """Return the composite checksum of parts as the completion names them."""
    return composite([base64.b64decode(part["ChecksumSHA256"]) for part in parts])
