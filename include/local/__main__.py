"""Start, stop and show the embedded stack: ``python -m include.local up|down|status|demo|env|remove``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from include.backup.errors import BackupError
from include.local.demo import run_demo, summary_lines
from include.local.demo_all import all_lines, run_all
from include.local.environment import forget_foreign_settings
from include.local.errors import StackDownError, StackError
from include.local.layout import DEFAULT_PORT_BASE, layout_of, port_base_from
from include.local.progress import PlainProgress
from include.local.stack import DEFAULT_SAMPLE_MB, Stack

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are one line, unless they bring the end of a log."""
    forget_foreign_settings()
    try:
        options = parser().parse_args(arguments)
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except BackupError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {error}; does this user own the project's folder, and is there room?", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what this command started was stopped, make down stops all", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(prog="python -m include.local", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, function, text in (
        ("up", up, "start what does not run"),
        ("down", down, "stop everything"),
        ("status", status, "show each service; exit code 1 unless all are healthy"),
        ("demo", demo, "start, run a daily backup, show what it proved"),
        ("env", env, "print the stack's settings as shell exports, passwords included"),
        ("remove", remove, "stop everything and delete the stack's data"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        command.add_argument(
            "--port-base",
            type=int,
            help=f"first of five ports; tells stacks apart (PORT_BASE, {DEFAULT_PORT_BASE})",
        )
        if name not in ("env", "remove"):
            command.add_argument("--json", action="store_true", help="print one JSON object at the end")
        if name in ("up", "demo"):
            command.add_argument("--sample-mb", type=int, help=f"size of the sample (SAMPLE_MB, {DEFAULT_SAMPLE_MB})")
            command.add_argument("-v", "--verbose", action="store_true", help="show how long each phase took")
        if name == "demo":
            command.add_argument("--all", action="store_true", help="then run every other DAG once (ALL=1)")
        if name == "up":
            command.add_argument("--no-airflow", action="store_true", help="only the source, the store and Slack")
            command.add_argument("--overwrite", action="store_true", help="replace connections, pools and variables")
    return top


def up(options: argparse.Namespace) -> int:
    """Start."""
    console = _console(options)
    stack = _stack(options)
    progress = PlainProgress(console)
    report = stack.up(
        sample_mb=_sample_mb(options), airflow=not options.no_airflow, overwrite=options.overwrite, say=progress.say
    )
    if options.json:
        print(json.dumps(report.to_json()))
        return 0
    console.print(f"up after {report.seconds:.0f} s: {stack.airflow.url if not options.no_airflow else 'no Airflow'}")
    if options.verbose:
        _print_phases(console, report.to_json())
    return 0


def down(options: argparse.Namespace) -> int:
    """Stop."""
    stack = _stack(options)
    stack.down()
    if options.json:
        print(json.dumps({"state": str(stack.layout.state), "running": []}))
    else:
        print(f"down: nothing of the stack at port {stack.layout.port_base} runs any more; its data stays")
    return 0


def status(options: argparse.Namespace) -> int:
    """Show."""
    found = _stack(options).status()
    if options.json:
        print(json.dumps([service.to_json() for service in found]))
    elif not found:
        print("there is no stack yet; make up starts one")
    else:
        for service in found:
            state = "healthy" if service.healthy else "not healthy" if service.running else "down"
            print(f"{service.name:<22} {state:<12} {service.address}".rstrip())
    return 0 if found and all(service.healthy for service in found) else 1


def demo(options: argparse.Namespace) -> int:
    """Demonstrate."""
    console = _console(options)
    stack = _stack(options)
    result = run_demo(stack, sample_mb=_sample_mb(options), console=console)
    others = run_all(stack, result.backup_id, console=console) if options.all else ()
    if options.json:
        print(json.dumps({**result.to_json(), "others": [other.to_json() for other in others]}))
        return 0
    base = stack.layout.port_base
    command = "make down" if base == DEFAULT_PORT_BASE else f"make down PORT_BASE={base}"
    console.print()
    seconds = sum(other.seconds for other in others)
    for line in (*all_lines(others), *summary_lines(result, down_command=command, others_seconds=seconds)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if options.verbose:
        _print_phases(console, result.up.to_json())
    return 0


def env(options: argparse.Namespace) -> int:
    """Print shell exports."""
    stack = _stack(options)
    if not stack.layout.credentials.exists():
        raise StackDownError("there is no stack yet; make up starts one")
    for name, value in stack.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Stop and delete."""
    stack = _stack(options)
    stack.remove()
    return 0


def _stack(options: argparse.Namespace) -> Stack:
    base = options.port_base if options.port_base is not None else port_base_from()
    return Stack(layout_of(base).port_base)


def _sample_mb(options: argparse.Namespace) -> int:
    value = options.sample_mb if options.sample_mb is not None else os.environ.get("SAMPLE_MB") or DEFAULT_SAMPLE_MB
    if not str(value).isdigit() or int(value) < 1:
        raise StackError(f"SAMPLE_MB={value!r} is no size; give a whole number of megabytes, 1 or more")
    return int(value)


def _console(options: argparse.Namespace) -> Console:
    """Return where progress goes: standard error when standard output is for JSON."""
    return Console(stderr=options.json)


def _print_phases(console: Console, report: dict[str, object]) -> None:
    phases = report["phases"]
    if isinstance(phases, dict):
        for name, seconds in phases.items():
            console.print(f"  {name:<18} {seconds:6.1f} s", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
