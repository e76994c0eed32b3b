"""YAML files that people write: read with the line of every key, so that an error can name it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from include.backup.errors import BackupError

KeyPath = tuple[str | int, ...]
# libyaml, which reads a policy of many sources ten times as fast; every DAG file reads it.
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong in a document, at a path and a line."""

    path: KeyPath
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML file as plain values; ``lines`` says where each key or item stands."""

    name: str
    data: Any
    lines: Mapping[KeyPath, int]
    problems: tuple[Problem, ...]

    def line_of(self, path: KeyPath) -> int:
        """Return the line of a path, or of the nearest thing around it."""
        return line_of(self.lines, path)


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a path, or of the nearest thing around it.

    >>> line_of({("a",): 3}, ("a", "b"))
    3
    """
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def describe(name: str, problems: list[Problem]) -> str:
    """Return problems as one line, each with file and line, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: problem.line)
    return "; ".join(f"{name}:{problem.line}: {problem.text}" for problem in ordered)


def read_document(path: Path, error: type[BackupError], *, name: str | None = None) -> Document:
    """Read one YAML document; raises ``error`` when the file is missing or is not YAML."""
    shown = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as cause:
        raise error(f"{shown} cannot be read ({cause.strerror}); give the path of a readable file") from cause
    except UnicodeDecodeError as cause:
        raise error(f"{shown} is not UTF-8; save it as UTF-8") from cause
    try:
        _refuse_aliases(shown, text, error)
        node = yaml.compose(text, Loader=LOADER)
    except yaml.MarkedYAMLError as cause:
        line = cause.problem_mark.line + 1 if cause.problem_mark else 1
        raise error(f"{shown}:{line}: this is not valid YAML: {cause.problem}") from cause
    except yaml.YAMLError as cause:
        raise error(f"{shown}: this is not valid YAML: it holds a character that YAML forbids") from cause
    reader = _Reader()
    data = None if node is None else reader.value(node, ())
    return Document(name=shown, data=data, lines=reader.lines, problems=tuple(reader.problems))


def _refuse_aliases(name: str, text: str, error: type[BackupError]) -> None:
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise error(f"{name}:{_line(event)}: aliases (*name) are not allowed; write it out")


class _Reader:
    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.lines.setdefault(path, _line(node))
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._problem(node, path, "this value cannot be read; put it in quotes")
            return None

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self._problem(key_node, path, "a key must be plain text; put it in quotes")
                continue
            key = key_node.value
            here = (*path, key)
            if key in seen:
                self._problem(key_node, here, f"{key!r} is there twice, first in line {seen[key]}; keep one")
                continue
            seen[key] = _line(key_node)
            self.lines[here] = seen[key]
            yield key, self.value(value_node, here)

    def _problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(path=path, line=_line(node), text=text))


def _line(marked: yaml.Node | yaml.Event) -> int:
    return marked.start_mark.line + 1 if marked.start_mark else 1
