"""Small JSON objects with a ``format_version``: manifests, proofs, and what steps leave for the next one."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

from include.backup.errors import FormatVersionError, ManifestError

Record = TypeVar("Record")


def to_json(record: Any, *, format_version: int) -> bytes:
    """Return a frozen dataclass as readable JSON, times as ISO 8601 in UTC.

    Names that are not UTF-8 are held as lone surrogates, which only JSON's own escapes can carry.
    """
    content = {"format_version": format_version, **_plain(record)}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def from_json(kind: type[Record], content: bytes, *, format_version: int, name: str) -> Record:
    """Read what ``to_json`` wrote.

    Raises FormatVersionError for a version that this code does not know, ManifestError for anything that is
    not such a record; both name the object.
    """
    try:
        data = json.loads(content)
    except ValueError as error:
        raise ManifestError(f"{name} is not valid JSON ({error}); it is damaged, use another backup") from error
    if not isinstance(data, dict) or "format_version" not in data:
        raise ManifestError(f"{name} has no format_version; it was not written by this project")
    found = data.pop("format_version")
    if type(found) is not int or found != format_version:
        raise FormatVersionError(
            f"{name} has format_version {found!r} and this version reads {format_version}; "
            "use the version of this project that wrote it, or a newer one"
        )
    try:
        return cast(Record, _build(kind, data, name))
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{name} is not a complete {kind.__name__} ({error!r}); it is damaged") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        (inner,) = (item for item in typing.get_args(kind) if item is not type(None))
        return _build(inner, value, where)
    if origin is tuple:
        _expect(list, value)
        return tuple(_build(typing.get_args(kind)[0], item, where) for item in value)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        _expect(dict, value)
        return {key: _build(typing.get_args(kind)[1], item, where) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _build_record(cast(type, kind), value, where)
    return _scalar(kind, value)


def _build_record(kind: type, value: Any, where: str) -> Any:
    _expect(dict, value)
    fields = _fields(kind)
    if unknown := set(value) - set(fields):
        raise ValueError(f"unknown fields {sorted(unknown)}")
    # A field with a default is one that was added later: records of before are read without it.
    return kind(
        **{
            name: _build(field.hint, value[name], where)
            for name, field in fields.items()
            if name in value or not field.has_default
        }
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    hint: Any
    has_default: bool


@cache
def _fields(kind: type) -> Mapping[str, _Field]:
    """Return the fields of a kind of record; once, since looking their types up takes longer than all else."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: _Field(hint=hints[field.name], has_default=_has_default(field))
        for field in dataclasses.fields(kind)
    }


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _expect(kind: type, value: Any) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {'list' if kind is list else 'mapping'}")


def _scalar(kind: Any, value: Any) -> Any:
    if kind is datetime:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return moment
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (str, int, float, bool) and type(value) is not kind:
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value
