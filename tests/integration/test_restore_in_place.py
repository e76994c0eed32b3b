"""A restore in place: one transaction, so that whatever goes wrong changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.backup.approval import Approval
from include.backup.archive.reader import ArchiveReader
from include.backup.errors import ApprovalError, RestoreError, RestoreRefusedError, SourceLockedError, TargetFullError
from include.backup.postgres.toc import read_toc
from include.backup.process import Command, Completed, Runner
from include.backup.restore.context import RestoreContext
from include.backup.restore.in_place import restore_in_place
from include.backup.restore.in_the_way import in_the_way
from include.backup.restore.loaded import LOADED
from include.backup.restore.order import RestoreOrder, Strategy, record_key
from include.backup.restore.plan import TOC_MEMBER
from include.backup.restore.target import Target
from include.backup.restore.work import back_up_target, check_afterwards
from include.backup.steps import dump, upload
from include.backup.steps.context import StepContext
from include.local.stack import Stack
from tests.support.command_line import Server
from tests.support.restores import QUIET, EndsTheLock, Marks, RestoreLab, make_lab, yes
from tests.support.small_disk import empty, fill, small_tablespace
from tests.support.small_sources import SmallSource

pytest_plugins = ["tests.support.cli_fixtures"]
SOURCE = "in_place"
EXTRA = """
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('good', 'bad');
CREATE TABLE app.feelings (id serial PRIMARY KEY, mood app.mood NOT NULL, owner int REFERENCES public.customers);
CREATE INDEX ON app.feelings (mood);
CREATE TABLE app.parts (n int) PARTITION BY LIST (n);
CREATE TABLE app.part_1 PARTITION OF app.parts FOR VALUES IN (1);
CREATE FUNCTION app.known(text, app.mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE app.total(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE TYPE app.pair AS (a int, b app.mood);
CREATE DOMAIN app.few AS int CHECK (VALUE < 10);
CREATE COLLATION app.plain FROM "C";
CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE STATISTICS app.both ON mood, owner FROM app.feelings;
CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) AS n FROM app.feelings;
CREATE VIEW app.bad AS SELECT * FROM app.feelings WHERE mood = 'bad';
SELECT lo_from_bytea(4711, 'large');
GRANT SELECT ON LARGE OBJECT 4711 TO pulse_backup;
INSERT INTO app.feelings (mood, owner) SELECT CASE WHEN n % 3 = 0 THEN 'bad' ELSE 'good' END::app.mood, n
  FROM generate_series(1, 300) n;
"""

# Each was seen to make pg_restore fail, but for the partition: that one goes without a word.
IN_THE_WAY = {
    "column mood of table public.newer_mood": "CREATE TABLE public.newer_mood (mood app.mood)",
    "constraint newer_key on table app.feelings": "ALTER TABLE app.feelings"
    " ADD CONSTRAINT newer_key FOREIGN KEY (id) REFERENCES public.customers NOT VALID",
    "constraint newer_key on table public.customers": "ALTER TABLE public.customers"
    " ADD CONSTRAINT newer_key FOREIGN KEY (id) REFERENCES public.customers",
    "constraint newer_key on table public.newer": "CREATE TABLE public.newer"
    " (customer int CONSTRAINT newer_key REFERENCES public.customers)",
    "extension citext": "CREATE EXTENSION citext SCHEMA app",
    "function app.known(integer)": "CREATE FUNCTION app.known(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "function public.newer(app.mood)": "CREATE FUNCTION public.newer(app.mood) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "rule _RETURN on view other.mine": "CREATE VIEW other.mine AS SELECT count(*) AS n FROM app.feelings",
    "rule _RETURN on view public.newest": "CREATE VIEW public.newest AS SELECT max(id) FROM public.orders",
    "sequence app.newer_seq": "CREATE SEQUENCE app.newer_seq",
    "table app.newer": "CREATE TABLE app.newer (id int)",
    "table app.part_2": "CREATE TABLE app.part_2 PARTITION OF app.parts FOR VALUES IN (2)",
    "type app.newer_mood": "CREATE TYPE app.newer_mood AS ENUM ('a')",
}
AWAY = """
DROP SCHEMA other CASCADE;
DROP VIEW public.newest;
DROP TABLE public.alone, public.newer, public.newer_mood, app.newer, app.part_2;
DROP FUNCTION public.newer(app.mood), app.known(int);
DROP TYPE app.newer_mood;
DROP SEQUENCE app.newer_seq;
DROP EXTENSION citext, pg_trgm;
DROP INDEX public.alone_born;
ALTER TABLE app.feelings DROP CONSTRAINT newer_key;
ALTER TABLE public.customers DROP CONSTRAINT newer_key;
"""
END_WATCH = (
    "SELECT bool_or(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity"
    " WHERE application_name = 'pulse_restore' AND datname = 'postgres'"
)


@pytest.fixture(scope="module")
def lab(stack: Stack, cli_server: Server, state_dir: Path) -> Iterator[RestoreLab]:
    made = make_lab(
        {SOURCE: SmallSource(name=SOURCE, extra_sql=EXTRA)},
        superuser=cli_server.superuser,
        backup_user=stack.database_connection(),
        store=stack.store_connection(),
        folder=state_dir / "in-place",
        conninfo=stack.source.superuser_conninfo,
    )
    before = made.databases()
    yield made
    for name in (made.databases() - before) | {SOURCE, "small"}:
        made.drop(name)


@pytest.fixture(scope="module")
def backup_id(lab: RestoreLab) -> str:
    return lab.backup(SOURCE)


def state(lab: RestoreLab) -> dict[str, Any]:
    found = lab.state(SOURCE)
    return {
        **found,
        "feelings": lab.value(SOURCE, "SELECT md5(string_agg(f::text, ',' ORDER BY id)) FROM app.feelings f"),
    }


def ordered(lab: RestoreLab, ctx: RestoreContext, backup_id: str) -> tuple[RestoreOrder, str]:
    """Return the order of a restore in place that has come as far as its safety backup, and its seal."""
    order, seal = lab.ordered(ctx, backup_id=backup_id, in_place=True)
    back_up_target(ctx, order)
    return order, seal


class EndsTheWatch(Runner):
    """A runner before whose pg_restore the session that watches the locks is ended."""

    def __init__(self, lab: RestoreLab) -> None:
        super().__init__()
        self._lab = lab
        self.ended = False

    def run(self, command: Command, **options: Any) -> Completed:
        self.ended = self.ended or bool(self._lab.value("postgres", END_WATCH))
        return super().run(command, **options)


def change(lab: RestoreLab, statement: str) -> None:
    """Change the source, and let PostgreSQL's statistics know it at once."""
    with lab.session(SOURCE) as session:
        session.execute(statement.encode())
        session.execute("SELECT pg_stat_force_next_flush()")


def test_the_schemas_are_made_anew_in_the_same_database(lab: RestoreLab, backup_id: str) -> None:
    good = state(lab)
    change(lab, "DELETE FROM app.feelings WHERE id > 10; DELETE FROM orders; DROP VIEW app.bad")
    lab.do(SOURCE, "CREATE TABLE public.alone AS SELECT 1 AS n")
    ctx = lab.context(SOURCE)
    order, seal = lab.ordered(ctx, backup_id=backup_id, in_place=True)
    assert (order.strategy, order.needs_approval, order.schemas) == (Strategy.IN_PLACE, True, ("app", "public"))
    for words in ("in one transaction", "1 large objects of the backup are neither restored nor compared in place"):
        assert words in order.question().text
    with pytest.raises(ApprovalError):
        restore_in_place(ctx, order, seal, approve=lambda: yes("0" * 64), progress=QUIET)
    before = state(lab)
    with pytest.raises(RestoreRefusedError, match=r"_safety_full_.* is not stored, whatever the tasks' states say"):
        restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert state(lab) == before
    safety = back_up_target(ctx, order)
    marks = Marks(ctx.store, ctx.source.name)
    report = restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=marks)
    assert marks.seen.keys() == {backup_id}
    assert state(lab) == good
    assert (report.rows, report.schemas) == (5800, ("app", "public"))
    assert report.line().endswith(
        "every row identical; 1 large objects of the backup were neither restored nor compared"
    )
    assert lab.value(SOURCE, "SELECT count(*) FROM app.bad") == 100
    # Nothing that is archived hangs on it, and pg_dump never drops its schema.
    assert lab.value(SOURCE, "SELECT n FROM public.alone") == 1
    lab.do(SOURCE, "DROP TABLE public.alone")
    assert lab.value(SOURCE, "SELECT nextval('app.feelings_id_seq')") == 301
    assert check_afterwards(ctx, order) >= 2
    assert ctx.catalog.manifest(safety["backup_id"]).rows == 511


