"""JSON records: what is written is read again, and nothing else is read as if it had been written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import strategies as st

from include.backup.errors import FormatVersionError, ManifestError
from include.backup.proof.record import Proof, read_proof
from include.backup.records import from_json, to_json
from tests.support.builders import make_proof
from tests.support.properties import given

NAME = "proofs/x.json"


@dataclass(frozen=True, kw_only=True)
class Inner:
    count: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Outer:
    text: str
    maybe: str | None
    inner: Inner
    many: tuple[Inner, ...]
    names: dict[str, int]
    texts: tuple[str, ...]
    flag: bool
    when: datetime


# Lone surrogates stand for bytes of a database that is not in UTF-8.
TEXT = st.text(
    st.characters(exclude_categories=("Cs",))
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=("Cs",)),
    max_size=20,
)
INNER = st.builds(Inner, count=st.integers(), share=st.floats(allow_nan=False, allow_infinity=False))
OUTER = st.builds(
    Outer,
    text=TEXT,
    maybe=st.none() | TEXT,
    inner=INNER,
    many=st.lists(INNER, max_size=3).map(tuple),
    names=st.dictionaries(TEXT, st.integers(), max_size=3),
    texts=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    flag=st.booleans(),
    when=st.datetimes(timezones=st.just(UTC)),
)


def read(content: bytes) -> Outer:
    return from_json(Outer, content, format_version=1, name=NAME)


def some(**changes: Any) -> dict[str, Any]:
    inner = {"count": 1, "share": 0.5}
    values: dict[str, Any] = {
        "format_version": 1,
        "text": "t",
        "maybe": None,
        "inner": inner,
        "many": [inner],
        "names": {"a": 1},
        "texts": ["a"],
        "flag": True,
        "when": "2026-05-11T02:00:00Z",
    }
    return {**values, **changes}


@given(OUTER)
def test_what_is_written_is_read_again(record: Outer) -> None:
    assert read(to_json(record, format_version=1)) == record


def test_times_are_written_in_utc() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    record = replace(read(json.dumps(some()).encode()), when=datetime(2026, 1, 1, 5, 45, tzinfo=kathmandu))
    assert json.loads(to_json(record, format_version=1))["when"] == "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"null", b'"text"', b"{}"])
def test_what_is_no_record_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(ManifestError, match=f"^{NAME} (is not valid JSON|has no format_version)"):
        read(content)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5])
def test_an_unknown_version_is_refused_with_what_to_do(version: object) -> None:
    with pytest.raises(FormatVersionError, match=r"format_version .* this version reads 1; use the version") as error:
        read(json.dumps(some(format_version=version)).encode())
    assert NAME in str(error.value)


@pytest.mark.parametrize("field", sorted(set(some()) - {"format_version"}))
def test_a_missing_field_is_refused_by_name(field: str) -> None:
    values = some()
    del values[field]
    with pytest.raises(ManifestError, match=f"^{NAME} is not a complete Outer .*{field}"):
        read(json.dumps(values).encode())


@dataclass(frozen=True, kw_only=True)
class Grown:
    text: str
    added_later: tuple[str, ...] = ()


def test_a_record_of_before_a_field_was_added_is_read_without_it() -> None:
    assert from_json(Grown, b'{"format_version": 1, "text": "x"}', format_version=1, name=NAME) == Grown(text="x")
    with pytest.raises(ManifestError, match="text"):
        from_json(Grown, b'{"format_version": 1, "added_later": []}', format_version=1, name=NAME)


@pytest.mark.parametrize("values", [some(surprise=1), some(inner={"count": 1, "share": 1.0, "surprise": 2})])
def test_an_unknown_field_is_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=r"unknown fields \['surprise'\]"):
        read(json.dumps(values).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"text": 1},
        {"text": None},
        {"maybe": 1},
        {"inner": None},
        {"inner": []},
        {"inner": {"count": 1.5, "share": 1.0}},
        {"inner": {"count": True, "share": 1.0}},
        {"inner": {"count": 1, "share": "1"}},
        {"many": None},
        {"many": "ab"},
        {"many": {"count": 1}},
        {"names": []},
        {"texts": "ab"},
        {"names": {"a": "1"}},
        {"flag": 1},
        {"flag": "true"},
        {"when": "2026-05-11T02:00:00"},
        {"when": "yesterday"},
        {"when": 5},
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=f"^{NAME} is not a complete Outer"):
        read(json.dumps(some(**changes)).encode())


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert read(json.dumps(some(inner={"count": 1, "share": 2})).encode()).inner.share == 2.0


def test_a_proof_is_read_again() -> None:
    proof = make_proof()
    assert read_proof(proof.to_json(), name=NAME) == proof
    assert proof.rows == 1
    assert str(proof.differences[0]) == "rows public.users: one is gone"


@pytest.mark.parametrize(
    ("field", "value"), [("result", "green"), ("level", "half"), ("tables", [{"table": "x"}]), ("isolation", None)]
)
def test_a_proof_that_says_what_no_proof_says_is_refused(field: str, value: object) -> None:
    values = {**json.loads(make_proof().to_json()), field: value}
    with pytest.raises(ManifestError, match=f"{NAME} is not a complete {Proof.__name__}"):
        read_proof(json.dumps(values).encode(), name=NAME)
