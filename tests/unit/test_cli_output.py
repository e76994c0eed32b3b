"""What the command line writes: results here, all else there, and a secret nowhere."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from include.backup.cli.output import BarPhases, Output, Phases
from include.backup.errors import ProofFailedError, SourceLoginError
from include.backup.restore.progress import LineProgress

SECRET = "s3cr3t-passw0rd"


class Screen(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def make_output(**options: Any) -> tuple[Output, io.StringIO, io.StringIO]:
    stdout, stderr = io.StringIO(), options.pop("stderr", io.StringIO())
    return Output(stdout=stdout, stderr=stderr, **options), stdout, stderr


def test_a_result_is_lines_for_a_person() -> None:
    output, stdout, stderr = make_output()
    output.result("list", {"backups": []}, ["one", "two"])
    assert (stdout.getvalue(), stderr.getvalue()) == ("one\ntwo\n", "")


def test_with_json_standard_output_is_one_document() -> None:
    output, stdout, stderr = make_output(as_json=True)
    with output.logging():
        logging.getLogger("include.backup.steps").info("working")
    output.preview(["a preview"])
    output.result("list", {"backups": []}, ["one"])
    assert json.loads(stdout.getvalue()) == {"format_version": 1, "command": "list", "backups": []}
    assert stderr.getvalue() == "working\na preview\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_line_on_standard_error(as_json: bool) -> None:
    output, stdout, stderr = make_output(as_json=as_json)
    output.error(ProofFailedError("it differs:\n  rows a\n  rows b"), command="verify")
    assert stderr.getvalue() == "error: it differs: rows a rows b\n"
    if as_json:
        error = json.loads(stdout.getvalue())["error"]
        assert error == {"kind": "ProofFailedError", "message": "it differs: rows a rows b", "exit_code": 4}
    else:
        assert stdout.getvalue() == ""


@pytest.mark.parametrize("secret", [SECRET, 'quote"d and \\ and ü'])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_is_on_neither_stream(as_json: bool, secret: str) -> None:
    output, stdout, stderr = make_output(as_json=as_json, verbose=True)
    output.hide(secret)
    with output.logging():
        logging.getLogger("include.backup.steps").warning("PASSWORD '%s'", secret)
    output.error(SourceLoginError(f"refused {secret}"), command="run")
    output.result("run", {"text": f"<{secret}>"}, [f"<{secret}>"])
    for written in (stdout.getvalue(), stderr.getvalue()):
        assert secret not in written
        assert json.dumps(secret)[1:-1] not in written
        assert "***" in written


def test_an_empty_password_masks_nothing() -> None:
    output, stdout, _ = make_output()
    output.hide(None)
    output.hide("")
    output.result("list", {}, ["as it is"])
    assert stdout.getvalue() == "as it is\n"


@pytest.mark.parametrize(
    ("options", "written"),
    [
        ({}, "info\nwarning: careful\n"),
        ({"quiet": True}, "warning: careful\n"),
        ({"verbose": True}, "detail\nrunning pg_dump\ninfo\nwarning: careful\n"),
    ],
)
def test_how_much_is_told_can_be_chosen(options: dict[str, bool], written: str) -> None:
    output, _, stderr = make_output(**options)
    log = logging.getLogger("include.backup.steps")
    with output.logging():
        log.debug("detail")
        logging.getLogger("include.backup.process").info("running pg_dump")
        log.info("info")
        log.warning("careful")
        logging.getLogger("botocore.auth").warning("a signature")
    assert stderr.getvalue() == written


def test_logging_is_as_before_afterwards() -> None:
    logger = logging.getLogger("include")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with make_output()[0].logging():
        assert logger.handlers != before[2]
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_markup_and_control_characters_of_a_name_do_nothing() -> None:
    output, stdout, stderr = make_output(stderr=Screen())
    output.message("table [red]x[/red] \x1b[31m")
    output.result("show", {}, ["table \x1b[31mx"])
    assert "[red]x[/red]" in stderr.getvalue()
    assert "\x1b[31m" not in stderr.getvalue()
    assert "\x1b[31m" not in stdout.getvalue()


def test_a_terminal_gets_a_bar() -> None:
    output, _, stderr = make_output(stderr=Screen())
    with output.progress() as progress:
        assert isinstance(progress, BarPhases)
        progress.phase("fetching", 2_000_000, "bytes")
        progress.at(1_000_000)
        progress.phase("loading", 0, "rows")
    assert "\x1b[" in stderr.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    output, _, stderr = make_output()
    now = [100.0]
    monkeypatch.setattr("include.backup.cli.output.time.monotonic", lambda: now[0])
    with output.progress() as progress:
        assert isinstance(progress, LineProgress)
        progress.phase("loading", 1000, "rows")
        for done, moment in ((100, 105.0), (500, 110.0), (600, 111.0), (900, 120.5)):
            now[0] = moment
            progress.at(done, done * 1000)
    assert stderr.getvalue().splitlines() == [
        "loading: 500 of 1000 rows (50 %), 500.0 kB, about 10 s left",
        "loading: 900 of 1000 rows (90 %), 900.0 kB, about 2 s left",
    ]


def test_quiet_shows_no_progress() -> None:
    output, _, stderr = make_output(quiet=True, stderr=Screen())
    with output.progress() as progress:
        assert type(progress) is Phases
        progress.phase("loading", 10, "rows")
        progress.at(10)
    assert stderr.getvalue() == ""
