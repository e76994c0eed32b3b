"""The local side of the schema's history: a bare repository that keeps each commit until the remote has it.

Nothing is ever checked out and nothing is ever forced. A commit that could not be pushed stays here, and goes with the
next push, on top of what others have pushed in the meantime as long as they left its folder alone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from include.backup.errors import GitDivergedError, GitError, StagingBusyError, StagingError
from include.backup.policy import SchemaBackupPolicy
from include.backup.process import Runner
from include.backup.schema_history.git import Git
from include.backup.schema_history.remote import GitRemote, git_environment

FILE_MODE = "100644"
# What a killed process may leave in the repository's folder.
WORK = "work-"


@dataclass(frozen=True, kw_only=True)
class SchemaRepository:
    """One source's local repository, and the remote's branch that it follows."""

    git: Git
    remote: GitRemote
    policy: SchemaBackupPolicy

    @property
    def local(self) -> str:
        """The ref of what is committed, pushed or not."""
        return f"refs/heads/{self.policy.branch}"

    @property
    def remembered(self) -> str:
        """The ref of the remote's branch as it was when it last went on from what it had been."""
        return f"refs/remotes/origin/{self.policy.branch}"

    @property
    def fetched(self) -> str:
        """The ref of the remote's branch as it was fetched last."""
        return f"refs/fetched/{self.policy.branch}"

    def fetch(self) -> None:
        """Take over the remote's branch, with the kept commits on top of it.

        Raises GitDivergedError when they contradict it, and the errors of talking to the remote.
        """
        found = self.git.talk(self.remote, "ls-remote", "--", self.remote.url, self.local)
        before = self.tip(self.remembered)
        if not found.strip():
            if before is not None:
                raise self._diverged(f"the branch {self.policy.branch} was there before and is gone", None)
            return
        spec = f"+{self.local}:{self.fetched}"
        self.git.talk(
            self.remote, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", self.remote.url, spec
        )
        theirs = self.git.run("rev-parse", "--verify", self.fetched).strip()
        if before is not None and not self.git.succeeds("merge-base", "--is-ancestor", before, theirs):
            # What somebody took back, a secret perhaps, must not come again with our next push.
            raise self._diverged(f"the remote's branch had {before[:12]} before and has it no more", theirs)
        self.git.run("update-ref", self.remembered, theirs)
        self._put_on_top(theirs)

    def tip(self, ref: str | None = None) -> str | None:
        """Return the commit of a ref (default: of what is committed), or None."""
        ref = ref or self.local
        return self.git.run("for-each-ref", "--format=%(objectname)", ref).strip() or None

    def read(self, commit: str | None, name: str) -> bytes | None:
        """Return a file of the source's folder in a commit, or None."""
        if commit is None:
            return None
        path = f"{self.policy.folder}/{name}"
        if not self.git.run("ls-tree", "--name-only", commit, "--", path).strip():
            return None
        return self.git.read("cat-file", "blob", f"{commit}:{path}")

    def last_commit(self, commit: str) -> str | None:
        """Return the newest commit up to this one that changed the source's folder."""
        return self.git.run("log", "-1", "--format=%H", commit, "--", self.policy.folder).strip() or None

    def has(self, commit: str) -> bool:
        """Say whether a commit is here."""
        return bool(self.git.run("rev-list", "--ignore-missing", "-1", commit, "--").strip())

    def tip_before(self, commit: str) -> str | None:
        """Return the commit on which another one was put, or None for the first."""
        parents = self.git.run("rev-list", "--parents", "-1", commit).split()[1:]
        return parents[0] if parents else None

    def message(self, commit: str) -> str:
        """Return a commit's message."""
        return self.git.run("log", "-1", "--format=%B", commit)

    def commit(self, files: Mapping[str, bytes], message: str, *, when: datetime) -> str:
        """Write the files into the folder, in one commit on top of what is committed; return it."""
        parent = self.tip()
        with TemporaryDirectory(prefix=WORK, dir=self.git.folder) as name:
            blobs = {}
            for file, content in files.items():
                path = Path(name) / "blob"
                path.write_bytes(content)
                blobs[file] = self.git.run("hash-object", "-w", "--no-filters", "--", str(path)).strip()
            made = self._commit_blobs(blobs, message, parent=parent, date=f"{when.timestamp():.0f} +0000")
        self.git.run("update-ref", self.local, made, parent or "0" * 40)
        return made

    def push(self) -> None:
        """Push what the remote does not have; raises RemoteMovedError when somebody else was quicker."""
        tip = self.tip()
        if tip is None or tip == self.tip(self.remembered):
            return
        self.git.talk(
            self.remote, "push", "--quiet", "--no-verify", "--no-signed", "--", self.remote.url, f"{tip}:{self.local}"
        )
        self.git.run("update-ref", self.remembered, tip)

    def pending(self) -> tuple[str, ...]:
        """Return the commits that the remote does not have, oldest first."""
        return self._beyond(self.tip(self.remembered))

    def _beyond(self, theirs: str | None) -> tuple[str, ...]:
        tip = self.tip()
        if tip is None:
            return ()
        without = () if theirs is None else (f"^{theirs}",)
        return tuple(self.git.run("rev-list", "--reverse", tip, *without).split())

    def _put_on_top(self, theirs: str) -> None:
        ours = self.tip()
        if ours == theirs:
            return
        if ours is None or self.git.succeeds("merge-base", "--is-ancestor", ours, theirs):
            self.git.run("update-ref", self.local, theirs, ours or "0" * 40)
        elif not self.git.succeeds("merge-base", "--is-ancestor", theirs, ours):
            self.git.run("update-ref", self.local, self._replayed(ours, theirs), ours)

    def _replayed(self, ours: str, theirs: str) -> str:
        """Return the kept commits on top of the remote's branch, of which they must be the only ones in the folder."""
        if not self.git.succeeds("merge-base", ours, theirs):
            raise self._diverged("the remote's branch has nothing in common with what is kept here", theirs)
        base = self.git.run("merge-base", ours, theirs).strip()
        if not self.git.succeeds("diff", "--quiet", base, theirs, "--", self.policy.folder):
            raise self._diverged(f"somebody else changed {self.policy.folder} in the remote's branch", theirs)
        parent = theirs
        for commit in self.git.run("rev-list", "--reverse", f"{base}..{ours}").split():
            listed = self.git.run("ls-tree", commit, "--", f"{self.policy.folder}/").splitlines()
            blobs = {line.partition("\t")[2].rpartition("/")[2]: line.split()[2] for line in listed}
            date = self.git.run("log", "-1", "--format=%ad", "--date=raw", commit).strip()
            parent = self._commit_blobs(blobs, self.message(commit), parent=parent, date=date)
        return parent

    def _commit_blobs(self, blobs: Mapping[str, str], message: str, *, parent: str | None, date: str) -> str:
        with TemporaryDirectory(prefix=WORK, dir=self.git.folder) as name:
            index, text = Path(name) / "index", Path(name) / "message"
            text.write_text(message, encoding="utf-8", errors="surrogateescape")
            environment = {"GIT_INDEX_FILE": str(index)}
            self.git.run("read-tree", *((parent,) if parent else ("--empty",)), **environment)
            for file, blob in blobs.items():
                item = f"{FILE_MODE},{blob},{self.policy.folder}/{file}"
                self.git.run("update-index", "--add", "--replace", "--cacheinfo", item, **environment)
            tree = self.git.run("write-tree", **environment).strip()
            parents = () if parent is None else ("-p", parent)
            return self.git.run("commit-tree", tree, *parents, "-F", str(text), **self._author(date)).strip()

    def _author(self, date: str) -> dict[str, str]:
        return {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (
                ("NAME", self.policy.author_name),
                ("EMAIL", self.policy.author_email),
                ("DATE", date),
            )
        }

    def _diverged(self, why: str, theirs: str | None) -> GitDivergedError:
        kept = len(self._beyond(theirs))
        return GitDivergedError(
            f"{why} ({self.remote.url}, branch {self.policy.branch}). Nothing was pushed or overwritten; {kept} "
            f"commits that it does not have are kept in {self.git.folder}. Look at both with `git log`; if the remote "
            "is right, move that folder away and run again"
        )


@contextmanager
def open_repository(
    folder: Path, *, remote: GitRemote, policy: SchemaBackupPolicy, runner: Runner
) -> Iterator[SchemaRepository]:
    """Yield the local repository, made if need be, held against other processes; raises StagingBusyError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StagingError(f"cannot make the folder {folder}: {error.strerror}; see BACKUP_STAGING_DIR") from error
    handle = os.open(folder / "in-use", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StagingBusyError(f"another process works in {folder}; wait for it to end and retry") from error
        with git_environment(remote) as environment:
            git = Git(folder=folder, runner=runner, environment=environment)
            _prepare(git)
            yield SchemaRepository(git=git, remote=remote, policy=policy)
    finally:
        os.close(handle)


def _prepare(git: Git) -> None:
    """Make the repository, and remove the locks of killed git processes: no other works here while we hold ours."""
    git.run("init", "--quiet", "--bare", "--template=")
    for lock in git.folder.rglob("*.lock"):
        lock.unlink()
    for leftover in git.folder.glob(f"{WORK}*"):
        shutil.rmtree(leftover)
    if git.run("rev-parse", "--is-bare-repository").strip() != "true":
        raise GitError(f"{git.folder} is no bare repository; move it away and run again")
