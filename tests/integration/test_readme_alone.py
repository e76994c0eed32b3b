"""The README inside an archive, followed to the letter where nothing of this project is at hand."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.backup.connections import DatabaseConnection
from include.backup.policy import SourcePolicy
from include.backup.process import Runner
from include.backup.proof.scratch import ScratchRole, ScratchServer
from include.local.stack import Stack
from tests.integration.servers import tools_of
from tests.support.contexts import ContextMaker
from tests.support.proof_source import Site
from tests.support.proofs import LOG, BackUp, StoredBackup

pytest_plugins = ["tests.support.proof_fixtures"]
# What the text needs besides PostgreSQL's tools; a shell and its few programs are on every machine.
PROGRAMS = ("tar", "zstd", "find", "sh", "mv")
COMMAND = re.compile(r"^  (?P<command>(?:tar|psql|createdb|pg_restore|find) .*?)(?:  +#.*)?$", re.MULTILINE)
EVERY_ROW = (
    "SELECT format('COPY (SELECT * FROM %I.%I) TO STDOUT', n.nspname, c.relname) AS statement"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"
)


def commands(readme: str) -> list[str]:
    """Return the commands of the text in their order."""
    return [match["command"] for match in COMMAND.finditer(readme)]


def follow(
    text: str, archive: Path, *, path: str, role: ScratchRole, first: tuple[str, ...] = (), partial: bool = False
) -> None:
    """Run a README's commands in an empty environment, ``first`` those of them that it asks for in some cases."""
    found = commands(text)
    chosen = [command for command in found if not command.startswith("find ")]
    chosen[1:1] = [command for command in found if command.startswith(first)] if first else []
    assert [command.split()[0] for command in found] == ["tar", "psql", "createdb", "pg_restore", "find", "find"]
    home = archive.parent / "home"
    home.mkdir()
    environment = {
        "PATH": path,
        "HOME": str(home),
        "PGHOST": role.host,
        "PGPORT": str(role.port),
        "PGUSER": role.user,
        **role.environment(),
    }
    for command in chosen:
        done = subprocess.run(
            ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items()), "sh", "-c", command],
            cwd=archive.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        if partial and command.startswith("pg_restore "):
            # What the text says of it: rows that are not in the archive are missed by foreign keys.
            errors = [line for line in done.stderr.splitlines() if line.startswith("pg_restore: error: ")]
            assert errors
            assert all("violates foreign key constraint" in line for line in errors), errors
        else:
            assert done.returncode == 0, f"{command}: {done.stderr}"


def program_path(folder: Path, tools_folder: Path) -> str:
    """Return a PATH with PostgreSQL's tools and the named programs, and no others."""
    folder.mkdir()
    for program in PROGRAMS:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed: apt-get install {program}")
        (folder / program).symlink_to(found)
    return f"{folder}:{tools_folder}"


def rows(parameters: Mapping[str, str], password: str, dbname: str) -> dict[str, list[bytes]]:
    """Return the lines of every table, sorted: a hash of an enum puts rows into other partitions."""
    options = "-c TimeZone=UTC -c default_transaction_read_only=off"
    with psycopg.connect(**{**parameters, "dbname": dbname}, password=password, options=options) as session:
        found = {}
        for (statement,) in session.execute(EVERY_ROW).fetchall():
            with session.cursor().copy(statement) as copy:
                found[statement] = sorted(b"".join(copy).splitlines())
        return found


@pytest.fixture(scope="module")
def clean_server(stack: Stack) -> Iterator[ScratchServer]:
    with ScratchServer(root=stack.layout.scratch, tools=tools_of(17), runner=Runner(log=LOG), log=LOG) as server:
        yield server


def restored(backup: StoredBackup, folder: Path, server: ScratchServer, major: int, **how: Any) -> str:
    """Follow the README of a stored archive on a clean server; return the database."""
    archive = folder / f"{backup.manifest.backup_id}.tar"
    archive.write_bytes(backup.archive)
    with tarfile.open(archive) as tar:
        member = tar.extractfile("README.txt")
        assert member is not None
        text = member.read().decode()
    path = program_path(folder / "programs", tools_of(major).bin_dir)
    follow(text, archive, path=path, role=server.admin, **how)
    return "restored"


def test_a_full_archive_comes_back_by_its_readme_alone(
    backup: StoredBackup, proof_database: DatabaseConnection, clean_server: ScratchServer, tmp_path: Path
) -> None:
    name = restored(backup, tmp_path, clean_server, 17)
    there = rows(clean_server.admin.libpq_parameters(), clean_server.admin.password, name)
    here = rows(proof_database.libpq_parameters(), str(proof_database.password), proof_database.dbname)
    assert sum(map(len, here.values())) > 10000
    assert {key: value for key, value in there.items() if "moods_" not in key} == {
        key: value for key, value in here.items() if "moods_" not in key
    }


def test_an_archive_of_the_schema_comes_back_without_rows(
    proof_database: DatabaseConnection, make_context: ContextMaker, stack: Stack, tmp_path: Path
) -> None:
    backup = StoredBackup.take(make_context.on(proof_database)(kind="schema"))
    with ScratchServer(root=stack.layout.scratch, tools=tools_of(17), runner=Runner(log=LOG), log=LOG) as server:
        name = restored(backup, tmp_path, server, 17)
        there = rows(server.admin.libpq_parameters(), server.admin.password, name)
    here = rows(proof_database.libpq_parameters(), str(proof_database.password), proof_database.dbname)
    assert there.keys() == here.keys()
    assert not any(there.values())


def test_an_archive_of_some_tables_comes_back_with_their_rows_alone(
    proof_database: DatabaseConnection,
    make_context: ContextMaker,
    policy_source: SourcePolicy,
    stack: Stack,
    tmp_path: Path,
) -> None:
    source = replace(policy_source, critical_tables=("shop.orders", "shop.days"))
    backup = StoredBackup.take(make_context.on(proof_database)(tier="hourly", source=source))
    with ScratchServer(root=stack.layout.scratch, tools=tools_of(17), runner=Runner(log=LOG), log=LOG) as server:
        name = restored(backup, tmp_path, server, 17, partial=True)
        there = rows(server.admin.libpq_parameters(), server.admin.password, name)
    here = rows(proof_database.libpq_parameters(), str(proof_database.password), proof_database.dbname)
    with_rows = {key: value for key, value in there.items() if value}
    assert sorted(key.partition("shop.")[2].partition(")")[0] for key in with_rows) == ["days", "days_2024", "orders"]
    assert all(here[key] == value for key, value in with_rows.items())


@pytest.mark.postgres15
def test_an_older_pg_restore_needs_what_the_readme_says_of_it(
    site15: Site, back_up: BackUp, stack: Stack, tmp_path: Path
) -> None:
    """The archive of a PostgreSQL 15 holds an empty large object and zstd, which pg_restore 15 does not read."""
    script = Path(__file__).parents[1] / "support" / "sql" / "proof_source.sql"
    with (
        site15.database("readme15", script) as database,
        ScratchServer(root=stack.layout.scratch, tools=tools_of(15), runner=Runner(log=LOG), log=LOG) as server,
    ):
        backup = back_up(database)
        name = restored(backup, tmp_path, server, 15, first=("find ",))
        there = rows(server.admin.libpq_parameters(), server.admin.password, name)
        here = rows(database.libpq_parameters(), str(database.password), database.dbname)
    assert there.keys() == here.keys()
    differing = [key for key in here if there[key] != here[key] and "moods_" not in key]
    assert differing == []
