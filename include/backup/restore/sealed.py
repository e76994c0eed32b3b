"""Orders in the store, each below its restore and found by its seal: what is done is what was shown."""

from __future__ import annotations

from typing import Protocol, TypeVar

from include.backup.approval import seal_of
from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.records import from_json
from include.backup.store import Encryption, ObjectStore

PREFIX = "restores"
FORMAT_VERSION = 1
NO_REASON = "no reason was given"


class Order(Protocol):
    """What exactly a restore is to do."""

    @property
    def restore_id(self) -> str: ...

    def to_json(self) -> bytes: ...


AnOrder = TypeVar("AnOrder", bound=Order)


def order_key(restore_id: str, seal: str) -> str:
    """Return where an order lies in the store."""
    return f"{PREFIX}/{restore_id}/order-{seal[:16]}.json"


def keep_order(store: ObjectStore, order: Order, *, encryption: Encryption) -> str:
    """Write an order down; return its seal, by which the steps find it again."""
    content = order.to_json()
    seal = seal_of(content)
    store.put_if_absent(order_key(order.restore_id, seal), content, encryption=encryption)
    return seal


def read_order(store: ObjectStore, kind: type[AnOrder], restore_id: str, seal: str) -> AnOrder:
    """Return an order; raises RestoreRefusedError when what lies there is not what the seal is of."""
    if len(seal) != 64 or any(letter not in "0123456789abcdef" for letter in seal):
        raise ParameterError(f"{seal!r} is no seal of an order; trigger a new run")
    key = order_key(restore_id, seal)
    content = store.get(key)
    if seal_of(content) != seal:
        raise RestoreRefusedError(f"{store.url(key)} is not what was shown and agreed to; trigger a new run")
    order = from_json(kind, content, format_version=FORMAT_VERSION, name=key)
    if order.restore_id != restore_id:
        raise RestoreRefusedError(f"{store.url(key)} is the order of another restore; trigger a new run")
    return order
