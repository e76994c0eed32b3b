"""Run the script that CI systems call, and keep every argument that any of its children was given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.faults.http_fault import Answer, Request
from tests.faults.s3_proxy import S3Proxy
from tests.support.programs import need_programs

SCRIPT = Path(__file__).resolve().parents[2] / "include/ci/pre_deployment_backup.sh"
SECONDS = 60
GIT_SHA = "0123abc"
TOOLS = ("curl", "jq", "mktemp", "rm", "tr", "sed", "head", "tail", "sleep", "bash")
# Every tool writes its arguments down before it becomes what it stands for.
SHIM = """#!/bin/sh
printf '%s\\n' "$0 $*" >>"{log}"
exec {tool} "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one call of the script ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """Return the last line of standard error."""
        return self.stderr.rstrip().rpartition("\n")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A call with everything that other users of the machine could see of it."""

    outcome: Outcome
    recorded: str
    sampled: set[bytes]
    tokens: set[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A certificate for localhost, and the authority that no system trusts."""

    ca: Path
    certificate: Path
    key: Path


def make_tls(folder: Path) -> Tls:
    tls = Tls(ca=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tls.ca)
    issued.cert_chain_pems[0].write_to_path(tls.certificate)
    issued.private_key_pem.write_to_path(tls.key)
    return tls


def run_id(release: str, suffix: str = "") -> str:
    """Return the id of a release's run, as the script makes it."""
    return f"pre_deployment__{release}__{GIT_SHA}{suffix}"


def commands(output: str) -> list[str]:
    """Return the lines that GitHub would take for commands."""
    return [line for line in output.splitlines() if line.lstrip().startswith("::") or "##[" in line]


def run_answer(release: str, state: str, git_sha: str = GIT_SHA) -> Answer:
    """Return Airflow's answer about a run."""
    conf = {"release": release, "git_sha": git_sha, "wait_for_proof": True}
    return Answer(status=200, body=json.dumps({"state": state, "conf": conf}).encode())


def is_trigger(request: Request) -> bool:
    """Return whether a request triggers a run."""
    return request.method == "POST" and request.path.endswith("/dagRuns")


def has_polled(proxy: S3Proxy) -> bool:
    """Return whether the script has come as far as to follow a run."""
    return any(request.path.endswith("/taskInstances") for request in proxy.requests)


def environment(variables: Mapping[str, object]) -> dict[str, str]:
    """Return the script's environment: nothing but what it is to see."""
    defaults = {"GIT_SHA": GIT_SHA, "POLL_SECONDS": "1", "DEADLINE_SECONDS": "50", "RETRY_SECONDS": "20"}
    given = {name: str(value) for name, value in variables.items()}
    return {"PATH": os.environ["PATH"], **defaults, **given}


def start(*options: str, **variables: object) -> subprocess.Popen[str]:
    """Start the script; ``finish`` waits for it."""
    return start_command([str(SCRIPT), *options], variables)


def start_command(command: Sequence[str], variables: Mapping[str, object]) -> subprocess.Popen[str]:
    need_programs("curl", "jq")
    return subprocess.Popen(
        command,
        cwd=SCRIPT.parents[2],
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    try:
        stdout, stderr = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return Outcome(exit_code=process.returncode, stdout=stdout, stderr=stderr)


def run(*options: str, **variables: object) -> Outcome:
    """Run the script to its end."""
    return finish(start(*options, **variables))


def run_command(command: Sequence[str], **variables: object) -> Outcome:
    """Run a command that calls the script."""
    return finish(start_command(command, variables))


def recording_path(folder: Path, log: Path) -> str:
    """Return a PATH whose tools write their arguments to ``log``; there is nothing else on it."""
    folder.mkdir()
    for name in TOOLS:
        tool = shutil.which(name)
        if tool is None:
            raise FileNotFoundError(name)
        shim = folder / name
        shim.write_text(SHIM.format(log=log, tool=tool))
        shim.chmod(0o755)
    return str(folder)


@contextmanager
def sampled_arguments() -> Iterator[set[bytes]]:
    """Look at every process's arguments over and over, as any user of the machine can."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for entry in os.scandir("/proc"):
                if entry.name.isdigit():
                    with suppress(OSError):
                        seen.add(Path(entry.path, "cmdline").read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
