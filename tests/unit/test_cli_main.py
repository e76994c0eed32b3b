"""Arguments, errors and exit codes of the command line, as far as no server is needed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.backup import errors
from include.backup.cli import list as list_command
from include.backup.cli.main import main
from include.backup.cli.parser import EPILOG, make_parser
from include.backup.cli.session import Session
from include.backup.errors import BackupError
from include.backup.policy import PROJECT

Capture = pytest.CaptureFixture[str]
BACKUP = "pulse_messages_daily_full_20250119T020000Z_3fa9c1"
COMMANDS = ("run", "list", "show", "verify", "restore")
# Up to the closing backtick, or to the end of a line that does not go on.
WRITTEN = re.compile(r"(?P<tick>`)?python -m include\.backup (?P<command>(?(tick)[^`]|(?:\\\n|[^\n]))+)")
STORE = '{"conn_type": "aws", "login": "key", "password": "hidden-secret", "extra": {"region_name": "us-east-1"}}'


def failed(argv: list[str], capsys: Capture, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command that must fail; return its exit code and its only line on standard error."""
    code = main(argv, environ or {})
    written = capsys.readouterr()
    (line,) = written.err.splitlines()
    assert line.startswith("error: ")
    if "--json" in argv:
        assert json.loads(written.out)["error"]["exit_code"] == code
    else:
        assert written.out == ""
    return code, line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "COMMAND"),
        (["destroy"], "invalid choice"),
        (["list"], "SOURCE"),
        (["list", "pulse_messages", "--unknown"], "--unknown"),
        (["run", "pulse_messages"], "--tier --resume is required"),
        (["run", "pulse_messages", "--tier", "daily", "--resume", BACKUP], "not allowed with"),
        (["run", "pulse_messages", "--tier", "daily", "--wait", "-1"], "--wait"),
        (["show", "pulse_messages"], "BACKUP_ID"),
        (["restore", "pulse_messages", BACKUP], "--to-database"),
        (["restore", "pulse_messages", BACKUP, "--to-database", "x", "--jobs", "0"], "from 1 to 64"),
        (["restore", "pulse_messages", BACKUP, "--to-database", "x", "--jobs", "2; rm"], "from 1 to 64"),
        (["restore", "pulse_messages", BACKUP, "--to-database", "x", "--port", "99999"], "from 1 to 65535"),
        (["restore", "pulse_messages", BACKUP, "--to-database", "x", "--password", "y"], "--password"),
        (["list", "nope"], "the policy pulse_messages.yaml has no source 'nope'; it has pulse_messages"),
        (["list", "x'; DROP TABLE y; --"], "has no source"),
        (["list", "pulse_messages", "--tier", "fortnightly"], "no tier 'fortnightly'"),
        (["run", "pulse_messages", "--tier", "$(id)"], "no tier '$(id)'"),
        (["run", "pulse_messages", "--tier", "fortnightly"], "it has daily, pre_deployment"),
        (["list", "pulse_messages", "--policy", "/nowhere.yaml"], "/nowhere.yaml"),
        (["list", "pulse_messages", "--settings", "/nowhere.yaml"], "nowhere.yaml"),
        (["list", "pulse_messages"], "PULSE_S3_ACCESS_KEY is not set"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_person_wrote_wrong_is_one_line_and_2(
    argv: list[str], words: str, as_json: bool, capsys: Capture
) -> None:
    code, line = failed([*argv, "--json"] if as_json else argv, capsys)
    assert code == 2
    assert words in line


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--release", "1.0"], "--release and --git-sha belong together"),
        (["--git-sha", "4f2c91e"], "belong together"),
        (["--release", "1.0; rm -rf /", "--git-sha", "4f2c91e"], "release '1.0; rm -rf /' is not allowed"),
        (["--release", "1.0", "--git-sha", "HEAD"], "git_sha 'HEAD' is not allowed"),
    ],
)
def test_a_release_is_checked_before_anything_is_reached(argv: list[str], words: str, capsys: Capture) -> None:
    code, line = failed(["run", "pulse_messages", "--tier", "pre_deployment", *argv], capsys)
    assert (code, words in line) == (2, True)


@pytest.mark.parametrize("resume", ["nonsense", "../../etc", BACKUP, BACKUP.replace("pulse_messages", "other")])
def test_only_a_run_that_is_in_staging_can_be_resumed(resume: str, tmp_path: Path, capsys: Capture) -> None:
    environ = {"BACKUP_STAGING_DIR": str(tmp_path)}
    assert failed(["run", "pulse_messages", "--resume", resume], capsys, environ)[0] == 2


