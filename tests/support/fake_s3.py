"""An S3 client in memory with versions, delete markers and multipart uploads, and faults that a test asks for."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from botocore.exceptions import ClientError

Fault = Callable[[str, int], str | None]


class FakeS3:
    """What the store's class asks of a client. ``fault`` is asked of each deletion: a code, ``silent``, or None."""

    def __init__(self, *, versioned: bool = True) -> None:
        self.versioned = versioned
        self.keys: dict[str, list[dict[str, Any]]] = {}
        self.uploads: dict[str, tuple[str, datetime]] = {}
        self.locks: dict[str, datetime] = {}
        self.object_lock = False
        self.deny_versions = False
        self.fault: Fault = lambda key, attempt: None
        self.request_fault: str | None = None
        self.calls: list[str] = []
        self.now = datetime(2026, 6, 1, tzinfo=UTC)
        self._ids = itertools.count(1)
        self._attempts: dict[str, int] = {}

    # --- what a test looks at ---------------------------------------------------------------------

    def add(self, key: str, body: bytes, *, modified: datetime | None = None) -> None:
        self._put(key, {"Body": body, "LastModified": modified or self.now})

    def visible(self) -> set[str]:
        return {key for key in self.keys if self._latest(key) is not None}

    # --- the client -------------------------------------------------------------------------------

    def put_object(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("put")
        key = arguments["Key"]
        if arguments.get("IfNoneMatch") == "*" and self._latest(key) is not None:
            raise error("PreconditionFailed")
        self._put(key, {"Body": arguments["Body"], "LastModified": self.now})
        return {}

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("get")
        return {"Body": BytesIO(self._need(arguments["Key"])["Body"])}

    def head_object(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("head")
        found = self._need(arguments["Key"])
        answer = {
            "ContentLength": len(found["Body"]),
            "LastModified": found["LastModified"],
            "ETag": '"x"',
            "VersionId": found["VersionId"],
        }
        until = self.locks.get(arguments["Key"])
        if until is not None:
            answer |= {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        return answer

    def delete_object(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("delete")
        self._delete(arguments["Key"], arguments.get("VersionId"))
        return {}

    def delete_objects(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("delete")
        if self.request_fault is not None:
            raise error(self.request_fault)
        errors = []
        for target in arguments["Delete"]["Objects"]:
            key, version = target["Key"], target.get("VersionId")
            self._attempts[key] = self._attempts.get(key, 0) + 1
            code = self.fault(key, self._attempts[key])
            if version is not None and (self.deny_versions or self.locks.get(key, self.now) > self.now):
                code = "AccessDenied"
            if code is None:
                self._delete(key, version)
            elif code != "silent":
                errors.append({"Key": key, "Code": code, "Message": "as the test wants"})
        return {"Errors": errors}

    def get_object_lock_configuration(self, **arguments: Any) -> dict[str, Any]:
        if not self.object_lock:
            raise error("ObjectLockConfigurationNotFoundError")
        return {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}

    def abort_multipart_upload(self, **arguments: Any) -> dict[str, Any]:
        if self.fault(arguments["Key"], 1) != "silent":
            self.uploads.pop(arguments["UploadId"], None)
        return {}

    def list_objects_v2(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append("list")
        return next(iter(self._objects(**arguments)))

    def get_paginator(self, name: str) -> Any:
        pages = {
            "list_objects_v2": self._objects,
            "list_object_versions": self._versions,
            "list_multipart_uploads": self._uploads,
        }[name]
        return type("Paginator", (), {"paginate": staticmethod(pages)})

    # --- inside -----------------------------------------------------------------------------------

    def _objects(self, *, Prefix: str, **more: Any) -> Iterator[dict[str, Any]]:  # noqa: N803 - the API's name
        after, limit = more.get("StartAfter", ""), more.get("MaxKeys", 1000)
        keys = sorted(key for key in self.visible() if key.startswith(Prefix) and key > after)
        if more.get("Delimiter"):
            folders = sorted({key[len(Prefix) :].split("/")[0] for key in keys if "/" in key[len(Prefix) :]})
            yield {"CommonPrefixes": [{"Prefix": f"{Prefix}{name}/"} for name in folders]}
            return
        for start in range(0, max(len(keys), 1), limit):
            self.calls.append("list")
            yield {"Contents": [self._listed(key) for key in keys[start : start + limit]]}

    def _listed(self, key: str) -> dict[str, Any]:
        found = self._need(key)
        digest = hashlib.sha256(found["Body"]).hexdigest()
        return {"Key": key, "Size": len(found["Body"]), "LastModified": found["LastModified"], "ETag": digest}

    def _versions(self, *, Prefix: str, KeyMarker: str = "", **more: Any) -> Iterator[dict[str, Any]]:  # noqa: N803
        self.calls.append("list")
        page: dict[str, Any] = {"Versions": [], "DeleteMarkers": []}
        for key in sorted(self.keys):
            if key.startswith(Prefix) and key > KeyMarker:
                for place, version in enumerate(reversed(self.keys[key])):
                    entry = {"Key": key, "VersionId": version["VersionId"], "IsLatest": place == 0}
                    page["DeleteMarkers" if version.get("Marker") else "Versions"].append(entry)
        yield page

    def _uploads(self, *, Prefix: str, **more: Any) -> Iterator[dict[str, Any]]:  # noqa: N803
        yield {
            "Uploads": [
                {"Key": key, "UploadId": upload_id, "Initiated": since}
                for upload_id, (key, since) in self.uploads.items()
                if key.startswith(Prefix)
            ]
        }

    def _put(self, key: str, version: dict[str, Any]) -> None:
        version["VersionId"] = f"v{next(self._ids)}" if self.versioned else "null"
        kept = self.keys.get(key, []) if self.versioned else []
        self.keys[key] = [*kept, version]

    def _delete(self, key: str, version_id: str | None) -> None:
        if version_id is None and self.versioned:
            self._put(key, {"Marker": True})
            return
        kept = [one for one in self.keys.get(key, []) if one["VersionId"] != (version_id or "null")]
        self.keys[key] = kept
        if not kept:
            del self.keys[key]

    def _latest(self, key: str) -> dict[str, Any] | None:
        versions = self.keys.get(key, [])
        return versions[-1] if versions and not versions[-1].get("Marker") else None

    def _need(self, key: str) -> dict[str, Any]:
        found = self._latest(key)
        if found is None:
            raise error("NoSuchKey")
        return found


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "x"}}, "Fake")
