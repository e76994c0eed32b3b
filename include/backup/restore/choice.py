"""Which backup a person means: an id, the latest proven one, the latest before a time, or that of a release."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from include.backup.archive.reader import ArchiveReader
from include.backup.backup_id import parse_backup_id
from include.backup.catalog import Catalog, ListedBackup
from include.backup.errors import (
    AmbiguousChoiceError,
    BackupError,
    BackupMissingError,
    ObjectColdError,
    ParameterError,
    RestoreRefusedError,
)
from include.backup.inventory import LATEST, LATEST_PROVEN, Standing, find_backup, read_standing
from include.backup.manifest import Manifest
from include.backup.postgres.toc import read_toc
from include.backup.restore.plan import TOC_MEMBER
from include.backup.restore.target import shown
from include.backup.restore.thaw import Thawing, thaw_state
from include.backup.restore.words import Choosing
from include.backup.steps.context import GIT_SHA_PATTERN, RELEASE_PATTERN
from include.backup.store import SMALL_READS
from include.backup.table_restore.names import choose_tables, parse_table_name

RELEASE_TIER = "pre_deployment"
BEFORE_WORD, RELEASE_WORD = "before:", "release:"
# A thaw takes hours. Where a backup is taken each day, the one before can be read at once.
OLDER_BY_AT_MOST = timedelta(days=1)
LOG = logging.getLogger("include.backup.steps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A way to choose, and what it needs; nothing else may be given beside it.

    With ``tables``, archives of some tables count as well as full ones, and one that holds all of these is meant.
    """

    how: Choosing
    backup_id: str | None = None
    before: datetime | None = None
    release: str | None = None
    git_sha: str | None = None
    tables: tuple[str, ...] = ()

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
    """Return the id of the one backup that is meant: a full one, or for ``tables`` also one of some tables.

    Raises ParameterError or AmbiguousChoiceError for an unclear choice, BackupMissingError when there is none.
    """
    choice.check()
    if choice.how is Choosing.ID and choice.backup_id is not None:
        if choice.backup_id in (LATEST, LATEST_PROVEN):
            raise ParameterError(f"{choice.backup_id} is no id; choose by {Choosing.LATEST_PROVEN}")
        return find_backup(catalog, source, choice.backup_id)
    if choice.how is Choosing.RELEASE:
        return _of_release(catalog, source, choice)
    return _newest(catalog, source, choice, unproven=unproven and choice.how is Choosing.BEFORE)


def _newest(catalog: Catalog, source: str, choice: Choice, *, unproven: bool) -> str:
    """Return the backup whose data is the newest; when a run was due says little of when it read."""
    kinds = ("full", "tables") if choice.tables else ("full",)
    newest_first = sorted(
        _manifests(catalog, kinds=kinds), key=lambda manifest: manifest.dump.snapshot.time, reverse=True
    )
    fitting = (
        manifest
        for manifest in newest_first
        if (choice.before is None or manifest.dump.snapshot.time <= choice.before)
        and _will_do(catalog, manifest, choice, unproven)
    )
    newest = next(fitting, None)
    if newest is not None:
        return newest.backup_id if choice.before is not None else _at_once(catalog, newest, fitting)
    if choice.tables:
        _name_what_is_missing(catalog, newest_first, choice, unproven)
    # For tables each would cost a look into its archive.
    oldest = next(
        (one for one in reversed(newest_first) if not choice.tables and _will_do(catalog, one, choice, unproven)), None
    )
    there = "" if oldest is None else f"the oldest one's data is of {oldest.dump.snapshot.time:%Y-%m-%dT%H:%M:%SZ}; "
    raise BackupMissingError(
        f"{source} has no {_what(choice, unproven)}; {there}"
        f"`python -m include.backup list {source}` shows what there is"
    )


def _at_once(catalog: Catalog, newest: Manifest, older: Iterator[Manifest]) -> str:
    """Return the newest backup, or one that is a day older at most and can be read now while that lies in Glacier."""
    state, storage_class = thaw_state(catalog.store, newest)
    if state is Thawing.READABLE:
        return newest.backup_id
    for manifest in older:
        behind = newest.dump.snapshot.time - manifest.dump.snapshot.time
        if behind > OLDER_BY_AT_MOST:
            break
        if thaw_state(catalog.store, manifest)[0] is Thawing.READABLE:
            LOG.warning(
                "%s is meant, which can be read at once; the data of %s is %.1f hours newer, but lies in %s: "
                "choose that by its id to wait for its thaw",
                manifest.backup_id,
                newest.backup_id,
                behind / timedelta(hours=1),
                storage_class,
            )
            return manifest.backup_id
    return newest.backup_id


