"""Where everything of the command line is written: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from include.backup.errors import BackupError
from include.backup.restore.progress import LineProgress, how_far
from include.backup.restore.progress import size_text as size_text
from include.backup.text import columns as columns

FORMAT_VERSION = 1
LOGGER = "include"
MASK = "***"
# All but tab and line feed: names of objects come from databases and stores.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """Two streams, the level of detail, and the secrets that must not be on either."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._stdout = stdout or sys.stdout
        self._console = Console(file=stderr or sys.stderr, highlight=False, soft_wrap=True)
        self._secrets: list[str] = []

    def hide(self, secret: str | None) -> None:
        """Remember a secret; it is replaced wherever it would be written."""
        if secret:
            escaped = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(str(secret))[1:-1])
            self._secrets.extend(dict.fromkeys((str(secret), *escaped)))

    def result(self, command: str, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Write a command's result: one JSON document, or lines for a person."""
        if self.as_json:
            self._document({"format_version": FORMAT_VERSION, "command": command, **document})
            return
        for line in lines:
            self._print(line)

    def preview(self, lines: Iterable[str]) -> None:
        """Write lines that a person sees before the result; with JSON they are no part of standard output."""
        for line in lines:
            if self.as_json:
                self.message(line)
            else:
                self._print(line)

    def error(self, error: BackupError, *, command: str | None) -> None:
        """Write an error as one line, and with JSON as a document besides."""
        self.message(f"error: {_one_line(error)}")
        if self.as_json:
            content = {"command": command, "error": error_content(error)}
            self._document({"format_version": FORMAT_VERSION, **content})

    def message(self, line: str) -> None:
        """Write a line to standard error, above a progress bar if there is one."""
        self._console.print(self._masked(line), markup=False)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Let the core's log go to standard error while the block runs."""
        logger = logging.getLogger(LOGGER)
        before = logger.level, logger.propagate
        handler = _Handler(self)
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.WARNING if self.quiet else logging.DEBUG if self.verbose else logging.INFO)
        children = logging.getLogger("include.backup.process")
        children.setLevel(logging.NOTSET if self.verbose else logging.WARNING)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]
            children.setLevel(logging.NOTSET)

    @contextmanager
    def progress(self) -> Iterator[Phases | LineProgress]:
        """Give what shows how far the work is: a bar on a terminal, a line now and then elsewhere."""
        if self.quiet:
            yield Phases()
        elif self._console.is_terminal:
            columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.fields[text]}"))
            with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True) as bar:
                yield BarPhases(bar)
        else:
            yield LineProgress(self.message)

    def _document(self, content: Mapping[str, Any]) -> None:
        self._print(json.dumps(content, indent=1, ensure_ascii=False, default=str))

    def _print(self, text: str) -> None:
        print(self._masked(text), file=self._stdout, flush=True)

    def _masked(self, text: str) -> str:
        """Return a text without secrets, and with no character that a terminal would obey."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def error_content(error: BackupError) -> dict[str, Any]:
    """Return an error as JSON documents have it."""
    return {"kind": type(error).__name__, "message": _one_line(error), "exit_code": error.exit_code}


def _one_line(error: BackupError) -> str:
    return " ".join(str(error).split())


class Phases:
    """Shows nothing."""

    def phase(self, name: str, total: int, unit: str) -> None:
        """Begin a phase of ``total`` bytes, rows or steps."""

    def at(self, done: int, size: int = 0) -> None:
        """Say how much of the phase is done, and how many bytes that were."""


class BarPhases(Phases):
    """One bar, for the phase that runs."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None
        self._total = 0
        self._unit = ""
        self._began = 0.0

    def phase(self, name: str, total: int, unit: str) -> None:
        self._began = time.monotonic()
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._total, self._unit = total, unit
        self._task = self._bar.add_task(name, total=max(total, 1), text="")
        self.at(0)

    def at(self, done: int, size: int = 0) -> None:
        if self._task is not None:
            text = how_far(done, self._total, self._unit, size=size, seconds=time.monotonic() - self._began)
            self._bar.update(self._task, completed=done, text=text)


class _Handler(logging.Handler):
    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        self._output.message(f"{prefix}{record.getMessage()}")
