"""The object store: S3 and whatever speaks its API. The store is the catalogue; nothing is kept elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import Loader
from botocore.session import Session

from include.backup.errors import (
    BucketMissingError,
    KmsKeyError,
    ObjectColdError,
    ObjectDiffersError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectShortError,
    StoreDeniedError,
    StoreError,
    StoreUnreachableError,
)
from include.backup.fast_listing import keys_only, speed_up_listings

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient
    from types_boto3_s3 import S3Client
    from types_boto3_s3.literals import StorageClassType

    from include.backup.connections import StoreConnection

READ_CHUNK_BYTES = 1 << 18
READ_ATTEMPTS = 4
# Small objects that are read at a time where there are many: each needs a connection of its own.
SMALL_READS = 16
WRITE_ATTEMPTS = 5
_MISSING = {"404", "NoSuchKey", "NotFound"}
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_KMS = {"KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException", "NotFoundException"}


@lru_cache(maxsize=1)
def _service_models() -> Loader:
    """Return what reads the descriptions of AWS's services: once, since they are a megabyte of JSON."""
    loader: Loader = Session().get_component("data_loader")
    return loader


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """Server-side encryption asked of the store: ``aws:kms`` with a key, ``AES256``, or none."""

    algorithm: str | None
    kms_key_arn: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a PUT."""
        if self.algorithm is None:
            return {}
        key = {"SSEKMSKeyId": self.kms_key_arn} if self.kms_key_arn else {}
        return {"ServerSideEncryption": self.algorithm, **key}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What the store says of an object; size in bytes, checksum as S3 writes it (base64[-parts])."""

    key: str
    size: int
    modified: datetime
    etag: str
    checksum: str | None = None
    storage_class: str = "STANDARD"
    encryption: str | None = None
    kms_key_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectLock:
    """Until when an object's version cannot be deleted; ``mode`` is GOVERNANCE or COMPLIANCE."""

    mode: str
    until: datetime

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a PUT."""
        return {"ObjectLockMode": self.mode, "ObjectLockRetainUntilDate": self.until}


class ObjectStore:
    """One bucket."""

    _object_lock: bool | None = None

    def __init__(self, *, s3: S3Client, kms: KMSClient, bucket: str) -> None:
        self.s3 = s3
        self._kms = kms
        self.bucket = bucket

    @classmethod
    def connect(cls, connection: StoreConnection, *, bucket: str, concurrency: int = 4) -> ObjectStore:
        """Make the clients; nothing is sent yet."""
        core = Session()
        core.register_component("data_loader", _service_models())
        session = boto3.Session(
            aws_access_key_id=connection.access_key or None,
            aws_secret_access_key=str(connection.secret_key) if connection.secret_key else None,
            region_name=connection.region,
            botocore_session=core,
        )
        config = Config(
            retries={"mode": "standard", "max_attempts": 5},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=max(concurrency, SMALL_READS) + 2,
            s3={
                "addressing_style": "path" if connection.endpoint_url else "auto",
                # Over TLS the signature covers x-amz-checksum-sha256, and that the body: it need not be hashed twice.
                "payload_signing_enabled": (connection.endpoint_url or "https:").startswith("http:"),
            },
        )
        common: dict[str, Any] = {
            "endpoint_url": connection.endpoint_url or None,
            "verify": connection.ca_bundle or None,
            "config": config,
        }
        s3 = session.client("s3", **common)
        speed_up_listings(s3)
        return cls(s3=s3, kms=session.client("kms", **common), bucket=bucket)

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def check_bucket(self) -> None:
        """Raise BucketMissingError, StoreDeniedError or StoreUnreachableError unless the bucket answers."""
        with self.errors("", "look at the bucket"):
            try:
                self.s3.head_bucket(Bucket=self.bucket)
            except ClientError as error:
                if _code(error) in _MISSING | {"NoSuchBucket"}:
                    raise self._bucket_missing() from error
                raise

    def kms_key_arn(self, key_id: str) -> str:
        """Return the ARN of an enabled key; raises KmsKeyError.

        Asked of KMS itself, since not every S3 server refuses a PUT with an unknown key.
        """
        advice = "make the key (or correct encryption.kms_key_id in the policy) and retry"
        try:
            key = self._kms.describe_key(KeyId=key_id)["KeyMetadata"]
        except ClientError as error:
            if _code(error) in _DENIED | {"AccessDeniedException"}:
                raise StoreDeniedError(
                    f"no permission to describe the KMS key {key_id}; allow kms:DescribeKey"
                ) from error
            raise KmsKeyError(f"the KMS key {key_id} cannot be used ({_code(error)}); {advice}") from error
        except (BotoConnectionError, HTTPClientError) as error:
            raise StoreUnreachableError(f"KMS does not answer ({error}); check the endpoint and retry") from error
        if key.get("KeyState", "Enabled") != "Enabled":
            raise KmsKeyError(f"the KMS key {key_id} is {key['KeyState']}; {advice}")
        return str(key["Arn"])

    def check_put(self, key: str, encryption: Encryption) -> None:
        """Raise StoreDeniedError unless this key may be written; leaves nothing behind."""
        with self.errors(key, "write"):
            upload = self.s3.create_multipart_upload(Bucket=self.bucket, Key=key, **encryption.arguments())
            self.s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload["UploadId"])

    def head(self, key: str) -> ObjectInfo | None:
        """Return what the store says of an object, or None when it is not there."""
        with self.errors(key, "look at"):
            try:
                found = self.s3.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
        return ObjectInfo(
            key=key,
            size=found["ContentLength"],
            modified=found["LastModified"],
            etag=found["ETag"].strip('"'),
            checksum=found.get("ChecksumSHA256"),
            storage_class=found.get("StorageClass", "STANDARD"),
            encryption=found.get("ServerSideEncryption"),
            kms_key_id=found.get("SSEKMSKeyId"),
            metadata=found.get("Metadata", {}),
        )

    def get(self, key: str) -> bytes:
        """Return a small object whole; raises ObjectMissingError."""
        with self.errors(key, "read"):
            return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``offset``; a broken connection goes on where it stopped.

        Raises ObjectShortError when the object ends before that.
        """
        done = attempt = 0
        while done < length:
            before = done
            try:
                for chunk in self._read_once(key, offset + done, length - done):
                    done += len(chunk)
                    yield chunk
            except StoreUnreachableError:
                attempt = attempt + 1 if done == before else 1
                if attempt >= READ_ATTEMPTS:
                    raise
            else:
                if done < length:
                    raise ObjectShortError(
                        f"{self.url(key)} ends at byte {offset + done}, {length - done} bytes too early; "
                        "it is damaged, use another backup"
                    )

    def put_if_absent(
        self,
        key: str,
        body: bytes,
        *,
        encryption: Encryption,
        tags: Mapping[str, str] | None = None,
        lock: ObjectLock | None = None,
        content_type: str = "application/json",
    ) -> bool:
        """Write a small object once. Return False when it was there already with the same bytes.

        Raises ObjectExistsError when it was there with other bytes.
        """
        for _ in range(WRITE_ATTEMPTS):
            if self._put_once(key, body, encryption=encryption, tags=tags, lock=lock, content_type=content_type):
                return True
            # A store that is just deciding between two writers answers as if it were there, and it may not be.
            with suppress(ObjectMissingError):
                if self.get(key) != body:
                    raise ObjectExistsError(
                        f"{self.url(key)} is already there with other content; it was left as it is"
                    )
                return False
        raise StoreError(f"{self.url(key)} is being written by others and never there; retry the task")

    def _put_once(
        self,
        key: str,
        body: bytes,
        *,
        encryption: Encryption,
        tags: Mapping[str, str] | None,
        lock: ObjectLock | None,
        content_type: str,
    ) -> bool:
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        with self.errors(key, "write"):
            try:
                self.s3.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ChecksumSHA256=checksum,
                    ContentType=content_type,
                    IfNoneMatch="*",
                    Tagging=tagging(tags),
                    **encryption.arguments(),
                    **({} if lock is None else lock.arguments()),
                )
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise
                return False
        return True

    def replace(self, key: str, body: bytes, *, encryption: Encryption) -> None:
        """Write a small object in the place of what is there: for what says how things stand now."""
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        with self.errors(key, "write"):
            self.s3.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=body,
                ChecksumSHA256=checksum,
                ContentType="application/json",
                **encryption.arguments(),
            )

    def remove(self, key: str) -> None:
        """Delete a small object that is no data; in a versioned bucket it is hidden by a delete marker."""
        with self.errors(key, "delete"):
            self.s3.delete_object(Bucket=self.bucket, Key=key)

    def has_object_lock(self) -> bool:
        """Say whether the bucket was made with Object Lock; asked once."""
        if self._object_lock is None:
            with self.errors("", "read the lock configuration of the bucket"):
                try:
                    answer = self.s3.get_object_lock_configuration(Bucket=self.bucket)
                    enabled = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
                except ClientError as error:
                    if _code(error) not in {"ObjectLockConfigurationNotFoundError", "NotImplemented"}:
                        raise
                    enabled = False
            self._object_lock = enabled
        return self._object_lock

    def page(self, prefix: str, *, start_after: str, limit: int) -> tuple[str, ...]:
        """Return at most ``limit`` keys below a prefix that come after a key, by one call."""
        with self.errors(prefix, "list"):
            answer = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix, StartAfter=start_after, MaxKeys=limit)
        return tuple(item["Key"] for item in answer.get("Contents", []))

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        sha256: bytes,
        metadata: Mapping[str, str],
        storage_class: str,
        encryption: Encryption,
        tags: Mapping[str, str] | None = None,
    ) -> bool:
        """Write a file as an object once, at most 5 GiB. Return False when there is an object of that key already."""
        with self.errors(key, "write"), path.open("rb") as body:
            try:
                self.s3.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ChecksumSHA256=base64.b64encode(sha256).decode(),
                    ContentType="application/zstd",
                    IfNoneMatch="*",
                    Metadata=dict(metadata),
                    StorageClass=cast("StorageClassType", storage_class),
                    Tagging=tagging(tags),
                    **encryption.arguments(),
                )
            except ClientError as error:
                if _code(error) not in _TAKEN:
                    raise
                return False
        return True

    def list(self, prefix: str, *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield every object below a prefix in the order of the keys, those after ``start_after``; page by page."""
        with self.errors(prefix, "list"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, StartAfter=start_after
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield ObjectInfo(
                        key=item["Key"],
                        size=item["Size"],
                        modified=item["LastModified"],
                        etag=item["ETag"].strip('"'),
                        storage_class=item.get("StorageClass", "STANDARD"),
                    )

    def keys(self, prefix: str, *, start_after: str = "") -> Iterator[str]:
        """Yield the keys that ``list`` would; a million of them in seconds."""
        with self.errors(prefix, "list"):
            pages = iter(
                self.s3.get_paginator("list_objects_v2").paginate(
                    Bucket=self.bucket, Prefix=prefix, StartAfter=start_after
                )
            )
            while True:
                # The request is made here, and nothing of the caller's.
                with keys_only():
                    page = next(pages, None)
                if page is None:
                    return
                for item in page.get("Contents", []):
                    yield item["Key"]

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names that are followed by a slash directly below a prefix, in order."""
        with self.errors(prefix, "list"):
            pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
            for page in pages:
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield the multipart uploads below a prefix that nobody completed: key, id, and when they began."""
        with self.errors(prefix, "list the unfinished uploads of"):
            pages = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Uploads", []):
                    yield item["Key"], item["UploadId"], item["Initiated"]

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an unfinished upload; one that is gone is fine."""
        with self.errors(key, "abort an unfinished upload of"):
            try:
                self.s3.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
            except ClientError as error:
                if _code(error) != "NoSuchUpload":
                    raise

    def lock_of(self, key: str) -> str | None:
        """Return what keeps the newest version of an object from being deleted, in words; None when nothing does."""
        with self.errors(key, "look at the lock of"):
            try:
                found = self.s3.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise
        if found.get("ObjectLockLegalHoldStatus") == "ON":
            return "a legal hold of the store"
        until = found.get("ObjectLockRetainUntilDate")
        if until is None or until <= datetime.now(tz=UTC):
            return None
        return f"{found.get('ObjectLockMode', '')} until {until:%Y-%m-%d %H:%M} UTC"

    def rewritten(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the keys below a prefix that were overwritten or deleted, with how many versions and markers.

        A bucket without versioning remembers nothing.
        """
        counts: dict[str, int] = {}
        with self.errors(prefix, "list the versions of"):
            pages = self.s3.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Versions", []):
                    counts[item["Key"]] = counts.get(item["Key"], 0) + 1
                for marker in page.get("DeleteMarkers", []):
                    counts[marker["Key"]] = counts.get(marker["Key"], 0) + 2
        yield from ((key, count) for key, count in counts.items() if count > 1)

    @contextmanager
    def errors(self, key: str, action: str) -> Iterator[None]:
        """Turn the client's exceptions into named errors with the object and the next step."""
        where = self.url(key)
        try:
            yield
        except ClientError as error:
            raise self._named(error, where, action) from error
        except NoCredentialsError as error:
            raise StoreDeniedError(f"no credentials to {action} {where}; fill in the store's connection") from error
        except (BotoConnectionError, HTTPClientError) as error:
            raise StoreUnreachableError(
                f"the store did not answer when asked to {action} {where} ({error}); check the endpoint and retry"
            ) from error
        except BotoCoreError as error:
            raise StoreError(f"cannot {action} {where}: {error}") from error

    def _named(self, error: ClientError, where: str, action: str) -> StoreError:
        code = _code(error)
        if code == "NoSuchBucket":
            return self._bucket_missing()
        if code in _MISSING:
            return ObjectMissingError(
                f"{where} is not there; run `python -m include.backup list SOURCE` to see what is"
            )
        if code in _DENIED:
            return StoreDeniedError(
                f"the store refused to {action} {where} ({code}); check the access key and its policy"
            )
        if code == "InvalidObjectState":
            return ObjectColdError(
                f"{where} lies in a storage class that cannot be read at once, so it was not possible to {action} it; "
                "have it thawed (`python -m include.backup thaw SOURCE BACKUP_ID`, hours to two days), or use a backup "
                "of another tier"
            )
        if code in _KMS:
            return KmsKeyError(f"the store cannot use the KMS key to {action} {where} ({code}); check the key")
        if code in {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"}:
            return ObjectDiffersError(f"{where}: the store received other bytes than were sent; retry the task")
        return StoreError(f"cannot {action} {where} ({code}): {error.response['Error'].get('Message', '')}")

    def _bucket_missing(self) -> BucketMissingError:
        return BucketMissingError(
            f"the bucket {self.bucket} does not exist; make it, or correct the policy's store.bucket"
        )

    def _read_once(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        with self.errors(key, "read"):
            answer = self.s3.get_object(Bucket=self.bucket, Key=key, Range=f"bytes={offset}-{offset + length - 1}")
            yield from answer["Body"].iter_chunks(READ_CHUNK_BYTES)


def tagging(tags: Mapping[str, str] | None) -> str:
    """Return tags as the x-amz-tagging header wants them.

    >>> tagging({"source": "pulse_messages", "tier": "daily"})
    'source=pulse_messages&tier=daily'
    """
    return urlencode(tags or {})


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