@pytest.mark.parametrize("text", ["not a uri", "{broken", "http://user:hidden-secret@host", '{"conn_type": "aws"}'])
def test_a_connection_that_is_no_connection_is_2_and_shows_nothing_of_it(text: str, capsys: Capture) -> None:
    code, line = failed(["list", "pulse_messages"], capsys, {"AIRFLOW_CONN_PULSE_BACKUPS_S3": text})
    assert code == 2
    assert "pulse_backups_s3" in line
    assert "hidden-secret" not in line


def test_options_of_every_command_may_stand_before_it_too(capsys: Capture) -> None:
    assert main(["--json", "list", "nope"], {}) == 2
    assert json.loads(capsys.readouterr().out)["command"] == "list"


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_tells_how_to_use_each_command(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv, {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    assert argv == ["--help"] or "SOURCE" in text


def commands_that_are_written() -> Iterator[tuple[str, str]]:
    """Yield where a text of the code names a command, and the command; what is put into a text is the word VALUE."""
    for path in sorted(path for folder in ("include", "plugins", "dags") for path in (PROJECT / folder).rglob("*.py")):
        for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for match in WRITTEN.finditer(text):
                yield f"{path.relative_to(PROJECT)}:{line}", match["command"].replace("\\\n", " ")


def texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr):
        yield (
            node.lineno,
            "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values),
        )
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def test_every_command_that_a_text_names_is_accepted_as_it_is_written() -> None:
    parser, refused = make_parser(), {}
    written = list(commands_that_are_written())
    for where, command in written:
        try:
            parser.parse_args(shlex.split(command))
        except BackupError as error:
            refused[f"{where} {command}"] = str(error)
    assert refused == {}
    assert {command.split()[0] for _, command in written} >= {*COMMANDS, "hold", "thaw", "wal"}


def test_help_documents_every_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BackupError)]
    for code in {kind.exit_code for kind in kinds} | {0, 130}:
        assert f"\n  {code:<4} " in EPILOG


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.CommandError, 1),
        (errors.StagingFullError, 1),
        (errors.SourceBusyError, 1),
        (errors.RestoreError, 1),
        (errors.PolicyError, 2),
        (errors.UnknownTierError, 2),
        (errors.BackupMissingError, 2),
        (errors.SourceUnreachableError, 3),
        (errors.SourceLoginError, 3),
        (errors.StoreUnreachableError, 3),
        (errors.StoreDeniedError, 3),
        (errors.BucketMissingError, 3),
        (errors.MemberHashError, 4),
        (errors.FormatVersionError, 4),
        (errors.ArchiveWithoutManifestError, 4),
        (errors.ManifestWithoutArchiveError, 4),
        (errors.ObjectShortError, 4),
        (errors.ProofFailedError, 4),
        (errors.RestoreDiffersError, 4),
        (errors.RestoreRefusedError, 5),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    kind: type[BackupError], code: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> int:
        raise kind("it went wrong")

    monkeypatch.setattr(list_command, "run", fail)
    assert failed(["list", "pulse_messages"], capsys) == (code, "error: it went wrong")


def test_what_nobody_expected_is_one_line_without_a_traceback(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: Session) -> int:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(list_command, "run", fail)
    code, line = failed(["list", "pulse_messages", "--json"], capsys)
    assert code == 1
    assert "unexpected ZeroDivisionError: a bug" in line


def test_verbose_shows_where_it_went_wrong_and_still_no_secret(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> int:
        secret = session.connection("pulse_backups_s3").password
        raise ValueError(f"boom {secret}")

    monkeypatch.setattr(list_command, "run", fail)
    assert main(["list", "pulse_messages", "--verbose"], {"AIRFLOW_CONN_PULSE_BACKUPS_S3": STORE}) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert "boom ***" in text
    assert "hidden-secret" not in text


def test_help_is_quick_and_loads_no_client(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom include.backup.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'boto3', 'psycopg', 'yaml'} & set(sys.modules), sys.modules.keys()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_children_and_the_command(
    number: signal.Signals, code: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    def wait(session: Session) -> int:
        monkeypatch.setattr(session.runner, "kill", lambda: ended.append(True))
        os.kill(os.getpid(), number)
        raise AssertionError("the signal did nothing")

    monkeypatch.setattr(list_command, "run", wait)
    assert failed(["list", "pulse_messages", "--json"], capsys) == (code, f"error: ended by {number.name}")
    assert ended == [True]


def test_a_command_that_is_to_outlive_its_terminal_does(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(session: Session) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        return 0

    monkeypatch.setattr(list_command, "run", stay)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["list", "pulse_messages"], {}) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = (
        "import sys\nfrom include.backup.cli import list as command\nfrom include.backup.cli.main import main\n"
        "command.run = lambda session: session.output.result('list', {}, ['x' * 100] * 100000) or 0\n"
        "sys.exit(main(['list', 'pulse_messages']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 141
