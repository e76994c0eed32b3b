"""Lose a whole server, and get it back as it was between two commits: on 17 with incremental backups, and on 15."""

from __future__ import annotations

import itertools
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.base.plan import Wish
from include.backup.errors import (
    BackupMissingError,
    MemberHashError,
    RestoreRefusedError,
    TargetFullError,
    TargetNotReachedError,
    TargetOutsideWindowError,
    TimelineMissingError,
    WalSegmentMissingError,
)
from include.backup.inventory import Standing
from include.backup.manifest import Manifest
from include.backup.point_in_time.choose import Wanted
from include.backup.point_in_time.cluster_copy import ClusterCopy
from include.backup.point_in_time.feed import WalFeed
from include.backup.point_in_time.restore import PointInTimeReport, plan_point_in_time, restore_point_in_time
from include.backup.point_in_time.target import RecoveryTarget
from include.backup.policy import SourcePolicy
from include.backup.postgres.account import ServerError, give, runtime_dir, source_user, usable_tools
from include.backup.postgres.postmaster import end_lasting
from include.backup.postgres.server import PostgresServer
from include.backup.postgres.tools import find_tools
from include.backup.process import Runner, become
from include.backup.proof.record import Proof, Result
from include.local.ports import free_port_base
from include.local.stack import Stack
from tests.conftest import POSTGRES15
from tests.support.physical_source import DATABASE, LOG, ROWS, PhysicalSource, physical_source
from tests.support.restores import Marks
from tests.support.small_disk import FILLER, fill, mounted_disk

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A point between two commits, in every way in which it can be named, and the rows there were then."""

    time: datetime
    lsn: str
    xid: str
    name: str
    rows: Sequence[Any]


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A server that is no more: what is left of it is in the store."""

    source: PhysicalSource
    bases: tuple[Manifest, ...]
    proofs: tuple[Proof, ...]
    before_base: datetime
    moment: Moment
    last: datetime
    last_rows: Sequence[Any]
    place: Path

    def plan(self, kind: str, value: str | None = None, **wanted: Any) -> Any:
        return plan_point_in_time(
            self.source.stored(),
            Wanted(target=RecoveryTarget.parse(kind, value), **wanted),
            source=self.source.policy.name,
            folder=self.place / f"copy-{next(_NUMBERS)}",
            port=free_port_base(),
        )

    @contextmanager
    def recovered(self, plan: Any) -> Iterator[tuple[PointInTimeReport, psycopg.Connection]]:
        """Recover, and open a session in the copy."""
        marks = Marks(self.source.store, self.source.policy.name)
        report = restore_point_in_time(
            plan, store=self.source.store, runner=Runner(log=LOG), log=LOG, seconds=120, on_bytes=marks.at
        )
        assert marks.seen.keys() == {base.backup_id for base in plan.choice.bases}
        try:
            login = f"host={report.socket} port={report.port} user={report.superuser} dbname={DATABASE}"
            with psycopg.connect(login, autocommit=True) as session:
                yield report, session
        finally:
            end_lasting(plan.folder / "data", seconds=30)


def lose(source: PhysicalSource, place: Path) -> Lost:
    """Back up, write, name a moment, write more, and destroy the server."""
    before_base = source.value("SELECT clock_timestamp()")
    contexts = [source.back_up()]
    source.insert("after the full backup")
    if source.major >= 17:
        contexts.append(source.back_up(Wish.INCREMENTAL))
        source.insert("after the incremental backup")
    source.ship()
    proofs = tuple(source.prove(ctx) for ctx in contexts)
    source.insert("the last that is wanted")
    with source.session() as session:
        session.execute("INSERT INTO public.volatile VALUES (11)")
        xid = str(session.execute("SELECT pg_current_xact_id()::xid").fetchall()[0][0])
        session.execute("SELECT pg_create_restore_point('before the mistake')")
        lsn, time = session.execute("SELECT pg_current_wal_insert_lsn()::text, clock_timestamp()").fetchall()[0]
    moment = Moment(time=time, lsn=lsn, xid=xid, name="before the mistake", rows=source.rows())
    source.insert("a mistake")
    with source.session() as session:
        session.execute("DELETE FROM public.events WHERE id % 2 = 0")
    last_rows = source.rows()
    source.ship()
    last = source.value("SELECT clock_timestamp()")
    bases = tuple(source.manifest(ctx) for ctx in contexts)
    source.destroy()
    return Lost(
        source=source,
        bases=bases,
        proofs=proofs,
        before_base=before_base,
        moment=moment,
        last=last,
        last_rows=last_rows,
        place=place,
    )


