"""git, as a child process: its commands, and its complaints by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.backup.errors import (
    CommandError,
    CommandKilledError,
    GitDeniedError,
    GitError,
    GitHostKeyError,
    GitPushRejectedError,
    GitRepositoryMissingError,
    GitTlsError,
    GitUnreachableError,
)
from include.backup.process import Command, Runner
from include.backup.schema_history.remote import GitRemote

# No hook, no program that a configuration names, and no guessing who commits.
_CONFIGURATION = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("user.useConfigOnly", "true"),
    ("protocol.version", "2"),
    ("core.fsync", "all"),
    ("advice.pushUpdateRejected", "false"),
    ("advice.pushFetchFirst", "false"),
    ("advice.pushNonFFCurrent", "false"),
)
_SAID_BY_REMOTE = re.compile(r"^remote: ?(?P<text>.*\S)\s*$", re.MULTILINE)
SHOWN = 6


class RemoteMovedError(GitError):
    """Raised when somebody else has pushed since the branch was fetched."""


@dataclass(frozen=True, kw_only=True)
class Git:
    """Runs git in one bare repository."""

    folder: Path
    runner: Runner
    environment: Mapping[str, str]

    def run(self, *words: str, **more: str) -> str:
        """Run one command and return what it writes; ``more`` is added to its environment."""
        return self.read(*words, **more).decode("utf-8", "surrogateescape")

    def read(self, *words: str, **more: str) -> bytes:
        """Run one command and return the bytes that it writes."""
        return self.runner.stream(self._command(words, more), lambda output: output.read())

    def succeeds(self, *words: str) -> bool:
        """Run one command whose exit code is an answer: 0 for yes, 1 for no."""
        try:
            self.run(*words)
        except CommandKilledError:
            raise
        except CommandError as error:
            if " ended with exit code 1:" in str(error):
                return False
            raise
        return True

    def talk(self, remote: GitRemote, *words: str) -> str:
        """Run a command that reaches the remote; raises the error that its complaint stands for."""
        try:
            return self.run(*words)
        except CommandKilledError:
            raise
        except CommandError as error:
            raise named_error(str(error), remote) from None

    def _command(self, words: tuple[str, ...], more: Mapping[str, str]) -> Command:
        return Command(
            argv=("git", f"--git-dir={self.folder}", *words),
            environment={**self.environment, **_configuration(), **more},
        )


def _configuration() -> dict[str, str]:
    """Return what git is set to, by its environment: no file holds it, and a log of commands stays readable."""
    found = {"GIT_CONFIG_COUNT": str(len(_CONFIGURATION))}
    for number, (name, value) in enumerate(_CONFIGURATION):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return found


_CAUSES: tuple[tuple[re.Pattern[str], type[GitError], str], ...] = (
    (
        re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed"),
        GitHostKeyError,
        "the host shows another key than known_hosts of the connection has. Somebody may be in between: compare the "
        "key with what the host's operator publishes, and only then replace known_hosts",
    ),
    (
        re.compile(r"Host key verification failed|No .* host key is known|host key is not cached"),
        GitHostKeyError,
        "the host's key is not in known_hosts of the connection. Get it with `ssh-keyscan <host>`, compare its "
        "fingerprint with what the host's operator publishes, and put the line into the extra known_hosts",
    ),
    (
        re.compile(r"Load key .*(?:invalid format|error in libcrypto|incorrect passphrase|passphrase)"),
        GitDeniedError,
        "private_key of the connection cannot be read: it must be a whole private key without a passphrase, with its "
        "BEGIN and END lines",
    ),
    (
        re.compile(
            r"SSL certificate problem|certificate verif|unable to get local issuer|CAfile|self.signed certificate"
        ),
        GitTlsError,
        "the remote's certificate is not trusted; put the file of its certificate authority into the extra ca",
    ),
    (
        re.compile(
            r"Could not resolve host|Connection refused|Connection timed out|Network is unreachable|No route to host"
            r"|Connection reset|Connection closed|Failed to connect|Couldn't connect|timed out|kex_exchange"
            r"|returned error: 5\d\d|Operation too slow|Temporary failure in name resolution"
        ),
        GitUnreachableError,
        "the host does not answer; check the connection's URL and the network, then retry",
    ),
    (
        re.compile(
            r"Permission denied \(|Authentication failed|could not read (?:Username|Password)|returned error: 40[13]"
            r"|[Ww]rite access .* not granted|not allowed to push|deploy key|Permission to .* denied|access denied"
        ),
        GitDeniedError,
        "the remote refuses the key or token of the connection; give it write access to this repository, or replace it",
    ),
    (
        re.compile(
            r"does not appear to be a git repository|[Rr]epository .*not found|not found|does not exist"
            r"|No such file or directory|not a git repository|returned error: 404"
        ),
        GitRepositoryMissingError,
        "there is no git repository at this address, or the key may not see it; correct the connection's host, or make "
        "the repository (an empty one will do)",
    ),
    (
        re.compile(r"dubious ownership"),
        GitDeniedError,
        "the repository belongs to another user of this machine; give it to the user that runs the backups",
    ),
)
_MOVED = re.compile(
    r"\[rejected\].*\((?:fetch first|non-fast-forward|stale info)\)|cannot lock ref|failed to update ref"
    r"|incorrect old value|reference already exists"
)
_REJECTED = re.compile(
    r"\[remote rejected\]|pre-receive hook declined|\[rejected\]|protected branch|unpack.* error"
    r"|remote unpack failed"
)


def named_error(text: str, remote: GitRemote) -> GitError:
    """Return the error that git's last lines stand for."""
    where = f"{remote.url} (connection {remote.conn_id})"
    said = "; ".join(match["text"] for match in _SAID_BY_REMOTE.finditer(text))
    if _MOVED.search(text):
        return RemoteMovedError(f"somebody else pushed to {where} in the meantime")
    if _REJECTED.search(text):
        reason = said or _last_lines(text)
        return GitPushRejectedError(
            f"{where} refuses the commit: {reason}. The commit is kept and goes with the next run's push; allow the "
            "branch to be pushed to (a protected branch, a hook), then run again"
        )
    for pattern, kind, advice in _CAUSES:
        if pattern.search(text):
            return kind(f"{where}: {advice}. git said: {_last_lines(text)}")
    return GitError(f"git failed with {where}: {_last_lines(text)}; run again, and look at the remote if it stays so")


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-SHOWN:])