def test_what_was_written_since_the_safety_backup_began_is_lost_only_with_a_yes(
    lab: RestoreLab, backup_id: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = state(lab)
    ctx = lab.context(SOURCE)
    order, seal = ordered(lab, ctx, backup_id)
    assert "whatever is written later is in no copy, and the restore refuses then" in order.question().text
    given_up, its_seal = lab.ordered(ctx, backup_id=backup_id, in_place=True, give_up_writes=True)
    assert "is lost: no copy has it" in given_up.question().text
    # What the archive does not know stays as it is, but for partitions; a view that is computed anew holds nothing.
    change(lab, "CREATE SCHEMA other; CREATE TABLE other.mine AS SELECT 1 AS n; CREATE TABLE public.queue AS SELECT 1")
    change(lab, "REFRESH MATERIALIZED VIEW app.counted")
    change(lab, "CREATE TABLE other.part_2 PARTITION OF app.parts FOR VALUES IN (2)")
    fetch = ArchiveReader.fetch

    def fetch_slowly(reader: ArchiveReader, names: Iterable[str], folder: Path) -> None:
        change(lab, "UPDATE app.feelings SET owner = 7 WHERE id = 8; DELETE FROM app.feelings WHERE id = 9")
        change(lab, "INSERT INTO app.parts VALUES (2)")
        fetch(reader, names, folder)

    written = r"app\.feelings \(0 new, 1 changed, 1 deleted rows\), other\.part_2 \(1 new, 0 changed, 0 deleted rows\)"
    for reading in (fetch_slowly, fetch):
        monkeypatch.setattr(ArchiveReader, "fetch", reading)
        with pytest.raises(RestoreRefusedError, match=f"in no copy: {written}; stop what writes there"):
            restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert lab.value(SOURCE, "SELECT count(*) FROM app.feelings") == 299
    monkeypatch.setattr("include.backup.restore.in_place.POLL_SECONDS", 0.01)
    ctx.runner = watch = EndsTheWatch(lab)
    ending = EndsTheLock(lab, order.restore_id)
    report = restore_in_place(ctx, given_up, its_seal, approve=lambda: yes(its_seal), progress=ending)
    assert (watch.ended, ending.ended) == (True, True)
    for words in ("nobody watches for how long the restore waits", "the session of a lock ended before the work did"):
        assert words in caplog.text
    assert re.fullmatch(f"the schemas app, public .* every row identical; given up, .*: {written}; .*", report.line())
    assert state(lab) == good
    told = ctx.ledger.find(f"restore:{order.restore_id}")
    assert told is not None
    assert told.facts["unsaved"] == list(report.unsaved)
    lab.do(SOURCE, "DROP SCHEMA other CASCADE; DROP TABLE public.queue")


def test_only_what_the_safety_backup_has_not_read_counts_as_written(
    lab: RestoreLab, backup_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(ctx: StepContext) -> None:
        raise SourceLockedError("a backup of this source runs")

    ctx = lab.context(SOURCE)
    order, seal = lab.ordered(ctx, backup_id=backup_id, in_place=True)
    elsewhere = replace(ctx, staging_root=tmp_path)
    # The second leaves a dump, which the last one finds; so does the third, on another worker.
    for row, step, worker in ((1, dump, ctx), (2, upload, ctx), (3, upload, elsewhere)):
        with monkeypatch.context() as patched:
            patched.setattr(step, "run", fail)
            with pytest.raises(SourceLockedError):
                back_up_target(worker, order)
        change(lab, f"DELETE FROM app.feelings WHERE id = {row}")
    for _ in range(2):
        back_up_target(ctx, order)
        change(lab, "UPDATE app.feelings SET owner = 7 WHERE id = 8")
    with pytest.raises(RestoreRefusedError, match=r"no copy: app\.feelings \(0 new, 2 changed, 2 deleted rows\); stop"):
        restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)


def test_what_was_loaded_is_only_compared_after_a_kill_and_when_statistics_fail(
    lab: RestoreLab, backup_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [KeyboardInterrupt(), RestoreError("ANALYZE of in_place failed")]

    def fail(target: Target, *, jobs: int) -> None:
        raise faults.pop(0)

    def too_late() -> Approval:
        raise ApprovalError("the yes does not count any more")

    monkeypatch.setattr(Target, "analyze", fail)
    change(lab, "DELETE FROM app.feelings WHERE id > 10")
    ctx = lab.context(SOURCE)
    order, seal = ordered(lab, ctx, backup_id)
    with pytest.raises(KeyboardInterrupt):
        restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    loaded = lab.value(SOURCE, "SELECT 'app.feelings'::regclass::oid")
    with pytest.raises(RestoreError, match="ANALYZE of in_place"):
        restore_in_place(ctx, order, seal, approve=too_late, progress=QUIET)
    assert lab.value(SOURCE, "SELECT 'app.feelings'::regclass::oid") == loaded
    told = ctx.ledger.find(f"restore:{order.restore_id}")
    assert told is not None
    assert (told.facts["rows"], told.facts["unsaved"], told.facts["approved_by"]) == (5800, [], "bea")
    # As if killed before it was written down: its own rows may be all that was written.
    ctx.store.remove(record_key(order.restore_id, f"{LOADED}-{seal[:16]}"))
    with pytest.raises(
        RestoreRefusedError,
        match=rf"app\.feelings .*, unless an earlier try has loaded it.* {backup_id} may be in place",
    ):
        restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)


def test_what_hangs_on_a_schema_from_outside_rolls_everything_back(lab: RestoreLab, backup_id: str) -> None:
    change(lab, "UPDATE orders SET note = 'later' WHERE id = 1")
    before = state(lab)
    ctx = lab.context(SOURCE)
    order, seal = ordered(lab, ctx, backup_id)
    lab.do(SOURCE, "CREATE SCHEMA other; CREATE VIEW other.mine AS SELECT count(*) AS n FROM app.feelings")
    with pytest.raises(RestoreError, match="it was rolled back, nothing was changed"):
        restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert state(lab) == before
    assert lab.value(SOURCE, "SELECT n FROM other.mine") == 300
    lab.do(SOURCE, "DROP SCHEMA other CASCADE")


def test_what_keeps_the_schemas_from_being_dropped_is_named_before_anything(lab: RestoreLab, backup_id: str) -> None:
    ctx = lab.context(SOURCE)
    toc = read_toc(ArchiveReader(ctx.store, ctx.catalog.manifest(backup_id)).read(TOC_MEMBER))
    target = Target(lab.superuser, database=SOURCE)
    lab.do(SOURCE, "CREATE TABLE public.alone AS SELECT 1 AS n; CREATE INDEX alone_born ON public.customers (born)")
    lab.do(SOURCE, "CREATE EXTENSION pg_trgm SCHEMA public; CREATE SCHEMA other")
    assert in_the_way(target, toc, ("app", "public")) == ()
    lab.do(SOURCE, ";".join(IN_THE_WAY.values()))
    assert in_the_way(target, toc, ("app", "public")) == tuple(sorted(IN_THE_WAY))
    with pytest.raises(
        RestoreRefusedError, match=r"does not know column mood .* more, which keep what it has from being dropped"
    ):
        lab.ordered(ctx, backup_id=backup_id, in_place=True)
    lab.do(SOURCE, AWAY)


def test_a_full_disk_rolls_everything_back_and_says_what_to_do(lab: RestoreLab, backup_id: str) -> None:
    """What is dropped gives its room back at the commit only, so that the target holds both for a while."""

    def do(statement: str) -> None:
        lab.do("postgres", statement)

    before = state(lab)
    ctx = lab.context(SOURCE)
    order, seal = ordered(lab, ctx, backup_id)
    with small_tablespace(do) as disk, ExitStack() as afterwards:
        do(f"ALTER DATABASE {SOURCE} SET TABLESPACE small")
        afterwards.callback(do, f"ALTER DATABASE {SOURCE} SET TABLESPACE pg_default")
        fill(disk, leave=256 << 10)
        afterwards.callback(empty, disk)
        with pytest.raises(TargetFullError, match=r"disk is full .*No space left.*free space there.*rolled back"):
            restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
        assert state(lab) == before


def test_a_lock_that_somebody_holds_ends_the_restore(
    lab: RestoreLab, backup_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.backup.restore.in_place.LOCK_SECONDS", 1.0)
    before = state(lab)
    ctx = lab.context(SOURCE)
    ctx.runner = ending = EndsTheWatch(lab)
    order, seal = ordered(lab, ctx, backup_id)
    with lab.session(SOURCE) as person:
        person.autocommit = False
        person.execute("SELECT count(*) FROM orders")
        with pytest.raises(RestoreError, match=r"a lock was not to be had.*nothing was changed"):
            restore_in_place(ctx, order, seal, approve=lambda: yes(seal), progress=QUIET)
    assert ending.ended
    assert state(lab) == before
