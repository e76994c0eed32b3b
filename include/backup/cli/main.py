"""Run one command, and end with the exit code that says how it went."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from include.backup.cli.parser import make_parser
from include.backup.errors import BackupError, ParameterError

if TYPE_CHECKING:
    from argparse import Namespace

    from include.backup.cli.output import Output
    from include.backup.process import Runner

SIGNAL_BASE = 128
BROKEN_PIPE = 141


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal that asks this process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class EndedError(BackupError):
    """What an interrupted command says; its exit code is a shell's."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = SIGNAL_BASE + number


def main(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> int:
    """Return the exit code of one command."""
    try:
        arguments = make_parser().parse_args(argv)
    except ParameterError as error:
        _output(as_json="--json" in argv).error(error, command=None)
        return error.exit_code
    output = _output(
        as_json=getattr(arguments, "json", False),
        quiet=getattr(arguments, "quiet", False),
        verbose=getattr(arguments, "verbose", False),
    )
    try:
        with output.logging():
            return _run(arguments, environ, output)
    except BrokenPipeError:
        # Nobody reads any more; Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(arguments: Namespace, environ: Mapping[str, str], output: Output) -> int:
    from include.backup.cli.session import Session

    session = Session(arguments, environ, output)
    try:
        with _ended_by_signals(session.runner):
            module = arguments.command.replace("-", "_")
            code: int = importlib.import_module(f"include.backup.cli.{module}").run(session)
            return code
    except Interrupted as interrupt:
        error = EndedError(interrupt.number)
        output.error(error, command=arguments.command)
        return error.exit_code
    except BackupError as error:
        _trace(output)
        output.error(error, command=arguments.command)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: whatever it is, a person gets one line
        _trace(output)
        text = f"unexpected {type(error).__name__}: {error}; --verbose shows where, please report it"
        output.error(BackupError(text), command=arguments.command)
        return BackupError.exit_code


def _output(*, as_json: bool, quiet: bool = False, verbose: bool = False) -> Output:
    from include.backup.cli.output import Output

    return Output(as_json=as_json, quiet=quiet, verbose=verbose)


def _trace(output: Output) -> None:
    if output.verbose:
        for line in traceback.format_exc().splitlines():
            output.message(line)


@contextmanager
def _ended_by_signals(runner: Runner) -> Iterator[None]:
    """End the children and raise Interrupted at the first signal; a second one ends this process at once."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        runner.kill()
        raise Interrupted(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: the command is meant to outlive its terminal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
