"""Where a restore may write: what the policy's allow-list says, looked up anew by every step that writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from include.backup.connections import DatabaseConnection
from include.backup.errors import ParameterError, RestoreRefusedError
from include.backup.policy import Policy, RestorePolicy, SourcePolicy
from include.backup.restore.target import check_database_name
from include.backup.restore.words import Where

APPLICATION = "pulse_restore"
SOURCE_SERVER = "source"
Connections = Callable[[str], DatabaseConnection]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A database on a server of the policy; ``connection`` leads to another database of that server.

    On a ``production`` server nothing is replaced without approval. ``is_source``: it is the database of some source.
    """

    server: str
    conn_id: str
    connection: DatabaseConnection
    database: str
    production: bool
    is_source: bool = False

    def acts(self, *, replaces: bool) -> bool:
        """Tell whether what is restored here is wanted to act: what takes production's place, or is a lost source."""
        return self.production if replaces else self.is_source

    @property
    def address(self) -> str:
        return f"{self.connection.host}:{self.connection.port}"


def restore_policy(source: SourcePolicy) -> RestorePolicy:
    """Return the source's restore block; raises RestoreRefusedError when it has none."""
    if source.restore is None:
        raise RestoreRefusedError(
            f"the policy does not say where {source.name} may be restored to; give it a restore block, or use "
            f"`python -m include.backup restore {source.name} BACKUP_ID --to-database NAME --host HOST`"
        )
    return source.restore


def find_destination(
    policy: Policy,
    source: SourcePolicy,
    connections: Connections,
    *,
    where: Where,
    server: str | None,
    database: str | None,
    scratch_name: str,
) -> Destination:
    """Return the database that a person means; raises ParameterError or RestoreRefusedError."""
    if where is Where.PRODUCTION:
        if server or database:
            raise ParameterError("production is the source's own database; leave server and database empty")
        own = connections(source.connection)
        return allowed_destination(policy, source, connections, server=SOURCE_SERVER, database=own.dbname)
    if where is Where.SCRATCH and database:
        raise ParameterError("a scratch database gets its name by itself; leave it empty, or choose a named one")
    if where is Where.NAMED and not database:
        raise ParameterError("a named database needs its name; fill in database, or choose a scratch database")
    chosen = server or _only(restore_policy(source).servers)
    return allowed_destination(policy, source, connections, server=chosen, database=database or scratch_name)


def allowed_destination(
    policy: Policy, source: SourcePolicy, connections: Connections, *, server: str, database: str
) -> Destination:
    """Return a database of a server on the policy's allow-list; raises RestoreRefusedError for any other server.

    A database that is the source of some backup counts as production on whatever server it is named.
    """
    allowed = restore_policy(source)
    check_database_name(database)
    if server == SOURCE_SERVER:
        conn_id, production = allowed.source_connection, True
    elif server in allowed.servers:
        conn_id, production = allowed.servers[server].connection, allowed.servers[server].production
    else:
        known = ", ".join(allowed.servers) or "none"
        raise RestoreRefusedError(f"{server!r} is no server of {source.name}'s restore.servers; allowed: {known}")
    connection = replace(connections(conn_id), application_name=APPLICATION)
    sources = {place(connections(item.connection)) for item in policy.sources.values()}
    here = place(replace(connection, dbname=database))
    if server == SOURCE_SERVER and here != place(connections(source.connection)):
        raise RestoreRefusedError(
            f"the connection {conn_id} does not lead to the server of {source.connection}; correct one of them"
        )
    return Destination(
        server=server,
        conn_id=conn_id,
        connection=connection,
        database=database,
        production=production or here in sources,
        is_source=here in sources,
    )


def place(connection: DatabaseConnection) -> tuple[str, int, str]:
    """Return where a database is, so that two ways to write it are one.

    >>> place(DatabaseConnection(host="127.0.0.1", port=5432, dbname="shop", user="u"))
    ('localhost', 5432, 'shop')
    """
    host = connection.host.lower().rstrip(".")
    return ("localhost" if host in ("127.0.0.1", "::1") else host, connection.port, connection.dbname)


def _only(servers: Mapping[str, object]) -> str:
    if len(servers) == 1:
        return next(iter(servers))
    raise ParameterError(f"say which server is meant; allowed: {', '.join(servers) or 'none'}")