@pytest.fixture(scope="module")
def lost17(stack: Stack, policy_source: SourcePolicy, state_dir: Path) -> Iterator[Lost]:
    with physical_source(
        state_dir / "pitr17",
        major=17,
        policy=policy_source,
        store=stack.store_connection(),
        scratch_root=stack.layout.scratch,
    ) as source:
        yield lose(source, runtime_dir(state_dir / "copies", source_user()))


@pytest.fixture(scope="module")
def lost15(stack: Stack, policy_source: SourcePolicy, state_dir: Path) -> Iterator[Lost]:
    if not POSTGRES15.is_dir():
        pytest.skip("postgresql-15 is not installed: apt-get install postgresql-15")
    with physical_source(
        state_dir / "pitr15",
        major=15,
        policy=policy_source,
        store=stack.store_connection(),
        scratch_root=stack.layout.scratch,
    ) as source:
        yield lose(source, runtime_dir(state_dir / "copies", source_user()))


@pytest.fixture(params=["lost17", "lost15"])
def lost(request: pytest.FixtureRequest) -> Lost:
    found: Lost = request.getfixturevalue(request.param)
    return found


def test_a_base_backup_is_proven_by_starting_it(lost: Lost) -> None:
    for manifest, proof in zip(lost.bases, lost.proofs, strict=True):
        base = proof.base
        assert base is not None
        assert (proof.result, proof.differences) == (Result.PASSED, ())
        assert base.bases[-1] == manifest.backup_id
        assert manifest.base is not None
        assert base.files >= manifest.base.files > 900
        assert base.checksummed_blocks
        assert base.checked_relations
        assert base.lsn >= manifest.base.stop_lsn
        rows = {read.table: read.rows for read in base.tables if read.database == DATABASE}
        assert rows["public.events"] >= 2000
        assert rows["public.elsewhere"] >= 500
        assert rows["public.volatile"] == 0


def test_the_manifest_has_what_a_recovery_needs_beside_the_files(lost: Lost) -> None:
    base = lost.bases[0].base
    assert base is not None
    assert base.unlogged == ("public.volatile",)
    assert [(one.name, one.member) for one in base.tablespaces] == [("second", f"{base.tablespaces[0].oid}.tar.zst")]
    assert base.settings is not None
    assert {"wal_level", "unix_socket_directories"} <= {setting.name for setting in base.settings}
    assert base.hba is not None
    assert any("scram-sha-256" in line for line in base.hba)
    assert (base.parent, base.timeline, base.superuser) == (None, 1, "supabase_admin")


def test_an_incremental_backup_builds_on_the_full_one(lost17: Lost) -> None:
    full, incremental = lost17.bases
    assert incremental.base is not None
    assert incremental.base.parent == full.backup_id
    assert incremental.archive.size < full.archive.size / 2


def test_a_lost_server_comes_back_as_it_was_between_two_commits(lost: Lost) -> None:
    plan = lost.plan("time", lost.moment.time.isoformat())
    assert [base.backup_id for base in plan.choice.bases] == [manifest.backup_id for manifest in lost.bases]
    with lost.recovered(plan) as (report, session):
        assert session.execute(ROWS).fetchall() == lost.moment.rows
        assert report.reached
        assert report.last_commit is not None
        assert datetime.fromisoformat(report.last_commit) <= lost.moment.time
        assert (report.timeline, report.failed_checks) == (2, ())
        assert any("recovery stopping before commit" in text for text in report.told)
        assert session.execute("SELECT count(*) FROM public.volatile").fetchall() == [(0,)]
        assert {
            name: session.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0]
            for name in ("archive_mode", "primary_conninfo", "restore_command", "shared_preload_libraries", "port")
        } == {
            "archive_mode": "off",
            "primary_conninfo": "",
            "restore_command": "",
            "shared_preload_libraries": "",
            "port": str(plan.port),
        }
        session.execute("INSERT INTO public.events (note) VALUES ('it takes writes')")
        place = session.execute("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'second'")
        assert str(place.fetchall()[0][0]).startswith(str(plan.folder))