def _name_what_is_missing(catalog: Catalog, newest_first: Sequence[Manifest], choice: Choice, unproven: bool) -> None:
    """Let the newest full archive that can be asked say which of the tables it lacks, and what is near."""
    everything = replace(choice, tables=(), before=None)
    for manifest in newest_first:
        if manifest.kind == "full" and _will_do(catalog, manifest, everything, unproven):
            try:
                _look_for(catalog, manifest, choice.tables)
            except ObjectColdError:
                continue
            return


def _will_do(catalog: Catalog, manifest: Manifest, choice: Choice, unproven: bool) -> bool:
    is_proven = unproven or read_standing(catalog, manifest.backup_id) is Standing.PROVEN
    return is_proven and _holds(catalog, manifest, choice.tables)


def _what(choice: Choice, unproven: bool) -> str:
    what = "backup" if unproven else "proven backup"
    what = f"{what} of {', '.join(choice.tables)}" if choice.tables else what.replace("backup", "full backup")
    return what if choice.before is None else f"{what} of {choice.before:%Y-%m-%dT%H:%M:%SZ} or earlier"


def holds_rows_of(manifest: Manifest, tables: tuple[str, ...]) -> bool:
    """Say whether an archive has an entry of rows for each of these tables; trivially so without tables."""
    there = {(data.schema, data.table) for data in manifest.table_data}
    return all(
        any(table == name and schema in (None, place) for place, name in there)
        for schema, table in map(parse_table_name, tables)
    )


def _holds(catalog: Catalog, manifest: Manifest, tables: tuple[str, ...]) -> bool:
    """Say whether an archive holds these tables; a full one's table of contents is asked what the manifest leaves open.

    The rows of a partitioned table go by its partitions' names. Whatever is in Glacier cannot be asked.
    """
    if holds_rows_of(manifest, tables):
        return True
    if manifest.kind != "full":
        return False
    try:
        _look_for(catalog, manifest, tables)
    except (ParameterError, RestoreRefusedError, ObjectColdError):
        return False
    return True


def _look_for(catalog: Catalog, manifest: Manifest, tables: tuple[str, ...]) -> None:
    """Raise ParameterError or RestoreRefusedError, in words that help, for tables that an archive does not hold."""
    choose_tables(read_toc(ArchiveReader(catalog.store, manifest).read(TOC_MEMBER)), manifest, tables)


def _of_release(catalog: Catalog, source: str, choice: Choice) -> str:
    def meant(manifest: Manifest) -> bool:
        release = manifest.release
        return (
            release is not None
            and release.name == choice.release
            and (choice.git_sha is None or release.git_sha.startswith(choice.git_sha))
        )

    manifests = _manifests(catalog, tier=RELEASE_TIER)
    found = [manifest for manifest in manifests if meant(manifest)]
    wanted = f"{choice.release}" + (f" ({choice.git_sha})" if choice.git_sha else "")
    if not found:
        raise BackupMissingError(
            f"{source} has no backup that was taken before release {wanted}; {_releases(manifests)}; "
            f"`python -m include.backup list {source} --tier {RELEASE_TIER}` shows what there is"
        )
    if len(found) > 1:
        listed = "; ".join(
            f"{manifest.backup_id} of {manifest.dump.snapshot.time:%Y-%m-%d %H:%M:%S} UTC"
            + (f", commit {manifest.release.git_sha}" if manifest.release else "")
            for manifest in sorted(found, key=lambda manifest: manifest.dump.snapshot.time)
        )
        raise AmbiguousChoiceError(
            f"release {wanted} has {len(found)} backups, of which some may hold what it already did: {listed}; "
            "choose one by its id"
        )
    return found[0].backup_id


def _releases(manifests: Sequence[Manifest]) -> str:
    """Return the releases before which backups were taken, the newest first."""
    newest_first = sorted(manifests, key=lambda manifest: manifest.dump.snapshot.time, reverse=True)
    names = list(dict.fromkeys(manifest.release.name for manifest in newest_first if manifest.release))
    return f"there are those before {shown(names)}" if names else "there is none before any"


def _manifests(
    catalog: Catalog, *, tier: str | None = None, kinds: tuple[str, ...] = ("full",)
) -> tuple[Manifest, ...]:
    """Return the manifests of complete backups of some kinds; one that cannot be read is not what anybody means."""
    with ThreadPoolExecutor(SMALL_READS, thread_name_prefix="choose") as pool:
        read = pool.map(lambda listed: _read(catalog, listed), _complete(catalog, tier, kinds))
        return tuple(manifest for manifest in read if manifest is not None)


def _complete(catalog: Catalog, tier: str | None, kinds: tuple[str, ...]) -> Iterator[ListedBackup]:
    for listed in catalog.list():
        parsed = parse_backup_id(listed.backup_id)
        wanted = parsed.tier != "safety" if tier is None else parsed.tier == tier
        if parsed.kind in kinds and wanted and listed.archive and listed.manifest:
            yield listed


def _read(catalog: Catalog, listed: ListedBackup) -> Manifest | None:
    try:
        return catalog.manifest(listed.backup_id)
    except BackupError:
        return None
