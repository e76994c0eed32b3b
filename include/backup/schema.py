"""Check plain values against a JSON Schema, and say in words what is wrong and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from include.backup.yaml_document import KeyPath, Problem, line_of

_KINDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def check(
    data: Any,
    schema: Mapping[str, Any],
    *,
    lines: Mapping[KeyPath, int],
    at: KeyPath = (),
    show_values: bool = True,
) -> list[Problem]:
    """Return what is wrong with ``data``, which stands at ``at`` of the document.

    A schema's ``description`` says what a pattern or range allows. Without ``show_values`` no value of the
    document gets into a text.
    """
    errors = Draft202012Validator(schema).iter_errors(data)
    return [problem for error in errors for problem in _problems(error, lines, at, show_values)]


def _problems(error: ValidationError, lines: Mapping[KeyPath, int], at: KeyPath, show_values: bool) -> list[Problem]:
    path: KeyPath = (*at, *error.absolute_path)
    if error.validator == "additionalProperties":
        allowed = ", ".join(_known(error))
        return [
            _problem(lines, (*path, key), f"unknown key {key!r}{_within(path)}; allowed: {allowed}")
            for key in _unknown_keys(error)
        ]
    if error.validator == "required":
        # jsonschema reports each missing key on its own and names it only in its message
        key = error.message.split("'")[1]
        return [_problem(lines, path, f"{_shown(path)} lacks {key!r}")]
    return [_problem(lines, path, f"{_shown(path)} {_value_text(error, show_values)}")]


def _value_text(error: ValidationError, show_values: bool) -> str:
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    found = f"is {error.instance!r}; " if show_values and not isinstance(error.instance, dict | list) else ""
    value: Any = error.validator_value
    if error.validator == "type":
        kinds = [value] if isinstance(value, str) else value
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        hint = f" ({schema['description']})" if "description" in schema else ""
        return f"{found}it must be {wanted}{hint}"
    if error.validator == "enum":
        return f"{found}allowed: {', '.join(str(item) for item in value)}"
    if error.validator == "const":
        return f"{found}allowed: {value}"
    return f"{found}allowed: {schema.get('description', error.validator)}"


def _unknown_keys(error: ValidationError) -> list[str]:
    instance: Any = error.instance
    return [key for key in instance if key not in _known(error)]


def _known(error: ValidationError) -> list[str]:
    return list(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else []


def _within(path: KeyPath) -> str:
    return f" in {_shown(path)}" if path else ""


def _shown(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the file"


def _problem(lines: Mapping[KeyPath, int], path: KeyPath, text: str) -> Problem:
    return Problem(path=path, line=line_of(lines, path), text=text)
