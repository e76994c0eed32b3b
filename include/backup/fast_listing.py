"""Listings of objects, parsed by who knows them: botocore's own parser takes a tenth of a millisecond for each object.

A million segments of the log are a thousand pages, and with botocore alone almost two minutes of parsing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

OPERATION = "before-parse.s3.ListObjectsV2"
_KEY = re.compile(rb"<Contents>\s*<Key>([^<]+)</Key>")
_BEGIN, _END = b"<Contents>", b"</Contents>"
_local = threading.local()


def speed_up_listings(s3: Any) -> None:
    """Let a client take the objects of ListObjectsV2 out itself; everything else of an answer is left to botocore.

    botocore has looked before whether the answer is an error, or was cut off.
    """
    s3.meta.events.register(OPERATION, take_contents)


@contextmanager
def keys_only() -> Iterator[None]:
    """Within it, this thread's listings have objects that are nothing but their keys."""
    _local.keys_only = True
    try:
        yield
    finally:
        _local.keys_only = False


def take_contents(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the objects out of an answer; one that is not as expected is left whole, for botocore to read."""
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    body = response_dict["body"]
    found = _keys(body) if getattr(_local, "keys_only", False) else None
    found = found or _objects(body)
    if found is not None:
        customized_response_dict["Contents"], response_dict["body"] = found


def _keys(body: bytes) -> tuple[list[dict[str, Any]], bytes] | None:
    """Return the keys and the rest of an answer, None where it is written in another way than S3 writes it."""
    keys = _KEY.findall(body)
    if not keys or len(keys) != body.count(_BEGIN) or b"&#" in body or b"<!" in body:
        return None
    first, last = body.index(_BEGIN), body.rindex(_END) + len(_END)
    if body.count(_END + _BEGIN, first, last) != len(keys) - 1:
        return None  # something else stands between two objects
    try:
        return [{"Key": unescape(key.decode())} for key in keys], body[:first] + body[last:]
    except UnicodeDecodeError:
        return None


def _objects(body: bytes) -> tuple[list[dict[str, Any]], bytes] | None:
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - as botocore does, from the same server
        namespace = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
        contents = [_object(element, namespace) for element in root.findall(f"{namespace}Contents")]
    except (ElementTree.ParseError, ValueError, TypeError):
        return None
    if not contents:
        return None
    root[:] = [child for child in root if child.tag != f"{namespace}Contents"]
    return contents, ElementTree.tostring(root)


def _object(element: ElementTree.Element, namespace: str) -> dict[str, Any]:
    """Return an object under botocore's names; raises ValueError for one that lacks something."""
    fields = {child.tag.removeprefix(namespace): child.text for child in element}
    key, etag, modified, size = (fields.get(name) for name in ("Key", "ETag", "LastModified", "Size"))
    if not key or etag is None or modified is None or size is None:
        raise ValueError("an object of the listing lacks a field")
    moment = datetime.fromisoformat(modified)
    if moment.tzinfo is None:
        raise ValueError("a time of the listing has no zone")
    found = {"Key": key, "ETag": etag, "LastModified": moment, "Size": int(size)}
    storage_class = fields.get("StorageClass")
    return found if storage_class is None else {**found, "StorageClass": storage_class}
