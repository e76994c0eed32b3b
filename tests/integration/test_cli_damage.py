"""What may be wrong with a backup: each command names it, and nothing half-restored is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from include.backup.postgres.toc import parse_copy
from tests.support.command_line import SOURCE, TARGET, CommandLine, Forger, Server
from tests.support.proofs import StoredBackup

pytest_plugins = ["tests.support.cli_fixtures"]
pytestmark = pytest.mark.usefixtures("new_databases")
NO_SUCH = "pulse_messages_daily_full_20200101T000000Z_3fa9c1"


def damaged(taken_backup: StoredBackup, forger: Forger, how: str) -> str:
    """Forge a backup that is wrong in one way; return its id."""
    manifest, backup_id = taken_backup.manifest.to_json(), forger.new_id()
    archive, beside = f"daily/{backup_id}.tar", f"daily/{backup_id}.manifest.json"
    elsewhere = taken_backup.saying(archive=replace(taken_backup.manifest.archive, key=archive))
    match how:
        case "nothing is there":
            return NO_SUCH
        case "no archive":
            return forger.backup(elsewhere)
        case "short archive":
            forger.put(archive, taken_backup.archive[:-1024])
            return forger.backup(elsewhere)
        case "no manifest":
            forger.put(archive, b"x")
        case "unknown version":
            forger.put(beside, manifest.replace(b'"format_version": 1', b'"format_version": 99'))
        case "no JSON":
            forger.put(beside, manifest[:-100])
        case "another backup's manifest":
            forger.put(beside, manifest)
        case _:
            pytest.fail(f"{how} is not known")
    return backup_id


@pytest.mark.parametrize(
    ("how", "kind", "code"),
    [
        ("nothing is there", "BackupMissingError", 2),
        ("no manifest", "ArchiveWithoutManifestError", 4),
        ("no archive", "ManifestWithoutArchiveError", 4),
        ("short archive", "ObjectShortError", 4),
        ("unknown version", "FormatVersionError", 4),
        ("no JSON", "ManifestError", 4),
        ("another backup's manifest", "ManifestError", 4),
    ],
)
def test_a_backup_that_is_not_whole_is_named_by_every_command(
    cli: CommandLine, taken_backup: StoredBackup, forger: Forger, cli_server: Server, how: str, kind: str, code: int
) -> None:
    backup_id = damaged(taken_backup, forger, how)
    restoring = ("--to-database", "new", "--create", *TARGET, "--yes", "--unproven")
    for arguments in (("show",), ("verify",), ("verify", "--restore-test"), ("restore", *restoring)):
        answer = cli.here(arguments[0], SOURCE, backup_id, *arguments[1:], "--json")
        assert (answer.code, answer.document["error"]["kind"]) == (code, kind), answer.err
        assert answer.document["error"]["message"] in answer.error
        assert ";" in answer.error  # what to do next
    assert "new" not in cli_server.databases()


def test_a_restore_of_damaged_rows_is_taken_back(
    cli: CommandLine, taken_backup: StoredBackup, forger: Forger, cli_server: Server, cli_staging: Path
) -> None:
    """One member holds the rows of another backup of the same table: each frame and each row is as it should be."""
    name = taken_backup.data_member("public.messages").name
    rows = taken_backup.content(name).split(b"\n")
    rows[0], rows[1] = rows[1], rows[0]
    backup_id = forger.backup(taken_backup.repacked({name: zstd.compress(b"\n".join(rows))}, rehashed=False))
    arguments = ("--to-database", "new", "--create", *TARGET, "--yes", "--unproven", "--json")
    answer = cli.here("restore", SOURCE, backup_id, *arguments)
    assert (answer.code, answer.document["error"]["kind"]) == (4, "MemberHashError"), answer.err
    assert "new" not in cli_server.databases()
    assert list(cli_staging.iterdir()) == []


def test_a_restore_that_differs_from_the_dump_is_kept_and_said_to_differ(
    cli: CommandLine, taken_backup: StoredBackup, forger: Forger, cli_server: Server
) -> None:
    """The hashes of what is stored fit; only the comparison with what the dump read can tell."""
    member = taken_backup.data_member("public.workspaces")
    assert member.table_data is not None
    columns = parse_copy(member.table_data.copy_statement).columns.strip(" ()").split(", ")
    lines = taken_backup.content(member.name).split(b"\n")
    fields = lines[0].split(b"\t")
    fields[columns.index("name")] += b" (changed)"
    changed = b"\n".join([b"\t".join(fields), *lines[1:]])
    backup_id = forger.backup(taken_backup.repacked({member.name: zstd.compress(changed)}, rehashed=True))
    arguments = ("--to-database", "differs", "--create", *TARGET, "--yes", "--unproven", "--json")
    answer = cli.here("restore", SOURCE, backup_id, *arguments)
    assert (answer.code, answer.document["error"]["kind"]) == (4, "RestoreDiffersError"), answer.err
    assert "public.workspaces" in answer.error
    assert "it is kept as it is, do not use it" in answer.error
    assert "differs" in cli_server.databases()
