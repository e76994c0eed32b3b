"""Which revision of the policy's file is in force, and who made it: as a deployment says, or git where there is one."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.backup.errors import CommandError, ToolMissingError
from include.backup.process import Command, Runner
from include.backup.schema_history.redaction import without_known_secrets

# What a deployment without a clone sets: the revision that it was made of, and who made that.
REVISION_VARIABLE, AUTHOR_VARIABLE = "BACKUP_POLICY_REVISION", "BACKUP_POLICY_AUTHOR"
TIMEOUT_SECONDS = 10
LONGEST = 200
# Nothing of a repository's own configuration is run.
_GIT = ("git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "log.showSignature=false")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """``uncommitted`` means that the file is not as the revision has it: then nobody is known to have made it so."""

    revision: str
    author: str | None = None
    uncommitted: bool = False


def origin_of(path: Path | None, environ: Mapping[str, str] | None = None) -> Origin | None:
    """Return where a policy's file comes from; None where nobody says, which is no error."""
    known = os.environ if environ is None else environ
    if known.get(REVISION_VARIABLE):
        author = known.get(AUTHOR_VARIABLE)
        return Origin(revision=_clean(known[REVISION_VARIABLE]), author=_clean(author) if author else None)
    if path is None or not any((folder / ".git").exists() for folder in path.resolve().parents):
        return None
    try:
        return _from_git(path.resolve())
    except (CommandError, ToolMissingError) as error:
        logger.info("git does not say which revision %s is of: %s", path.name, error)
        return None


def _from_git(path: Path) -> Origin | None:
    lines = _git(path, "log", "-1", "--format=revision:%H%nauthor:%aN", "--", path.name)
    said = dict(line.partition(":")[::2] for line in lines)
    revision = said.get("revision")
    if not revision:
        return None
    if _git(path, "rev-parse", f"{revision}:./{path.name}") != _git(path, "hash-object", "--no-filters", path.name):
        return Origin(revision=_clean(revision), uncommitted=True)
    return Origin(revision=_clean(revision), author=_clean(said.get("author", "")) or None)


def _git(path: Path, *words: str) -> tuple[str, ...]:
    """Run one command in the file's folder and return its lines; raises CommandError when it fails."""
    command = Command(
        argv=(*_GIT, *words),
        environment={"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1"},
        folder=path.parent,
    )
    return Runner(log=logger).run(command, timeout_seconds=TIMEOUT_SECONDS).lines


def _clean(text: str) -> str:
    """Return what may stay in a record for ever: one line, not long, and no secret."""
    return without_known_secrets(" ".join(text.split()))[:LONGEST]
