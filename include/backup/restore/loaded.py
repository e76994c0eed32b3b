"""How far the load of a restore in place came: a later try must not take its rows for what others have written."""

from __future__ import annotations

from dataclasses import dataclass

from include.backup.approval import Approval
from include.backup.records import from_json, to_json
from include.backup.restore.context import RestoreContext
from include.backup.restore.order import RestoreOrder, record_key

FORMAT_VERSION = 1
LOADING = "loading"
LOADED = "loaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """That a load of a run has begun; whether it was committed, only a server knows."""

    seal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """That an order's load was committed: by whose yes, and what it gave up."""

    seal: str
    approval: Approval | None
    unsaved: tuple[str, ...]


def keep_begun(ctx: RestoreContext, order: RestoreOrder, seal: str) -> None:
    """Write down that a load begins; of several the last counts."""
    content = to_json(Begun(seal=seal), format_version=FORMAT_VERSION)
    ctx.store.replace(record_key(order.restore_id, LOADING), content, encryption=ctx.encryption)


def has_begun(ctx: RestoreContext, order: RestoreOrder) -> bool:
    """Say whether a load of this run has begun before, of whatever order."""
    return ctx.store.head(record_key(order.restore_id, LOADING)) is not None


def keep_loaded(ctx: RestoreContext, order: RestoreOrder, loaded: Loaded) -> None:
    """Write down that a load was committed."""
    content = to_json(loaded, format_version=FORMAT_VERSION)
    ctx.store.put_if_absent(_key(order, loaded.seal), content, encryption=ctx.encryption)


def read_loaded(ctx: RestoreContext, order: RestoreOrder, seal: str) -> Loaded | None:
    """Return what an earlier try of this very order has committed, or None."""
    key = _key(order, seal)
    if ctx.store.head(key) is None:
        return None
    return from_json(Loaded, ctx.store.get(key), format_version=FORMAT_VERSION, name=key)


def _key(order: RestoreOrder, seal: str) -> str:
    return record_key(order.restore_id, f"{LOADED}-{seal[:16]}")
