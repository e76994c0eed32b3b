"""The connection of a git remote, and what git gets to see of it."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from include.backup.connection_spec import ConnectionSpec, Secret
from include.backup.errors import (
    ConnectionDefinitionError,
    GitDeniedError,
    GitError,
    GitPushRejectedError,
    GitRepositoryMissingError,
    GitUnreachableError,
)
from include.backup.process import minimal_environment
from include.backup.schema_history.git import RemoteMovedError, named_error
from include.backup.schema_history.remote import GitRemote, Transport, git_environment, ssh_command

KEY, HOSTS = "-----BEGIN KEY-----\nc2VjcmV0\n-----END KEY-----", "git.example ssh-ed25519 AAAA"
SSH = {"private_key": KEY, "known_hosts": HOSTS}


def remote(url: str, **changes: Any) -> GitRemote:
    values: dict[str, Any] = {"conn_id": "g", "conn_type": "git", "host": url, **changes}
    return GitRemote.from_spec(ConnectionSpec(**values))


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("https://git.example/owner/repository.git", Transport.HTTPS),
        ("https://git.example:8443/r.git", Transport.HTTPS),
        ("http://127.0.0.1:3000/r.git", Transport.HTTPS),
        ("ssh://git@git.example:2222/owner/r.git", Transport.SSH),
        ("ssh://git@[::1]:2222/r.git", Transport.SSH),
        ("git@git.example:owner/r.git", Transport.SSH),
        ("file:///srv/schema.git", Transport.FILE),
        ("/srv/schema.git", Transport.FILE),
    ],
)
def test_these_are_remotes(url: str, transport: Transport) -> None:
    found = remote(url, extra=SSH if transport is Transport.SSH else {})
    assert (found.url, found.transport) == (url, transport)


@pytest.mark.parametrize(
    "url",
    [
        "http://git.example/r.git",
        "https://user:password@git.example/r.git",
        "https://token@git.example/r.git",
        "ssh://-oProxyCommand=touch@x/r",
        "ssh://git@-oProxyCommand=x/r.git",
        "-oProxyCommand=x:r.git",
        "git@-x:r.git",
        "ext::sh -c touch% x",
        "git://git.example/r.git",
        "file://host/r.git",
        "https://git.example/r.git?x=1",
        "https://git.example/a b",
        "https://git.example",
        "relative/path",
        "https://git.example:99999/r",
        "https://[/r",
        "--upload-pack=touch",
    ],
)
def test_these_are_none_and_no_password_is_shown(url: str) -> None:
    with pytest.raises(ConnectionDefinitionError) as caught:
        remote(url, extra=SSH)
    assert "password@" not in str(caught.value)
    assert "connection g has" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conn_type": "http"}, "has type 'http'; allowed: git"),
        ({"host": None}, "has no host; set it to the remote's URL"),
        ({"host": "git@h:r", "extra": {"known_hosts": HOSTS}}, "has no private_key in its extra; make a key with"),
        ({"host": "git@h:r", "extra": {"private_key": KEY}}, "has no known_hosts in its extra; put the host's line"),
        ({"extra": {"private_key": KEY}}, "has a private_key, and a URL that is not for ssh"),
        ({"extra": {"ssh_command": "x"}}, "has the extra ssh_command; allowed: private_key, known_hosts, ca"),
        ({"extra": {"ca": 7}}, "has an extra ca that is not text"),
    ],
)
def test_a_connection_that_lacks_something_says_what(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConnectionDefinitionError, match=words) as caught:
        remote(**{"url": "https://h/r.git", **({"url": changes.pop("host")} if "host" in changes else {})}, **changes)
    assert "c2VjcmV0" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    found = remote("git@h:r", extra=SSH, password=Secret("token-of-mine"))
    assert "c2VjcmV0" not in repr(found)
    assert "token-of-mine" not in repr(found)
    assert set(found.secrets) == {"token-of-mine", KEY}


def test_a_shell_sees_one_word_for_each(tmp_path: Path) -> None:
    """git hands GIT_SSH_COMMAND to a shell; a ssh that prints its arguments stands in the way."""
    folder = tmp_path / "a b'; touch hacked; $(touch hacked) `touch hacked`"
    folder.mkdir()
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    (tmp_path / "ssh").chmod(0o755)
    command = ssh_command(folder)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = subprocess.run(
        ["sh", "-c", f"{command} host"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words == [*shlex.split(command)[1:], "host"]
    assert f'IdentityFile="{folder}/key"' in words
    assert "StrictHostKeyChecking=yes" in words
    assert not (tmp_path / "hacked").exists()


def test_the_key_is_in_a_file_of_ours_alone_and_gone_afterwards() -> None:
    with git_environment(remote("git@h:r", extra={**SSH, "private_key": KEY.replace("\n", "\\n")})) as environment:
        (option,) = [word for word in shlex.split(environment["GIT_SSH_COMMAND"]) if word.startswith("IdentityFile=")]
        key = Path(option.removeprefix("IdentityFile=").strip('"'))
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
        assert key.read_text() == f"{KEY}\n"
        assert KEY not in " ".join(environment.values())
    assert not key.parent.exists()


def test_a_token_is_said_by_a_program_and_stands_in_no_file() -> None:
    token = "a'b\"$(c)\\d"
    with git_environment(remote("https://h/r", login="me", password=Secret(token))) as environment:
        askpass = environment["GIT_ASKPASS"]
        assert token not in Path(askpass).read_text()
        said = [
            subprocess.run([askpass, text], env=environment, capture_output=True, text=True, check=True).stdout
            for text in ("Username for 'https://h': ", "Password for 'https://me@h': ")
        ]
        assert said == ["me\n", f"{token}\n"]


def test_git_reads_nothing_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("HOME", "/root")
    with git_environment(None) as environment:
        complete = minimal_environment(environment)
        assert "GIT_DIR" not in complete
        assert list(Path(complete["HOME"]).iterdir()) == []
        assert complete["GIT_CONFIG_GLOBAL"] == complete["GIT_CONFIG_SYSTEM"] == "/dev/null"
        assert complete["GIT_TERMINAL_PROMPT"] == "0"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (" ! [rejected]        abc -> main (fetch first)", RemoteMovedError),
        (" ! [rejected]        abc -> main (non-fast-forward)", RemoteMovedError),
        (" ! [remote rejected] abc -> main (pre-receive hook declined)", GitPushRejectedError),
        (
            "remote: GH006: Protected branch\n ! [remote rejected] a -> b (protected branch hook declined)",
            GitPushRejectedError,
        ),
        (
            "ERROR: The key has been marked as read only.\nERROR: Write access to repository not granted.",
            GitDeniedError,
        ),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 403", GitDeniedError),
        ("ERROR: Repository not found.\nfatal: Could not read from remote repository.", GitRepositoryMissingError),
        ("ssh: Could not resolve hostname h: Name or service not known", GitUnreachableError),
        ("fatal: unable to access 'https://h/r/': The requested URL returned error: 503", GitUnreachableError),
        ("fatal: something new", GitError),
    ],
)
def test_what_git_says_is_named(said: str, kind: type[GitError]) -> None:
    error = named_error(f"git ended with exit code 128: {said}", remote("https://h/r.git"))
    assert type(error) is kind
    assert "https://h/r.git" in str(error)
