"""Which backups are being read right now, so that a cleanup keeps them: a small object for each reader, with an end."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta

from include.backup.errors import ObjectMissingError, StoreError
from include.backup.manifest import Manifest
from include.backup.store import Encryption, ObjectStore

ROOT = "in_use/"
LONGEST = timedelta(hours=48)
_TIME = "%Y%m%dT%H%M%SZ"

logger = logging.getLogger(__name__)


def in_use_prefix(source: str) -> str:
    """Return where the readers of a source's backups leave their marks."""
    return f"{ROOT}{source}/"


@contextmanager
def reading(
    store: ObjectStore,
    manifest: Manifest,
    *,
    what: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    longest: timedelta = LONGEST,
) -> Iterator[None]:
    """Keep a backup from being deleted while it is read; a reader that dies lets go when its time is over.

    Whoever may only read the bucket can restore all the same: then only a warning says that nothing is kept.
    """
    until = (clock() + longest).astimezone(UTC)
    key = f"{in_use_prefix(manifest.source)}{manifest.backup_id}/{until:{_TIME}}_{secrets.token_hex(4)}.json"
    encryption = Encryption(
        algorithm=None if manifest.archive.encryption == "none" else manifest.archive.encryption,
        kms_key_arn=manifest.archive.kms_key_arn,
    )
    marked = False
    try:
        store.put_if_absent(key, json.dumps({"what": what}).encode(), encryption=encryption)
        marked = True
    except StoreError as error:
        logger.warning("a cleanup may delete %s while it is read: %s", manifest.backup_id, error)
    try:
        yield
    finally:
        if marked:
            with suppress(StoreError):
                store.remove(key)


@contextmanager
def reading_all(
    store: ObjectStore,
    manifests: Iterable[Manifest],
    *,
    what: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[None]:
    """Keep several backups from being deleted while they are read: one and all that it needs."""
    with ExitStack() as stack:
        for manifest in manifests:
            stack.enter_context(reading(store, manifest, what=what, clock=clock))
        yield


def backups_in_use(store: ObjectStore, source: str, now: datetime) -> Mapping[str, str]:
    """Return the backups that somebody reads, with what for; a mark that cannot be read counts."""
    prefix = in_use_prefix(source)
    found: dict[str, str] = {}
    for item in store.list(prefix):
        backup_id, _, name = item.key.removeprefix(prefix).partition("/")
        until = _until(name)
        if until is not None and until <= now:
            continue
        with suppress(ObjectMissingError):
            found[backup_id] = f"being read by {_what(store.get(item.key))}"
    return found


def stale_marks(store: ObjectStore, source: str, now: datetime) -> tuple[str, ...]:
    """Return the marks of readers that died: their time is over."""
    ended = ((item.key, _until(item.key.rpartition("/")[2])) for item in store.list(in_use_prefix(source)))
    return tuple(key for key, until in ended if until is not None and until <= now)


def _until(name: str) -> datetime | None:
    try:
        return datetime.strptime(name.partition("_")[0], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _what(content: bytes) -> str:
    try:
        return str(json.loads(content)["what"])
    except (ValueError, KeyError, TypeError):
        return "somebody"