@pytest.mark.parametrize(
    "kind", [pytest.param("lsn", marks=pytest.mark.long), pytest.param("xid", marks=pytest.mark.long), "name"]
)
def test_a_moment_can_be_named_in_other_ways(lost: Lost, kind: str) -> None:
    with lost.recovered(lost.plan(kind, getattr(lost.moment, kind))) as (report, session):
        assert session.execute(ROWS).fetchall() == lost.moment.rows
        assert report.reached


def test_a_time_after_the_last_commit_recovers_to_the_end_and_says_so(lost: Lost) -> None:
    after = lost.plan("latest").choice.latest
    plan = lost.plan("time", (after - timedelta(milliseconds=1)).isoformat())
    with lost.recovered(plan) as (report, session):
        assert session.execute(ROWS).fetchall() == lost.last_rows
        assert not report.reached
        assert "THE LOG ENDED BEFORE" in report.line()


@pytest.mark.long
def test_the_end_of_the_log_is_a_target_too(lost17: Lost) -> None:
    with lost17.recovered(lost17.plan("latest")) as (report, session):
        assert session.execute(ROWS).fetchall() == lost17.last_rows
        assert report.reached


def test_a_time_outside_the_window_is_refused_with_the_window(lost: Lost) -> None:
    for moment in (lost.before_base, lost.last + timedelta(hours=1)):
        with pytest.raises(TargetOutsideWindowError, match=r"what can be recovered: \d{4}-.* to \d{4}-.* UTC"):
            lost.plan("time", moment.isoformat())


def test_a_position_outside_the_window_is_refused(lost17: Lost) -> None:
    for lsn in ("0/1000000", "F/0"):
        with pytest.raises(TargetOutsideWindowError, match="what can be recovered"):
            lost17.plan("lsn", lsn)


def test_a_name_that_is_not_in_the_log_is_told_and_leaves_nothing(lost17: Lost) -> None:
    plan = lost17.plan("name", "no such restore point")
    with (
        pytest.raises(TargetNotReachedError, match="name no such restore point is not in the WAL from"),
        lost17.recovered(plan),
    ):
        pytest.fail("it cannot be found")
    assert not plan.folder.exists()


def test_a_wrong_timeline_is_named(lost17: Lost) -> None:
    with pytest.raises(TimelineMissingError, match=r"to timeline 7; from there the store has 1$"):
        lost17.plan("latest", timeline=7)


def test_a_segment_that_the_base_backup_needs_is_named_before_anything_is_read(lost17: Lost) -> None:
    source = lost17.source
    needed = lost17.plan("latest").choice.base.point()
    first = next(one for one in source.shipper.shipped if one.start <= needed.start < one.end)
    source.shipper.remove(first)
    try:
        with pytest.raises(WalSegmentMissingError, match=first.name):
            lost17.plan("latest", base=lost17.bases[-1].backup_id)
    finally:
        source.shipper.put_again(first)


def test_the_segment_after_the_end_of_the_log_is_named(lost17: Lost) -> None:
    source = lost17.source
    last = source.shipper.shipped[-1]
    source.shipper.remove(last)
    try:
        with pytest.raises(TargetOutsideWindowError, match=rf"the next WAL segment, {last.name}, is not stored"):
            lost17.plan("lsn", lost17.moment.lsn)
    finally:
        source.shipper.put_again(last)


