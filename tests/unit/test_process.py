"""Children of the runner: what they see, how they end, and that they end with this process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from include.backup import process
from include.backup.errors import CommandError, CommandKilledError, CommandTimeoutError, ToolMissingError
from include.backup.process import Command, Runner, become, dying_with_parent

ROOT = Path(__file__).resolve().parents[2]
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def shell(script: str, **environment: str) -> Command:
    return Command(argv=("/bin/sh", "-c", script), environment=environment)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Tell whether a process is gone or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def alarm() -> Iterator[Callable[[float, Callable[[], None]], None]]:
    """Call something in a signal handler of the main thread, after a while."""

    def set_alarm(seconds: float, call: Callable[[], None]) -> None:
        signal.signal(signal.SIGALRM, lambda *_: call())
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield set_alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_lines_of_both_outputs_are_handed_on_in_order() -> None:
    lines: list[str] = []
    completed = Runner().run(shell("echo one; echo two >&2; echo three"), on_line=lines.append)
    assert lines == ["one", "two", "three"]
    assert completed.lines == ("one", "two", "three")


def test_standard_output_goes_to_a_file_and_errors_are_still_read(tmp_path: Path) -> None:
    lines: list[str] = []
    Runner().run(shell("echo data; echo progress >&2"), on_line=lines.append, stdout=tmp_path / "out")
    assert (tmp_path / "out").read_text() == "data\n"
    assert lines == ["progress"]


def test_standard_input_is_a_file_or_empty(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("hello\n")
    with (tmp_path / "in").open("rb") as file:
        assert Runner().run(shell("cat"), stdin=file).lines == ("hello",)
    assert Runner().run(shell("cat")).lines == ()


def test_exit_code_is_an_error_with_the_last_lines_only() -> None:
    with pytest.raises(CommandError, match="exit code 3") as caught:
        Runner().run(shell("for i in $(seq 100); do echo line $i; done; exit 3"))
    assert "line 100" in str(caught.value)
    assert "line 92\n" not in str(caught.value)


def test_missing_program_is_named_as_missing() -> None:
    with pytest.raises(ToolMissingError, match="/no/such/pg_dump"):
        Runner().run(Command(argv=("/no/such/pg_dump",)))


def test_program_that_itself_ends_with_127_is_not_missing() -> None:
    with pytest.raises(CommandError, match="exit code 127"):
        Runner().run(shell("exit 127"))


def test_child_sees_nothing_of_this_environment_but_path_and_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "secret of the parent")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    seen = Runner().run(shell("env", PGPASSWORD="mine")).lines
    names = {line.partition("=")[0] for line in seen} - {"PWD", "_", "SHLVL"}
    assert names == {"PATH", "TZ", "LC_ALL", "PGPASSWORD"}


def test_environment_is_neither_logged_nor_shown(caplog: pytest.LogCaptureFixture) -> None:
    command = shell("exit 1", PGPASSWORD="s3cret-canary")
    with caplog.at_level(logging.DEBUG), pytest.raises(CommandError) as caught:
        Runner().run(command)
    assert "exit 1" in caplog.text
    assert "s3cret-canary" not in caplog.text + repr(command) + str(caught.value)


def test_signalled_child_is_a_killed_command() -> None:
    with pytest.raises(CommandKilledError, match="signal 9"):
        Runner().run(shell("kill -KILL $$"))


def test_kill_from_another_thread_ends_the_child() -> None:
    runner, pids = Runner(), []

    def on_line(line: str) -> None:
        pids.append(int(line))
        threading.Thread(target=runner.kill).start()

    started = time.monotonic()
    with pytest.raises(CommandKilledError):
        runner.run(shell("echo $$; exec sleep 60"), on_line=on_line)
    assert time.monotonic() - started < 10
    assert is_gone(pids[0])


def test_kill_in_a_signal_handler_of_the_waiting_thread_does_not_hang(
    alarm: Callable[[float, Callable[[], None]], None],
) -> None:
    runner = Runner()
    alarm(0.3, runner.kill)
    started = time.monotonic()
    with pytest.raises(CommandKilledError):
        # closed outputs: the runner is in wait(), whose lock it holds, when the signal comes
        runner.run(shell("exec sleep 60 >&- 2>&-"))
    assert time.monotonic() - started < process.TERM_GRACE_SECONDS


def test_child_that_ignores_the_request_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERM_GRACE_SECONDS", 0.3)
    runner = Runner()
    with pytest.raises(CommandKilledError, match="signal 9"):
        runner.run(shell(STUBBORN), on_line=lambda _: threading.Thread(target=runner.kill).start())


def test_program_that_answers_a_kill_with_an_exit_code_is_still_killed() -> None:
    runner = Runner()
    with pytest.raises(CommandKilledError, match="by this process"):
        runner.run(
            shell("trap 'exit 1' TERM; echo ready; while :; do sleep 0.05; done"),
            on_line=lambda _: threading.Thread(target=runner.kill).start(),
        )


def test_nothing_starts_after_a_kill(tmp_path: Path) -> None:
    runner = Runner()
    runner.kill()
    with pytest.raises(CommandKilledError, match="not started"):
        runner.run(shell(f"touch {tmp_path}/started"))
    assert not (tmp_path / "started").exists()


def test_failing_line_handler_ends_the_child() -> None:
    pids = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        raise ValueError(line)

    with pytest.raises(ValueError, match=r"\d+"):
        Runner().run(shell("echo $$; exec sleep 60"), on_line=on_line)
    assert is_gone(pids[0])


def test_child_ends_when_its_parent_is_killed() -> None:
    code = (
        "import sys; from include.backup.process import *\n"
        "Runner().run(Command(argv=('/bin/sh', '-c', 'echo $$; exec sleep 60')),"
        " on_line=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not is_gone(child)
        parent.kill()
    assert eventually(lambda: is_gone(child))


def test_user_is_named_by_number_as_groups_need_not_have_its_name() -> None:
    argv = dying_with_parent(Command(argv=("id",), user="nobody"))
    assert argv[:6] == ("setpriv", *become("nobody"))
    assert argv[2].isdigit()
    assert argv[4].isdigit()


def test_unknown_user_is_a_named_error() -> None:
    with pytest.raises(ToolMissingError, match="no-such-user"):
        become("no-such-user")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_command_runs_as_its_user_in_its_folder() -> None:
    command = Command(argv=("/bin/sh", "-c", "id -un; pwd"), user="nobody", folder=Path("/"))
    assert Runner().run(command).lines == ("nobody", "/")


def test_a_streamed_child_gives_its_bytes_to_a_function() -> None:
    command = Command(argv=("sh", "-c", "printf 'one\\ntwo\\n'; echo aside >&2"))
    assert Runner().stream(command, lambda output: output.read()) == b"one\ntwo\n"


def test_a_streamed_child_that_fails_is_named_with_its_own_words() -> None:
    with pytest.raises(CommandError, match="exit code 3: it broke"):
        Runner().stream(Command(argv=("sh", "-c", "echo it broke >&2; exit 3")), lambda output: output.read())


def test_kill_ends_a_streamed_child() -> None:
    runner = Runner()

    def read(output: IO[bytes]) -> bytes:
        runner.kill()
        return output.read()

    with pytest.raises(CommandKilledError):
        runner.stream(Command(argv=("sleep", "60")), read)


def test_a_child_that_takes_too_long_is_ended_and_named_late() -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"sleep took longer than 0\.3 s"):
        Runner().run(Command(argv=("sleep", "30")), timeout_seconds=0.3)
    assert time.monotonic() - started < 20


def test_a_child_that_is_quick_enough_is_not_late() -> None:
    assert Runner().run(Command(argv=("true",)), timeout_seconds=30).lines == ()
