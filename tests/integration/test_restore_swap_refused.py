"""What a restore into production refuses before anything is done, and how a backup is chosen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.backup.connection_spec import Secret
from include.backup.connections import DatabaseConnection
from include.backup.errors import (
    AmbiguousChoiceError,
    BackupMissingError,
    ParameterError,
    RestoreRefusedError,
    TargetBusyError,
)
from include.backup.policy import RestoreServer
from include.backup.restore.choice import Choice, choose, parse_time
from include.backup.restore.target_lock import target_lock
from include.backup.restore.words import Choosing, Where
from include.backup.restore.work import (
    back_up_target,
    load,
    swap_in,
)
from include.backup.steps.context import Release
from tests.support import source15 as fifteen
from tests.support.restores import QUIET, RestoreLab, yes

pytest_plugins = ["tests.support.cli_fixtures", "tests.support.swap_fixtures"]
NAMES = ("prod_fail", "prod_bad")


def test_a_second_restore_at_once_is_refused_with_who_holds_the_first(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, _ = lab.ordered(ctx, backup_id=failing)
    before = lab.state("prod_fail")
    second = lab.context("prod_fail", run=lab.run("restore_database", by="mallory"))
    with target_lock(lab.superuser, "prod_fail", holder=ctx.holder) as session:
        # Set where nobody sets anything: not even a server's own timeout ends the session while the tools work.
        found = session.execute("SELECT source FROM pg_settings WHERE name = 'idle_session_timeout'").fetchone()
        assert found == {"source": "session"}
        for work in (
            lambda: lab.ordered(second, backup_id=failing),
            lambda: load(second, order, progress=QUIET),
        ):
            with pytest.raises((TargetBusyError, RestoreRefusedError), match=f"pulse_restore {ctx.restore_id} of al"):
                work()
    assert lab.state("prod_fail") == before


def test_what_a_person_must_say_yes_to_is_refused_without(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    before = lab.state("prod_fail")
    with lab.session("prod_fail") as person:
        person.execute("SELECT pg_create_logical_replication_slot('a_reader', 'pgoutput')")
        try:
            with pytest.raises(RestoreRefusedError) as refused:
                lab.ordered(ctx, backup_id=failing, end_sessions=False)
            seen, _ = lab.ordered(ctx, backup_id=failing, end_sessions=False, dry_run=True)
        finally:
            person.execute("SELECT pg_drop_replication_slot('a_reader')")
    for words in ("sessions are in it", "somebody", "say end_sessions", "a_reader", "say give_up_slots"):
        assert words in str(refused.value)
    assert seen.target is not None
    assert seen.target.slots == ("a_reader",)
    assert any("say give_up_slots" in warning for warning in seen.warnings)
    assert lab.state("prod_fail") == before


@pytest.mark.parametrize(
    ("wishes", "kind", "words"),
    [
        ({"unproven": False}, RestoreRefusedError, "nobody has shown that it restores"),
        ({"server": "beside"}, ParameterError, "leave server and database empty"),
        ({"where": Where.NAMED}, ParameterError, "needs its name"),
        ({"where": Where.NAMED, "database": "x", "server": "elsewhere"}, RestoreRefusedError, "allowed: beside"),
        ({"where": Where.NAMED, "database": "template1"}, ParameterError, "PostgreSQL's own"),
        ({"where": Where.NAMED, "database": "postgres"}, RestoreRefusedError, "cannot be renamed"),
        ({"where": Where.NAMED, "database": "prod_bad"}, RestoreRefusedError, "already, and it holds"),
        ({"where": Where.SCRATCH, "database": "x"}, ParameterError, "gets its name by itself"),
        ({"where": Where.NAMED, "database": "nothing_there", "in_place": True}, RestoreRefusedError, "there is no"),
        ({"backup_id": "prod_fail_daily_full_20200101T000000Z_000000"}, BackupMissingError, "has no backup"),
        ({"backup_id": "x; DROP"}, BackupMissingError, "has no backup"),
    ],
)
def test_bad_wishes_are_refused_and_production_stays(
    lab: RestoreLab, failing: str, wishes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    before, databases = lab.state("prod_fail"), lab.databases()
    with pytest.raises(kind, match=words):
        lab.ordered(lab.context("prod_fail"), **{"backup_id": failing, **wishes})
    assert (lab.state("prod_fail"), lab.databases()) == (before, databases)


@pytest.mark.postgres15
def test_an_older_server_is_refused_before_anything_is_made_there(
    lab: RestoreLab, failing: str, source15: DatabaseConnection
) -> None:
    superuser = replace(source15, user=fifteen.SUPERUSER, password=Secret(fifteen.PASSWORD), dbname="postgres")
    lab.extra_connections["old_server"] = superuser
    ctx = lab.context("prod_fail")
    assert ctx.source.restore is not None
    old = RestoreServer(name="old", connection="old_server", production=False)
    source = replace(ctx.source, restore=replace(ctx.source.restore, servers={"old": old}))
    with pytest.raises(RestoreRefusedError, match="the target is PostgreSQL 15 and the backup is of 17"):
        lab.ordered(lab.context("prod_fail", source=source), backup_id=failing, where=Where.SCRATCH)


def test_a_source_of_another_name_counts_as_production_too(lab: RestoreLab, failing: str) -> None:
    order, _ = lab.ordered(
        lab.context("prod_fail"), backup_id=failing, where=Where.NAMED, database="prod_bad", replace=True
    )
    assert (order.production, order.needs_approval) == (True, True)


def test_the_source_by_another_name_of_its_server_is_asked_about_and_stays_quarantined(
    lab: RestoreLab, failing: str
) -> None:
    lab.extra_connections["by_another_name"] = replace(lab.superuser, host="127.1", sslmode="require")
    ctx = lab.context("prod_fail")
    assert ctx.source.restore is not None
    server = RestoreServer(name="alias", connection="by_another_name", production=False)
    source = replace(ctx.source, restore=replace(ctx.source.restore, servers={"alias": server}))
    order, _ = lab.ordered(
        lab.context("prod_fail", source=source),
        backup_id=failing,
        where=Where.NAMED,
        database="prod_fail",
        replace=True,
    )
    assert (order.production, order.needs_approval) == (True, True)
    assert any("it stays quarantined" in warning for warning in order.warnings)


def test_the_policy_is_asked_again_by_every_step(lab: RestoreLab, failing: str) -> None:
    ctx = lab.context("prod_fail")
    order, seal = lab.ordered(ctx, backup_id=failing, where=Where.SCRATCH)
    assert not order.needs_approval
    assert ctx.source.restore is not None
    closed = replace(ctx.source, restore=replace(ctx.source.restore, servers={}))
    later = lab.context("prod_fail", source=closed)
    for work in (
        lambda: load(later, order, progress=QUIET),
        lambda: swap_in(later, order, seal, approve=lambda: yes(seal)),
        lambda: back_up_target(later, order),
    ):
        with pytest.raises(RestoreRefusedError, match=r"is no server of prod_fail's restore\.servers"):
            work()
    assert order.beside not in lab.databases()


def test_a_release_finds_the_backup_that_was_taken_before_it_and_two_are_ambiguous(lab: RestoreLab) -> None:
    source = "prod_bad"
    first = lab.backup(source, release=Release(name="2025.3.1", git_sha="0123abc"))
    catalog = lab.context(source).catalog
    assert choose(catalog, source, Choice(how=Choosing.RELEASE, release="2025.3.1")) == first
    second = lab.backup(source, release=Release(name="2025.3.1", git_sha="4567def"))
    with pytest.raises(AmbiguousChoiceError) as refused:
        choose(catalog, source, Choice(how=Choosing.RELEASE, release="2025.3.1"))
    assert first in str(refused.value)
    assert second in str(refused.value)
    by_commit = Choice(how=Choosing.RELEASE, release="2025.3.1", git_sha="4567def")
    assert choose(catalog, source, by_commit) == second
    with pytest.raises(BackupMissingError, match=r"taken before release 1; there are those before 2025\.3\.1;"):
        choose(catalog, source, Choice(how=Choosing.RELEASE, release="1"))
    times = {name: catalog.manifest(name).dump.snapshot.time for name in (first, second)}
    before = Choice(how=Choosing.BEFORE, before=times[second] - timedelta(microseconds=1))
    assert choose(catalog, source, before, unproven=True) == first
    with pytest.raises(BackupMissingError, match="has no proven full backup of"):
        choose(catalog, source, before)
    with pytest.raises(BackupMissingError, match="has no proven full backup"):
        choose(catalog, source, Choice(how=Choosing.LATEST_PROVEN))
    old = Choice(how=Choosing.BEFORE, before=parse_time("2020-01-01T00:00:00Z"))
    with pytest.raises(BackupMissingError, match="or earlier"):
        choose(catalog, source, old, unproven=True)