def test_a_hole_in_the_log_is_named(lost17: Lost) -> None:
    source = lost17.source
    hole = source.shipper.shipped[-1]
    source.shipper.put_empty(hole.next)
    source.shipper.remove(hole)
    try:
        expected = rf"{hole.name} is missing, though later ones are stored"
        with pytest.raises(WalSegmentMissingError, match=expected):
            lost17.plan("time", lost17.moment.time.isoformat())
        # A transaction's place in the log is known to recovery alone.
        plan = lost17.plan("xid", lost17.moment.xid)
        with pytest.raises(WalSegmentMissingError, match=expected), lost17.recovered(plan):
            pytest.fail("there is a hole")
        assert not plan.folder.exists()
        plan = lost17.plan("latest")
        assert any(line.startswith(f"HOLE         the WAL segment {hole.name}") for line in plan.lines())
        with lost17.recovered(plan) as (report, session):
            assert session.execute(ROWS).fetchall() != lost17.last_rows
            assert (report.reached, report.hole) == (False, hole.name)
            assert f"THE LOG HAS A HOLE at {hole.name}; recovered to there, not to latest" in report.line()
    finally:
        source.shipper.put_again(hole)
        source.shipper.remove(hole.next)


def test_an_unproven_base_backup_needs_an_explicit_yes(lost17: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.backup.base.stored.listed_standing", lambda *_: Standing.FAILED)
    with pytest.raises(BackupMissingError, match="not proven"):
        lost17.plan("latest")
    assert lost17.plan("latest", unproven=True).choice.base.standing is Standing.FAILED


def test_a_folder_that_is_there_is_left_alone(lost17: Lost) -> None:
    plan = lost17.plan("latest")
    plan.folder.mkdir()
    (plan.folder / "kept").touch()
    with pytest.raises(RestoreRefusedError, match="somebody else meanwhile"), lost17.recovered(plan):
        pytest.fail("the folder is somebody's")
    with pytest.raises(RestoreRefusedError, match="is there already"):
        plan_point_in_time(
            lost17.source.stored(), Wanted(target=plan.choice.target), source="x", folder=plan.folder, port=plan.port
        )
    assert (plan.folder / "kept").exists()


def test_a_full_disk_under_the_files_is_named_and_leaves_nothing(lost: Lost, small_place: Path) -> None:
    """With a chain of backups, half of it fits: it lies there twice while it is combined."""
    lost = replace(lost, place=small_place)
    plan = lost.plan("latest")
    fill(small_place, leave=plan.needed_bytes // 4)
    with pytest.raises(RestoreRefusedError, match=rf"the copy needs {plan.needed_bytes}; free space"):
        lost.plan("latest")
    with pytest.raises(TargetFullError, match=rf"disk of {small_place} is full .*No space left.*a larger disk"):
        recover(lost, plan)
    assert [path.name for path in small_place.iterdir()] == [FILLER]


@pytest.mark.parametrize("leave", [0, 4 << 20, 24 << 20], ids=["the script", "a segment", "the server"])
def test_a_full_disk_under_the_log_is_named_and_leaves_nothing(
    lost17: Lost, small_place: Path, monkeypatch: pytest.MonkeyPatch, leave: int
) -> None:
    lost = replace(lost17, place=small_place)
    plan = lost.plan("consistent", base=lost.bases[0].backup_id)
    recovering = ClusterCopy.recover

    def without_room(copy: ClusterCopy) -> Any:
        fill(small_place, leave=leave)
        return recovering(copy)

    monkeypatch.setattr(ClusterCopy, "recover", without_room)
    with pytest.raises(TargetFullError, match=rf"disk of {small_place} is full .*No space left.*a larger disk"):
        recover(lost, plan)
    assert [path.name for path in small_place.iterdir()] == [FILLER]


def test_a_full_disk_is_named_also_when_nothing_that_fails_can_say_so(
    lost17: Lost, small_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cannot write its log, and whoever brings WAL has not failed yet."""
    lost = replace(lost17, place=small_place)
    plan = lost.plan("consistent", base=lost.bases[0].backup_id)

    def silent(server: PostgresServer) -> None:
        with suppress(OSError):  # WAL is brought meanwhile and takes its share
            fill(small_place)
        raise ServerError(f"the server on {server.spec.data} does not start; it logged nothing")

    monkeypatch.setattr(PostgresServer, "start", silent)
    monkeypatch.setattr(WalFeed, "check", lambda feed: None)
    with pytest.raises(TargetFullError, match=rf"disk of {small_place} is full .*No space left.*a larger disk"):
        recover(lost, plan)
    assert [path.name for path in small_place.iterdir()] == [FILLER]


def recover(lost: Lost, plan: Any) -> None:
    with lost.recovered(plan):
        pytest.fail("the disk is full")


@pytest.fixture
def small_place(lost17: Lost) -> Iterator[Path]:
    """A disk on which one copy has room, with a folder that those who run servers can enter."""
    with mounted_disk(lost17.place / "small", kib=320 << 10) as disk:
        give(disk, source_user())
        yield disk
    disk.rmdir()


def test_a_damaged_archive_is_named_and_leaves_nothing(lost17: Lost) -> None:
    source, archive = lost17.source, lost17.bases[0].archive
    content = source.store.get(archive.key)
    member = lost17.bases[0].member("base.tar.zst")
    place = member.offset + member.stored_length // 2
    damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    source.store.s3.put_object(Bucket=source.store.bucket, Key=archive.key, Body=damaged)
    try:
        plan = lost17.plan("latest")
        with pytest.raises((MemberHashError, Exception), match=r"damaged|cannot be unpacked"), lost17.recovered(plan):
            pytest.fail("it is damaged")
        assert not plan.folder.exists()
    finally:
        source.store.s3.put_object(Bucket=source.store.bucket, Key=archive.key, Body=content)


def test_the_readme_in_the_archive_recovers_it_without_this_project(lost: Lost, state_dir: Path) -> None:
    """Every line as it stands there, in an empty environment, as the user who runs servers."""
    manifest, source = lost.bases[0], lost.source
    folder = runtime_dir(state_dir / "copies", source_user()) / f"readme-{next(_NUMBERS)}"
    folder.mkdir(mode=0o700)
    (folder / f"{manifest.backup_id}.tar").write_bytes(source.store.get(manifest.archive.key))
    give_all(folder)
    tools = usable_tools(find_tools(source.major), source_user())
    text = source.store.get(manifest.archive.key)[manifest.member("README.txt").offset :]
    readme = text[: manifest.member("README.txt").stored_length].decode()
    (first,) = re.findall(r"from ([0-9A-F]{24}) on into wal/", readme)
    commands = re.findall(r"^  ((?:tar|mkdir|zstd|cp|:|echo|touch|pg_ctl) .*)$", readme, re.MULTILINE)
    assert len(commands) >= 14
    try:
        for command in commands:
            if "--rm wal/" in command:
                for item in source.store.list(source.shipper.keys.timeline(1)):
                    name = item.key.rsplit("/", 1)[-1]
                    if name >= first:
                        (folder / "wal" / name).write_bytes(source.store.get(item.key))
                give_all(folder)
            argv = ("setpriv", *become(source_user()), "--", "/bin/sh", "-e", "-c", command)
            answer = subprocess.run(
                argv,
                env={"PATH": f"{tools.bin_dir}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(folder / "errors").open("w"),
                timeout=120,
                check=False,
            )
            assert answer.returncode == 0, f"{command}: {(folder / 'errors').read_text()}"
        with patient_session(f"host={folder / 'data'} user=supabase_admin dbname={DATABASE}") as session:
            assert session.execute(ROWS).fetchall() == lost.last_rows
    finally:
        end_lasting(folder / "data", seconds=30)


def patient_session(login: str) -> psycopg.Connection:
    """Connect as soon as the server lets somebody in."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(login)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def give_all(folder: Path) -> None:
    """Let the user who runs servers own what lies there."""
    for path in (folder, *folder.rglob("*")):
        give(path, source_user())
