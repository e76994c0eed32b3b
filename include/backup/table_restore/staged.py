"""The archive's rows beside a table, in temporary tables that nobody else sees; and how they differ from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import psycopg
from psycopg import sql

from include.backup.archive.reader import ArchiveReader
from include.backup.errors import RestoreError, RestoreRefusedError
from include.backup.manifest import Manifest
from include.backup.proof.digest import LineDigest, MultisetDigest
from include.backup.restore.progress import Counter
from include.backup.restore.tables import checked_lines
from include.backup.table_restore.catalog import Column, Key, Relation, Session, drift
from include.backup.table_restore.names import ChosenTable
from include.backup.table_restore.refusals import said
from include.backup.table_restore.sql_parts import Part, differ, fields, names, same_key, text_of
from include.backup.table_restore.sql_parts import field as one_field


class Change(StrEnum):
    """How a row of a table differs from the archive."""

    MISSING = "missing"
    CHANGED = "changed"
    SURPLUS = "surplus"


@dataclass(slots=True, kw_only=True)
class StagedTable:
    """One table and the archive's rows of it, in one session."""

    session: Session
    table: ChosenTable
    relation: Relation
    key: Key
    number: int
    wanted: MultisetDigest = field(default_factory=lambda: MultisetDigest(0, 0))
    counts: dict[Change, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.table.columns

    @property
    def scope(self) -> Part:
        return scope_of(self.relation)

    @property
    def rows(self) -> Part:
        """The archive's rows."""
        return sql.Identifier("pg_temp", f"restored_{self.number}")

    def keys(self, change: Change) -> Part:
        """The keys of the rows that differ in one way."""
        return sql.Identifier("pg_temp", f"{change.value}_{self.number}")

    def load(self, reader: ArchiveReader, manifest: Manifest, counter: Counter) -> None:
        """Bring the rows; nothing of the target is touched. Raises MemberHashError or RestoreRefusedError."""
        columns = names(self.columns)
        select = sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA")
        self.session.execute(select.format(self.rows, columns, self.scope))
        copy = sql.SQL("COPY {} ({}) FROM STDIN").format(self.rows, columns)
        for member in self.table.members:
            digest = LineDigest()
            cursor = self.session.cursor()
            try:
                with cursor.copy(copy) as stream:
                    for chunk in checked_lines(reader.stored(member), member, backup_id=manifest.backup_id):
                        stream.write(chunk)
                        digest.add(chunk)
                        counter.add(chunk.count(b"\n"), len(chunk))
            except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
                raise RestoreRefusedError(
                    f"the archive's rows do not fit into {self.table.name} any more: {said(error)}; restore it beside"
                ) from None
            if member.table_data is not None and cursor.rowcount != member.table_data.rows:
                raise RestoreError(f"{self.table.name} took {cursor.rowcount} rows of {member.table_data.rows}")
            self.wanted += digest.result()
        self._index()

    def _index(self) -> None:
        try:
            self.session.execute(sql.SQL("CREATE UNIQUE INDEX ON {} ({})").format(self.rows, names(self.key.columns)))
        except psycopg.errors.UniqueViolation:
            raise RestoreRefusedError(
                f"the archive has several rows for one key of {self.table.name} ({', '.join(self.key.columns)}): "
                "the key is newer than the backup; restore it beside"
            ) from None
        nulls = sql.SQL(" OR ").join(
            sql.SQL("{} IS NULL").format(sql.Identifier(column)) for column in self.key.columns
        )
        if count_rows(self.session, sql.SQL("SELECT count(*) AS n FROM {} WHERE {}").format(self.rows, nulls)):
            raise RestoreRefusedError(f"the archive has rows of {self.table.name} without a key; restore it beside")
        self.session.execute(sql.SQL("ANALYZE {}").format(self.rows))

    def compare(self) -> None:
        """Find which rows differ; again, after the table has changed."""
        same = same_key(self.key, "t", "s")
        missing = sql.SQL("SELECT {} FROM {} s WHERE NOT EXISTS (SELECT FROM {} t WHERE {})")
        changed = sql.SQL("SELECT {} FROM {} t JOIN {} s ON {} WHERE {}")
        surplus = sql.SQL("SELECT {} FROM {} t WHERE NOT EXISTS (SELECT FROM {} s WHERE {})")
        queries = {
            Change.MISSING: missing.format(fields("s", self.key.columns), self.rows, self.scope, same),
            Change.CHANGED: changed.format(
                fields("s", self.key.columns), self.scope, self.rows, same, differ(self.columns, "t", "s")
            ),
            Change.SURPLUS: surplus.format(fields("t", self.key.columns), self.scope, self.rows, same),
        }
        for change, query in queries.items():
            self.session.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.keys(change)))
            self.session.execute(sql.SQL("CREATE TEMP TABLE {} AS {}").format(self.keys(change), query))
            self.session.execute(sql.SQL("ANALYZE {}").format(self.keys(change)))
            count = sql.SQL("SELECT count(*) AS n FROM {}").format(self.keys(change))
            self.counts[change] = count_rows(self.session, count)

    @property
    def always_identity(self) -> tuple[str, ...]:
        """The columns that PostgreSQL lets nobody update."""
        return tuple(column.name for column in self.relation.columns if column.always_identity)

    def changed_in(self, columns: Sequence[str]) -> int:
        """Count the changed rows that differ in these columns."""
        if not columns:
            return 0
        query = sql.SQL("SELECT count(*) AS n FROM {} x JOIN {} t ON {} JOIN {} s ON {} WHERE {}").format(
            self.keys(Change.CHANGED),
            self.scope,
            same_key(self.key, "t", "x"),
            self.rows,
            same_key(self.key, "s", "x"),
            differ(columns, "t", "s"),
        )
        return count_rows(self.session, query)

    def digest(self) -> MultisetDigest:
        """Read the table as the proof of a backup would."""
        query = sql.SQL("COPY (SELECT {} FROM {} t) TO STDOUT").format(fields("t", self.columns), self.scope)
        digest = LineDigest()
        with self.session.cursor().copy(query) as copy:
            for chunk in copy:
                digest.add(bytes(chunk))
        return digest.result()

    def sample(self, change: Change, limit: int) -> Iterator[tuple[list[str], list[str | None], list[str | None]]]:
        """Yield key, archived values and present values of rows that differ, as text."""
        key = sql.SQL(", ").join(text_of(one_field("x", column)) for column in self.key.columns)
        query = sql.SQL(
            "SELECT ARRAY[{}]::text[] AS key, ARRAY[{}]::text[] AS archived, ARRAY[{}]::text[] AS present"
            " FROM {} x LEFT JOIN {} s ON {} LEFT JOIN {} t ON {} ORDER BY {} LIMIT {}"
        ).format(
            key,
            sql.SQL(", ").join(text_of(one_field("s", column)) for column in self.columns),
            sql.SQL(", ").join(text_of(one_field("t", column)) for column in self.columns),
            self.keys(change),
            self.rows,
            same_key(self.key, "s", "x"),
            self.scope,
            same_key(self.key, "t", "x"),
            fields("x", self.key.columns),
            sql.Literal(limit),
        )
        for row in self.session.execute(query):
            yield row["key"], row["archived"], row["present"]


