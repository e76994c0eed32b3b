"""Compare the rows of a restored database with what the dump read, one TABLE DATA entry at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from include.backup.archive.members import chunks_of, without_trailer
from include.backup.errors import ArchiveError, CommandError, CommandKilledError, RestoreError, SourceUnreachableError
from include.backup.manifest import Manifest, Member
from include.backup.postgres.commands import psql_copy_command
from include.backup.postgres.session import Endpoint, connect, output_settings
from include.backup.postgres.toc import CopyTarget, parse_copy
from include.backup.postgres.tools import PostgresTools
from include.backup.process import Runner
from include.backup.proof.digest import MultisetDigest, StreamDigest, both_digests, multiset_digest, stream_digest
from include.backup.proof.own_faults import own_fault
from include.backup.proof.record import Difference, Method, TableProof

Digest = TypeVar("Digest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All entries that load into one relation; more than one for a partitioned table loaded by its root."""

    target: CopyTarget
    members: tuple[Member, ...]
    condition: str | None
    partitioned: bool

    @property
    def rows(self) -> int:
        return sum(member.table_data.rows for member in self.members if member.table_data)

    def statement(self) -> str:
        """Return the COPY that reads the same rows in the same columns.

        An extension's configuration table is dumped through pg_extension.extcondition, which is SQL text of
        the extension's author; a partitioned root has no rows of its own, so that only a query reads it.
        """
        if not self.condition and not self.partitioned:
            return self.target.statement
        columns = self.target.columns.strip()[1:-1] or ""
        where = f" {self.condition}" if self.condition else ""
        only = "" if self.partitioned else "ONLY "
        return f"COPY (SELECT {columns} FROM {only}{self.target.relation}{where}) TO STDOUT"  # noqa: S608 - pg_dump quoted it


