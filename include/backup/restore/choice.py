"""Which backup a person means: an id, the latest proven one, the latest before a time, or that of a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog, ListedBackup
from include.backup.errors import AmbiguousChoiceError, BackupError, BackupMissingError, ParameterError
from include.backup.inventory import CONCURRENCY, LATEST, LATEST_PROVEN, Standing, find_backup, read_standing
from include.backup.manifest import Manifest
from include.backup.restore.words import Choosing
from include.backup.steps.context import GIT_SHA_PATTERN, RELEASE_PATTERN

RELEASE_TIER = "pre_deployment"
BEFORE_WORD, RELEASE_WORD = "before:", "release:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to choose, and what it needs; nothing else may be given beside it."""

    how: Choosing
    backup_id: str | None = None
    before: datetime | None = None
    release: str | None = None
    git_sha: str | None = None

    def check(self) -> None:
        """Raise ParameterError when what is needed is missing, or what is given says something else."""
        needed = {Choosing.ID: "backup_id", Choosing.BEFORE: "before", Choosing.RELEASE: "release"}.get(self.how)
        allowed = {needed, "git_sha"} if self.how is Choosing.RELEASE else {needed}
        names = ("backup_id", "before", "release", "git_sha")
        given = [name for name in names if getattr(self, name) is not None]
        if needed is not None and needed not in given:
            raise ParameterError(f"choosing by {self.how} needs {needed}; fill it in, or choose in another way")
        if surplus := sorted(set(given) - allowed):
            raise ParameterError(
                f"choosing by {self.how} and giving {', '.join(surplus)} says two things; leave one of them out"
            )
        if self.before is not None and self.before.tzinfo is None:
            raise ParameterError(f"{self.before.isoformat()} has no time zone; add Z for UTC")
        if self.release is not None and not RELEASE_PATTERN.fullmatch(self.release):
            raise ParameterError(f"{self.release!r} is no release; use 1 to 64 of letters, digits, '.', '_', '+', '-'")
        if self.git_sha is not None and not GIT_SHA_PATTERN.fullmatch(self.git_sha):
            raise ParameterError(f"{self.git_sha!r} is no commit; use 7 to 40 digits of 0-9a-f")


def parse_choice(text: str) -> Choice | None:
    """Return what the command line's word means, or None for an id, ``latest`` or ``latest-proven``.

    >>> parse_choice("release:2025.3.1").release
    '2025.3.1'
    """
    if text.startswith(RELEASE_WORD):
        name, _, sha = text.removeprefix(RELEASE_WORD).partition("@")
        return Choice(how=Choosing.RELEASE, release=name, git_sha=sha or None)
    if text.startswith(BEFORE_WORD):
        return Choice(how=Choosing.BEFORE, before=parse_time(text.removeprefix(BEFORE_WORD)))
    return None


def parse_time(text: str) -> datetime:
    """Return an aware time; raises ParameterError.

    >>> parse_time("2025-01-19T02:00:00Z").isoformat()
    '2025-01-19T02:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ParameterError(f"{text!r} is no time; write it as 2025-01-19T02:00:00Z") from error
    if moment.tzinfo is None:
        raise ParameterError(f"{text!r} has no time zone; add Z for UTC")
    return moment.astimezone(UTC)


def choose(catalog: Catalog, source: str, choice: Choice, *, unproven: bool = False) -> str:
    """Return the id of the one full backup that is meant.

    Raises ParameterError or AmbiguousChoiceError for an unclear choice, BackupMissingError when there is none.
    """
    choice.check()
    if choice.how is Choosing.ID and choice.backup_id is not None:
        if choice.backup_id in (LATEST, LATEST_PROVEN):
            raise ParameterError(f"{choice.backup_id} is no id; choose by {Choosing.LATEST_PROVEN}")
        return find_backup(catalog, source, choice.backup_id)
    if choice.how is Choosing.RELEASE:
        return _of_release(catalog, source, choice)
    if choice.how is Choosing.BEFORE and choice.before is not None:
        return _before(catalog, source, choice.before, unproven=unproven)
    return _newest(
        catalog, source, "proven full backup", lambda _, backup_id: read_standing(catalog, backup_id) is Standing.PROVEN
    )


def _before(catalog: Catalog, source: str, moment: datetime, *, unproven: bool) -> str:
    def fits(manifest: Manifest, backup_id: str) -> bool:
        return manifest.dump.snapshot.time <= moment and (
            unproven or read_standing(catalog, backup_id) is Standing.PROVEN
        )

    what = "full backup" if unproven else "proven full backup"
    return _newest(catalog, source, f"{what} of {moment:%Y-%m-%dT%H:%M:%SZ} or earlier", fits)


def _newest(catalog: Catalog, source: str, what: str, fits: Callable[[Manifest, str], bool]) -> str:
    """Return the backup whose data is the newest; when a run was due says little of when it read."""
    found = sorted(_manifests(catalog), key=lambda manifest: manifest.dump.snapshot.time, reverse=True)
    for manifest in found:
        if fits(manifest, manifest.backup_id):
            return manifest.backup_id
    raise BackupMissingError(f"{source} has no {what}; `python -m include.backup list {source}` shows what there is")


def _of_release(catalog: Catalog, source: str, choice: Choice) -> str:
    def meant(manifest: Manifest) -> bool:
        release = manifest.release
        return (
            release is not None
            and release.name == choice.release
            and (choice.git_sha is None or release.git_sha.startswith(choice.git_sha))
        )

    found = [manifest for manifest in _manifests(catalog, tier=RELEASE_TIER) if meant(manifest)]
    wanted = f"{choice.release}" + (f" ({choice.git_sha})" if choice.git_sha else "")
    if not found:
        raise BackupMissingError(
            f"{source} has no backup that was taken before release {wanted}; "
            f"`python -m include.backup list {source} --tier {RELEASE_TIER}` shows what there is"
        )
    if len(found) > 1:
        shown = "; ".join(
            f"{manifest.backup_id} of {manifest.dump.snapshot.time:%Y-%m-%d %H:%M:%S} UTC"
            + (f", commit {manifest.release.git_sha}" if manifest.release else "")
            for manifest in sorted(found, key=lambda manifest: manifest.dump.snapshot.time)
        )
        raise AmbiguousChoiceError(
            f"release {wanted} has {len(found)} backups, of which some may hold what it already did: {shown}; "
            "choose one by its id"
        )
    return found[0].backup_id


def _manifests(catalog: Catalog, *, tier: str | None = None) -> tuple[Manifest, ...]:
    """Return the manifests of complete full backups; one that cannot be read is not what anybody means."""
    with ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="choose") as pool:
        read = pool.map(lambda listed: _read(catalog, listed), _full(catalog, tier))
        return tuple(manifest for manifest in read if manifest is not None)


def _full(catalog: Catalog, tier: str | None) -> Iterator[ListedBackup]:
    for listed in catalog.list():
        parsed = parse_backup_id(listed.backup_id)
        wanted = parsed.tier != "safety" if tier is None else parsed.tier == tier
        if parsed.kind == "full" and wanted and listed.archive and listed.manifest:
            yield listed


def _read(catalog: Catalog, listed: ListedBackup) -> Manifest | None:
    try:
        return catalog.manifest(listed.backup_id)
    except BackupError:
        return None