def scope_of(relation: Relation) -> Part:
    """Return a table as SQL reads its own rows: a partitioned one with its parts, any other without heirs."""
    return scope_by(relation.name.schema, relation.name.table, relation.kind)


def scope_by(schema: str, table: str, kind: str) -> Part:
    identifier = sql.Identifier(schema, table)
    return identifier if kind == "p" else sql.SQL("ONLY {}").format(identifier)


def check_mergeable(table: ChosenTable, relation: Relation | None, archived: Sequence[Column]) -> Key:
    """Return the key by which a table can be merged; raises RestoreRefusedError saying why it cannot."""
    if relation is None:
        raise RestoreRefusedError(f"there is no {table.name} in the target any more; restore it beside")
    if relation.kind not in ("r", "p"):
        raise RestoreRefusedError(f"{table.name} is no table in the target any more; restore it beside")
    differences = drift(archived, relation.columns)
    if differences:
        raise RestoreRefusedError(
            f"{table.name} has changed since the backup: {'; '.join(differences)}; restore it beside"
        )
    if relation.rules:
        raise RestoreRefusedError(
            f"{table.name} has the rule {relation.rules[0]}, which would rewrite the merge; restore it beside"
        )
    if relation.key is None or not set(relation.key.columns) <= set(table.columns):
        raise RestoreRefusedError(
            f"{table.name} has no primary key and no unique index over columns that are never null, "
            "so that rows cannot be matched; restore it beside"
        )
    if not relation.may_own:
        raise RestoreRefusedError(
            f"{table.name} belongs to {relation.owner}, and only its owner can keep its triggers from firing; "
            "use a role that is a member of it"
        )
    return relation.key


def count_rows(session: Session, query: sql.Composed) -> int:
    row = session.execute(query).fetchone()
    return int(row["n"]) if row else 0
