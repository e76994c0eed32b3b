"""The schema's history with a real database and real git remotes: what is committed, hidden, refused."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    GitDeniedError,
    GitDivergedError,
    GitError,
    GitHostKeyError,
    GitPushRejectedError,
    GitRepositoryMissingError,
    GitTlsError,
    GitUnreachableError,
    StagingBusyError,
)
from include.backup.policy import SourcePolicy
from include.backup.postgres.commands import psql_file_command
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner
from include.backup.schema_history.changes import SchemaChanges
from include.backup.schema_history.drift import drift_from_release
from include.backup.schema_history.history import CommittedSchema, SchemaHistory
from include.backup.schema_history.remote import GitRemote, Transport
from include.backup.schema_history.repository import open_repository
from include.backup.steps import upload
from include.backup.steps.context import Release
from include.local.ports import free_port_base
from include.local.stack import Stack
from tests.support.contexts import ContextMaker, run_chain
from tests.support.git_servers import TOKEN, USER, SshServer, git, https_server, make_remote, ssh_server
from tests.support.proof_source import SQL, Site

pytest_plugins = ["tests.support.proof_fixtures"]

DATABASE = "history"
SCRIPT = SQL / "schema_history.sql"
FOLDER = "pulse_messages"


@pytest.fixture(scope="module")
def database(site: Site) -> Iterator[DatabaseConnection]:
    with site.database(DATABASE, SCRIPT) as made:
        yield made
        with site.session(DATABASE) as session:
            session.execute("DROP SUBSCRIPTION history_subscription")


@dataclass(kw_only=True)
class Lab:
    """One remote, one local repository, one database."""

    source: SourcePolicy
    database: DatabaseConnection
    remote: Path
    staging: Path
    site: Site
    runs: int = 0

    @property
    def file(self) -> GitRemote:
        return GitRemote(conn_id="pulse_schema_git", url=f"file://{self.remote}", transport=Transport.FILE)

    def history(self, **changes: Any) -> SchemaHistory:
        self.runs += 1
        values: dict[str, Any] = {
            "source": self.source,
            "database": self.database,
            "remote": self.file,
            "staging_root": self.staging,
            "runner": Runner(log=logging.getLogger("tests.schema")),
            "run_id": f"run {self.runs}",
        }
        return SchemaHistory(**{**values, **changes})

    def back_up(self, **changes: Any) -> CommittedSchema:
        return self.history(**changes).back_up()

    def sql(self, statement: str) -> None:
        with self.site.session(DATABASE) as session:
            session.execute(statement.encode())

    def subjects(self, ref: str = "main") -> list[str]:
        """Return the subjects in the remote, newest first."""
        return git(self.remote, "log", "--format=%s", ref).splitlines()

    def text(self, name: str = "schema.sql", ref: str = "main") -> str:
        return git(self.remote, "show", f"{ref}:{FOLDER}/{name}")

    def colleague(self, path: str, content: str) -> None:
        """Let somebody else commit a file and push it."""
        clone = self.staging.parent / "colleague"
        if not clone.exists():
            git(self.staging.parent, "clone", "--quiet", str(self.remote), str(clone))
        git(clone, "pull", "--quiet", "--rebase", "origin", "main")
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(content)
        git(clone, "add", path)
        git(clone, "commit", "--quiet", "-m", f"edit {path}")
        git(clone, "push", "--quiet", "origin", "HEAD:main")

    def hook(self, script: str) -> Path:
        path = self.remote / "hooks" / "pre-receive"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path


@pytest.fixture
def lab(database: DatabaseConnection, policy_source: SourcePolicy, site: Site, tmp_path: Path) -> Lab:
    return Lab(
        source=policy_source,
        database=database,
        remote=make_remote(tmp_path / "remote.git"),
        staging=tmp_path / "staging",
        site=site,
    )


@pytest.fixture(scope="module")
def ssh() -> Iterator[SshServer]:
    with ssh_server() as server:
        yield server


# --- what is committed ---------------------------------------------------------------------------------


def test_a_change_is_a_commit_that_names_it_and_nothing_changed_is_none(lab: Lab) -> None:
    first = lab.back_up()
    assert (first.first, first.commit, first.changes.removed) == (True, first.head, ())
    assert lab.subjects() == [f"pulse_messages: first schema, {len(first.changes.added)} objects"]
    again = lab.back_up()
    assert (again.commit, again.head, bool(again.changes)) == (None, first.head, False)
    lab.sql("ALTER TABLE public.users ADD COLUMN born date; CREATE TABLE public.extra (id int); DROP VIEW public.happy")
    try:
        changed = lab.back_up()
        assert [str(name) for name in changed.changes.added] == ["TABLE public.extra"]
        assert [str(name) for name in changed.changes.removed] == ["VIEW public.happy"]
        assert [str(name) for name in changed.changes.changed] == ["TABLE public.users"]
        message = git(lab.remote, "log", "-1", "--format=%B", "main")
        assert message.splitlines()[0] == "pulse_messages: 1 TABLE added, 1 VIEW removed, 1 TABLE changed"
        assert "\nadded: TABLE public.extra\nremoved: VIEW public.happy\nchanged: TABLE public.users\n" in message
        difference = git(lab.remote, "diff", "main~1", "main", "--", f"{FOLDER}/schema.sql")
        assert "+    born date" in difference
        touched = [line for line in difference.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert len(touched) < 25
        assert git(lab.remote, "log", "-1", "--format=%an %ae", "main").strip() == (
            "Schema backup schema-backup@pulse-messages.invalid"
        )
    finally:
        lab.sql("ALTER TABLE public.users DROP COLUMN born; DROP TABLE public.extra")
        lab.sql("CREATE VIEW public.happy AS SELECT * FROM public.users WHERE mood = 'good'")


def test_no_secret_gets_into_the_repository_or_a_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    source = replace(lab.source, schema_backup=replace(_block(lab), withheld=("private.hand_made",)))
    with caplog.at_level(logging.DEBUG):
        done = lab.back_up(source=source)
    everything = [path.read_bytes() for root in (lab.remote, lab.staging) for path in root.rglob("*") if path.is_file()]
    objects = git(lab.remote, "rev-list", "--objects", "--all").split("\n")
    blobs = [git(lab.remote, "cat-file", "-p", line.split()[0]) for line in objects if line.endswith((".sql", ".json"))]
    assert len(blobs) == 3
    for text in (*blobs, caplog.text, done.line(), *map(str, done.changes.added)):
        assert "CANARY" not in text
        assert "k7Jq2vX9mZ4tR8wB" not in text
        assert str(lab.database.password) not in text
    assert not any(b"CANARY" in content for content in everything)
    schema = lab.text()
    assert "password '***'" in schema
    assert "CONNECTION 'host=far.example dbname=d user=u password=***'" in schema
    assert "api_key CONSTANT text := '***'" in schema
    assert "host 'far.example', api_token" not in schema.replace("\n    ", " ").replace("'***'", "api_token")
    assert "-- FUNCTION private.hand_made(), owner" in schema
    assert "-- withheld, as the policy says" in schema
    assert "\"app.settings.jwt_secret\" TO '***'" in lab.text("database.sql")
    assert "work_mem TO '8MB'" in lab.text("database.sql")


def test_the_written_schema_makes_the_same_database_and_its_numbers_do_not_matter(lab: Lab, site: Site) -> None:
    """Run what was written in another database, whose objects have other numbers and another order of making."""
    lab.back_up()
    with site.database("history_copy") as copy:
        with site.session("history_copy") as session:
            session.execute("CREATE TABLE public.disturbance (id int); DROP TABLE public.disturbance")
        script = lab.staging.parent / "schema.sql"
        # What stands for a secret is no value that PostgreSQL takes everywhere; a subscription blocks DROP DATABASE.
        script.write_text(lab.text())
        Runner().run(psql_file_command(find_tools(17), copy, script=script))
        try:
            again = lab.history(database=copy).preview()
            changes = (*again.changes.added, *again.changes.removed, *again.changes.changed)
            assert [str(name) for name in changes if "DATABASE" not in name.kind] == []
            assert "DATABASE history_copy" in map(str, again.changes.added)
        finally:
            with site.session("history_copy") as session:
                session.execute("DROP SUBSCRIPTION history_subscription")


def test_the_sample_is_written_so_that_it_can_be_read_back(lab: Lab, stack: Stack) -> None:
    lab.back_up(database=stack.database_connection())
    assert lab.back_up(database=stack.database_connection()).commit is None
    assert "CREATE TABLE public.messages (" in lab.text()


def test_a_backup_with_everything_in_it_is_no_drift_from_the_schema_on_its_own(
    lab: Lab, make_context: ContextMaker
) -> None:
    """The sample has large objects, which a backup holds and a schema does not."""
    ctx = make_context(tier="pre_deployment", release=Release(name="2026.1", git_sha="0" * 40))
    run_chain(ctx, until=upload)
    history = lab.history(database=ctx.database)
    done = history.back_up()
    drift = drift_from_release(history, history.committed(done.head), store=ctx.store, catalog=ctx.catalog)
    assert drift is not None
    assert drift.backup_id == ctx.backup_id
    assert (drift.changes, drift.diff) == (SchemaChanges(added=(), removed=(), changed=()), "")


def test_a_hand_edited_file_is_written_again(lab: Lab) -> None:
    lab.back_up()
    lab.colleague(f"{FOLDER}/schema.sql", "-- nothing here\n")
    done = lab.back_up()
    assert (done.commit, bool(done.changes)) == (done.head, False)
    assert "CREATE TABLE public.users" in lab.text()
    assert len(lab.subjects()) == 3


def test_another_worker_finds_a_commit_and_goes_on_from_it(lab: Lab, tmp_path: Path) -> None:
    """Staging is shared in production; where it is not, or was lost, the remote has all that counts."""
    done = lab.back_up()
    elsewhere = lab.history(staging_root=tmp_path / "elsewhere")
    found = elsewhere.committed(done.head)
    assert {item.name for item in found.objects} == set(done.changes.added)
    assert found.files["schema.sql"].decode() == lab.text()
    assert elsewhere.back_up().commit is None
    assert len(lab.subjects()) == 1


def test_what_others_have_in_the_repository_stays(lab: Lab) -> None:
    lab.back_up()
    lab.colleague("README.md", "mine\n")
    lab.colleague(f"{FOLDER}_other/schema.sql", "theirs\n")
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        lab.back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    names = git(lab.remote, "ls-tree", "-r", "--name-only", "main").split()
    assert {"README.md", f"{FOLDER}_other/schema.sql", f"{FOLDER}/schema.sql"} <= set(names)
    assert lab.subjects()[0] == "pulse_messages: TABLE public.extra added"


# --- what goes wrong -----------------------------------------------------------------------------------


def test_a_rejected_push_loses_nothing_and_goes_with_the_next(lab: Lab) -> None:
    lab.back_up()
    hook = lab.hook("echo 'main is protected: ask the platform team' >&2; exit 1")
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        with pytest.raises(GitPushRejectedError, match="main is protected: ask the platform team") as caught:
            lab.back_up()
        assert "The commit is kept and goes with the next run's push" in str(caught.value)
        lab.sql("DROP TABLE public.extra")
        with pytest.raises(GitPushRejectedError):
            lab.back_up()
        assert len(lab.subjects()) == 1
        hook.unlink()
        done = lab.back_up()
    finally:
        lab.sql("DROP TABLE IF EXISTS public.extra")
    assert lab.subjects()[:2] == [
        "pulse_messages: TABLE public.extra removed",
        "pulse_messages: TABLE public.extra added",
    ]
    assert (done.pushed, done.commit) == (2, done.head)


def test_a_push_that_was_overtaken_is_put_on_top(lab: Lab) -> None:
    """Somebody pushes between our fetch and our push, each of the first two times."""
    lab.back_up()
    lab.sql("CREATE TABLE public.extra (id int)")
    history, raced = lab.history(), []

    class Racing(Runner):
        def stream(self, command: Any, consume: Any) -> Any:
            if "push" in command.argv and len(raced) < 2:
                raced.append(1)
                lab.colleague(f"notes/{len(raced)}.md", "quicker\n")
            return super().stream(command, consume)

    try:
        done = replace(history, runner=Racing()).back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    assert lab.subjects()[:3] == ["pulse_messages: TABLE public.extra added", "edit notes/2.md", "edit notes/1.md"]
    assert (len(raced), done.commit) == (2, git(lab.remote, "rev-parse", "main").strip())


def test_kept_commits_go_on_top_of_what_others_pushed_elsewhere(lab: Lab) -> None:
    lab.back_up()
    hook = lab.hook("exit 1")
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        with pytest.raises(GitPushRejectedError):
            lab.back_up()
        hook.unlink()
        lab.colleague("README.md", "meanwhile\n")
        lab.back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    assert lab.subjects()[:2] == ["pulse_messages: TABLE public.extra added", "edit README.md"]


@pytest.mark.parametrize("how", ["same folder", "replaced history", "deleted branch"])
def test_a_diverged_remote_is_refused_and_nothing_is_lost_or_forced(lab: Lab, how: str) -> None:
    lab.back_up()
    hook = lab.hook("exit 1")
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        with pytest.raises(GitPushRejectedError):
            lab.back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    hook.unlink()
    if how == "same folder":
        lab.colleague(f"{FOLDER}/schema.sql", "-- edited\n")
    elif how == "replaced history":
        tree = git(lab.remote, "mktree").strip()
        made = git(lab.remote, "commit-tree", tree, "-m", "a new beginning").strip()
        git(lab.remote, "update-ref", "refs/heads/main", made)
    else:
        git(lab.remote, "update-ref", "-d", "refs/heads/main")
    before = git(lab.remote, "for-each-ref")
    with pytest.raises(GitDivergedError) as caught:
        lab.back_up()
    assert "Nothing was pushed or overwritten" in str(caught.value)
    assert "move that folder away and run again" in str(caught.value)
    assert git(lab.remote, "for-each-ref") == before
    kept = git(lab.history().folder, "log", "--format=%s", "main")
    assert "pulse_messages: TABLE public.extra added" in kept
    lab.history().folder.rename(lab.staging / "away")
    assert lab.back_up().commit is not None


@pytest.mark.parametrize("goes_on", [False, True])
def test_what_somebody_took_back_from_the_remote_is_not_pushed_again(lab: Lab, goes_on: bool) -> None:
    lab.back_up()
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        taken_back = lab.back_up().head
        git(lab.remote, "update-ref", "refs/heads/main", "main~1")
        if goes_on:
            lab.colleague("README.md", "purged\n")
        before = git(lab.remote, "for-each-ref")
        for _ in range(2):  # a failed run must not take what it found for what there was
            with pytest.raises(GitDivergedError, match=f"had {taken_back[:12]} before and has it no more") as caught:
                lab.back_up()
        assert "; 1 commits that it does not have" in str(caught.value)
        assert git(lab.remote, "for-each-ref") == before
        lab.history().folder.rename(lab.staging / "away")
        done = lab.back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    assert git(lab.remote, "rev-parse", "main").strip() == done.head
    assert taken_back not in git(lab.remote, "rev-list", "main").split()


def test_an_unreachable_remote_keeps_todays_schema(lab: Lab) -> None:
    lab.back_up()
    away = lab.remote.rename(lab.remote.with_name("away.git"))
    lab.sql("CREATE TABLE public.extra (id int)")
    try:
        with pytest.raises(GitRepositoryMissingError, match=r"there is no git repository at this address"):
            lab.back_up()
    finally:
        lab.sql("DROP TABLE public.extra")
    away.rename(lab.remote)
    done = lab.back_up()
    assert lab.subjects()[:2] == [
        "pulse_messages: TABLE public.extra removed",
        "pulse_messages: TABLE public.extra added",
    ]
    assert done.pushed == 2


def test_a_folder_that_is_no_repository_is_named(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    remote = replace(lab.file, url=f"file://{tmp_path}/plain")
    with pytest.raises(GitRepositoryMissingError, match=r"plain \(connection pulse_schema_git\): there is no git repo"):
        lab.back_up(remote=remote)


def test_two_runs_at_a_time_are_refused(lab: Lab) -> None:
    history = lab.history()
    with (
        open_repository(history.folder, remote=lab.file, policy=_block(lab), runner=history.runner),
        pytest.raises(StagingBusyError),
    ):
        history.back_up()


def test_the_users_own_git_configuration_is_not_read(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = tmp_path / "evil"
    (tmp_path / ".gitconfig").write_text(f"[core]\n\thooksPath = {tmp_path}\n[alias]\n\tfetch = !touch {evil}\n")
    (tmp_path / "pre-push").write_text(f"#!/bin/sh\ntouch {evil}\n")
    (tmp_path / "pre-push").chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / ".gitconfig"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {evil}")
    assert lab.back_up().commit is not None
    assert not evil.exists()


# --- ssh and https -------------------------------------------------------------------------------------


def over_ssh(lab: Lab, ssh: SshServer, **changes: Any) -> GitRemote:
    values: dict[str, Any] = {
        "conn_id": "pulse_schema_git",
        "url": ssh.url(lab.remote),
        "transport": Transport.SSH,
        "private_key": ssh.private_key,
        "known_hosts": ssh.known_hosts,
    }
    return GitRemote(**{**values, **changes})


def test_it_goes_over_ssh_with_a_key_that_is_nowhere_afterwards(
    lab: Lab, ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b; touch hacked; $(touch hacked) '%h'"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    monkeypatch.chdir(odd)
    assert lab.back_up(remote=over_ssh(lab, ssh)).commit is not None
    assert lab.subjects()
    assert list(odd.iterdir()) == []
    line = ssh.private_key.splitlines()[2].encode()
    assert not any(line in path.read_bytes() for path in lab.staging.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"private_key": "other"}, GitDeniedError, "refuses the key or token of the connection; give it write access"),
        ({"private_key": "no key at all"}, GitDeniedError, "must be a whole private key without a passphrase"),
        (
            {"known_hosts": "elsewhere.example ssh-ed25519 AAAA"},
            GitHostKeyError,
            "not in known_hosts of the connection",
        ),
        ({"known_hosts": "changed"}, GitHostKeyError, "Somebody may be in between"),
        ({"url": "missing"}, GitRepositoryMissingError, "make the repository"),
        ({"url": "closed"}, GitUnreachableError, "the host does not answer"),
    ],
)
def test_what_ssh_refuses_is_said_with_the_next_step(
    lab: Lab, ssh: SshServer, changes: dict[str, Any], kind: type[GitError], words: str
) -> None:
    stand_ins = {
        "other": ssh.other_key,
        "changed": f"{ssh.known_hosts.split()[0]} {_public(ssh.other_key)}",
        "missing": ssh.url(lab.remote.with_name("missing.git")),
        "closed": f"ssh://git@127.0.0.1:{free_port_base()}{lab.remote}",
    }
    values = {name: stand_ins.get(value, value) for name, value in changes.items()}
    with pytest.raises(kind, match=words) as caught:
        lab.back_up(remote=over_ssh(lab, ssh, **values))
    assert ssh.private_key.splitlines()[2] not in str(caught.value)
    assert git(lab.remote, "for-each-ref") == ""


def test_it_goes_over_https_with_a_token_that_is_in_no_argument_and_no_file(
    lab: Lab, stack: Stack, tmp_path: Path
) -> None:
    seen: list[str] = []

    class Watching(Runner):
        def stream(self, command: Any, consume: Any) -> Any:
            seen.append(" ".join(command.argv))
            return super().stream(command, consume)

    git(lab.remote, "config", "http.receivepack", "true")
    with https_server(tmp_path, certificate=stack.layout.certificate, key=stack.layout.key) as url:
        remote = GitRemote(
            conn_id="pulse_schema_git",
            url=f"{url}/remote.git",
            transport=Transport.HTTPS,
            user=USER,
            token=TOKEN,
            ca=str(stack.layout.ca),
        )
        assert lab.back_up(remote=remote, runner=Watching()).commit is not None
        with pytest.raises(GitDeniedError, match="refuses the key or token") as caught:
            lab.back_up(remote=replace(remote, token="wrong"))
        assert "wrong" not in str(caught.value)
        with pytest.raises(GitDeniedError):
            lab.back_up(remote=replace(remote, token=None))
        with pytest.raises(GitTlsError, match="put the file of its certificate authority into the extra ca"):
            lab.back_up(remote=replace(remote, ca=None))
        with pytest.raises(GitRepositoryMissingError):
            lab.back_up(remote=replace(remote, url=f"{url}/missing.git"))
    assert seen
    assert not any(TOKEN in line for line in seen)
    files = [path.read_bytes() for path in lab.staging.rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in files)


def _public(private: str) -> str:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"key-{os.getpid()}"
    path.write_text(private)
    path.chmod(0o600)
    try:
        return subprocess.run(
            ("ssh-keygen", "-y", "-f", str(path)), capture_output=True, text=True, check=True
        ).stdout.strip()
    finally:
        path.unlink()


def _block(lab: Lab) -> Any:
    assert lab.source.schema_backup is not None
    return lab.source.schema_backup
