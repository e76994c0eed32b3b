"""A restore runs code of the source's users: it must run no program with it, whatever way the code takes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.backup.proof.record import Result
from include.backup.proof.scratch import ScratchServer
from tests.integration.servers import enterable_folder
from tests.support.proof_source import SQL, Site
from tests.support.proofs import BackUp, fault_after_load, run_sql

pytest_plugins = ["tests.support.proof_fixtures"]

# Ways in that PostgreSQL itself takes while it makes an object, loads a row or checks it.
WAYS = {
    "attach",
    "check",
    "domain-not-valid",
    "index",
    "index-condition",
    "literal-argument",
    "literal-atomic",
    "literal-bound",
    "literal-default",
    "literal-initcond",
    "literal-policy",
    "literal-quoted-initcond",
    "literal-quoted-LANGUAGE c SUPPORT",
    "literal-row",
    "literal-rule",
    "literal-view",
    "literal-when",
    "materialized-view",
    "security-definer",
}
TRIED = re.compile(r"LOG:  tried: (.*?)(?: at character \d+)?$", re.MULTILINE)
# A superuser makes them, as Supabase lets an ordinary role do; their code is the ordinary role's.
EVENT_TRIGGERS = """
CREATE EVENT TRIGGER on_start ON ddl_command_start EXECUTE FUNCTION h.on_event();
CREATE EVENT TRIGGER on_end ON ddl_command_end EXECUTE FUNCTION h.on_event();
CREATE EVENT TRIGGER on_drop ON sql_drop EXECUTE FUNCTION h.on_event();
COMMENT ON EVENT TRIGGER on_end IS 'Made by a superuser';
ALTER EVENT TRIGGER on_end ENABLE ALWAYS;
"""
LOGIN_TRIGGER = """
CREATE EVENT TRIGGER on_login ON login EXECUTE FUNCTION h.on_event();
ALTER EVENT TRIGGER on_login ENABLE ALWAYS;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET event_triggers = on', current_database()); END $$;
"""


@pytest.fixture
def canary() -> Iterator[Path]:
    """A folder in which the scratch server's user can make files."""
    with enterable_folder() as folder:
        canaries = folder / "canaries"
        canaries.mkdir()
        canaries.chmod(0o777)
        yield canaries


@pytest.fixture(params=[17, pytest.param(15, marks=pytest.mark.postgres15)])
def any_site(request: pytest.FixtureRequest) -> Site:
    site: Site = request.getfixturevalue("site" if request.param == 17 else "site15")
    return site


def hostile(canary: Path, *, polite: bool = True) -> str:
    script = (SQL / "proof_hostile.sql").read_text()
    return script.replace("{canary}", str(canary)).replace("{polite}", str(polite).lower())


def tried(scratch: ScratchServer) -> set[str]:
    """Return the ways that the server's log says were taken."""
    return set(TRIED.findall((scratch.folder / "data.log").read_text()))


def test_no_way_in_runs_a_program_and_the_restore_works(any_site: Site, back_up: BackUp, canary: Path) -> None:
    seen: dict[str, set[str]] = {}

    def look(scratch: ScratchServer, database: str) -> None:
        seen["restore"] = tried(scratch)
        seen["programs"] = {path.name for path in canary.iterdir()}
        run_sql(scratch, database, "SELECT h.run('control')")

    with any_site.database("proof_hostile", hostile(canary)) as database:
        assert list(canary.iterdir()) == []
        backup = back_up(database)
    with fault_after_load(look):
        proof = backup.prove()

    assert WAYS - seen["restore"] == set()
    assert seen["programs"] == set()
    # The comparison runs none either; what the superuser himself ran shows that a program would have been seen.
    assert {path.name for path in canary.iterdir()} <= {"control", "file"}
    assert (canary / "control").exists()
    assert [str(difference) for difference in proof.differences if difference.what != "ROLE"] == []


def test_a_hostile_database_is_proven_like_any_other(site: Site, back_up: BackUp, canary: Path) -> None:
    with site.database("proof_hostile", hostile(canary)) as database:
        proof = back_up(database).prove()
    assert [str(difference) for difference in proof.differences] == []
    assert proof.result is Result.PASSED
    assert list(canary.iterdir()) == []


def test_code_that_keeps_another_role_in_the_session_is_red(site: Site, back_up: BackUp, canary: Path) -> None:
    """Then the restore goes on as that role and fails; it still runs nothing."""
    with site.database("proof_hostile", hostile(canary, polite=False)) as database:
        proof = back_up(database).prove()
    assert proof.result is Result.FAILED
    (difference,) = proof.differences
    assert "the archive does not restore: pg_restore: error:" in difference.detail
    assert list(canary.iterdir()) == []


def test_event_triggers_run_in_no_session_of_the_superuser(any_site: Site, back_up: BackUp, canary: Path) -> None:
    is_new = any_site.connection.host == "localhost"
    seen: dict[str, set[str]] = {}

    def look(scratch: ScratchServer, database: str) -> None:
        seen["restore"] = tried(scratch) - WAYS

    scripts = (hostile(canary), EVENT_TRIGGERS, LOGIN_TRIGGER if is_new else "SELECT")
    with any_site.database("proof_hostile", *scripts) as database, fault_after_load(look):
        proof = back_up(database).prove()

    assert {way for way in seen["restore"] if way.startswith("event-")} == set()
    assert list(canary.iterdir()) == []
    assert [str(difference) for difference in proof.differences] == []
    assert proof.result is Result.PASSED