class RowComparer:
    """Reads restored tables through psql; the scratch server's role for this is no superuser."""

    def __init__(
        self,
        *,
        runner: Runner,
        tools: PostgresTools,
        endpoint: Endpoint,
        manifest: Manifest,
        content: Callable[[Member], Iterator[bytes]],
        jobs: int,
        digests: Mapping[str, MultisetDigest] | None = None,
    ) -> None:
        """``digests`` tells what members hold whose order did not survive, so that nobody has to read them again."""
        self._runner = runner
        self._tools = tools
        self._endpoint = endpoint
        self._manifest = manifest
        self._content = content
        self._jobs = jobs
        self._digests = digests or {}
        self._settings: Mapping[str, str] = {}

    def compare(
        self, *, log: Callable[[str], None], on_table: Callable[[TableProof], None] | None = None
    ) -> tuple[tuple[TableProof, ...], tuple[Difference, ...]]:
        """Compare every TABLE DATA entry; return a proof for each table and what differs.

        ``on_table`` is called for each as it is done, by the thread that did it. Raises SourceUnreachableError when the
        server failed, which is no difference.
        """
        comparisons = self._comparisons()
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="compare") as pool:
            results = list(pool.map(lambda comparison: self._told(comparison, on_table), comparisons))
        proofs = tuple(proof for proof, _ in results)
        log(f"{len(proofs)} tables compared, {sum(proof.rows_restored for proof in proofs)} rows read back")
        return proofs, tuple(difference for _, found in results for difference in found)

    def _comparisons(self) -> list[Comparison]:
        grouped: dict[CopyTarget, list[Member]] = {}
        for member in self._manifest.members:
            if member.table_data is not None:
                grouped.setdefault(parse_copy(member.table_data.copy_statement), []).append(member)
        conditions = {
            table: condition
            for extension in self._manifest.dump.extensions
            for table, condition in extension.conditions.items()
        }
        partitioned = self._partitioned()
        return sorted(
            (
                Comparison(
                    target=target,
                    members=tuple(members),
                    condition=conditions.get(target.relation) or None,
                    partitioned=target.relation in partitioned,
                )
                for target, members in grouped.items()
            ),
            key=lambda comparison: -sum(member.length for member in comparison.members),
        )

    def _partitioned(self) -> frozenset[str]:
        # Names are compared with pg_dump's, which quotes those alone that need it, whatever the database says.
        with connect(self._endpoint, settings={"quote_all_identifiers": "off"}) as connection:
            self._settings = output_settings(connection.info.server_version // 10_000)
            rows = connection.execute(
                "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_class c"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'p'"
            ).fetchall()
        return frozenset(str(row["name"]) for row in rows)

    def _told(
        self, comparison: Comparison, on_table: Callable[[TableProof], None] | None
    ) -> tuple[TableProof, Sequence[Difference]]:
        try:
            result = self._one(comparison)
        except (ArchiveError, RestoreError) as error:
            unread = self._proof(comparison, 0, Method.STREAM, identical=False)
            result = unread, (Difference(what="rows", name=comparison.target.relation, detail=str(error)),)
        if on_table is not None:
            on_table(result[0])
        return result

    def _one(self, comparison: Comparison) -> tuple[TableProof, Sequence[Difference]]:
        expected = comparison.members[0].table_data
        if all(member.name in self._digests for member in comparison.members):
            return self._as_multiset(comparison)
        if len(comparison.members) == 1 and expected is not None:
            found = self._restored(comparison, stream_digest)
            if found == StreamDigest(expected.rows, expected.content_sha256):
                return self._proof(comparison, found.rows, Method.STREAM, identical=True), ()
        return self._as_multiset(comparison)

    def _as_multiset(self, comparison: Comparison) -> tuple[TableProof, Sequence[Difference]]:
        """Compare with the archive's own lines, which must be those that the manifest recorded."""
        wanted = MultisetDigest(0, 0)
        details = []
        for member in comparison.members:
            if member.name in self._digests:
                wanted += self._digests[member.name]
                continue
            stream, lines = both_digests(self._archived(member))
            wanted += lines
            recorded = member.table_data
            if recorded is not None and stream != StreamDigest(recorded.rows, recorded.content_sha256):
                details.append(
                    f"member {member.name} holds {stream.rows} rows with SHA-256 {stream.sha256}, the manifest says "
                    f"{recorded.rows} with {recorded.content_sha256}"
                )
        found = self._restored(comparison, multiset_digest)
        if wanted.rows != found.rows:
            details.append(f"{wanted.rows} rows in the archive, {found.rows} after the restore")
        elif wanted != found:
            details.append(f"all {found.rows} rows are there but at least one has other content")
        proof = self._proof(comparison, found.rows, Method.MULTISET, identical=not details)
        name = comparison.target.relation
        return proof, tuple(Difference(what="rows", name=name, detail=detail) for detail in details)

    def _proof(self, comparison: Comparison, rows: int, method: Method, *, identical: bool) -> TableProof:
        return TableProof(
            table=comparison.target.relation,
            rows_expected=comparison.rows,
            rows_restored=rows,
            method=method,
            identical=identical,
        )

    def _archived(self, member: Member) -> Iterator[bytes]:
        return without_trailer(self._content(member), name=member.name)

    def _restored(self, comparison: Comparison, digest: Callable[[Iterable[bytes]], Digest]) -> Digest:
        command = psql_copy_command(
            self._tools,
            self._endpoint,
            statement=comparison.statement(),
            settings={**self._settings, **self._manifest.dump.session},
            encoding=self._manifest.dump.server.encoding,
        )
        try:
            return self._runner.stream(command, lambda output: digest(chunks_of(output)))
        except CommandKilledError:
            raise
        except CommandError as error:
            if own_fault(error):
                raise SourceUnreachableError(
                    f"the server failed while {comparison.target.relation} was compared: {error}; look at its disk, "
                    "memory and log, and retry"
                ) from error
            raise RestoreError(f"cannot be read after the restore: {error}") from error
