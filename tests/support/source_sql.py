"""Sessions as the sample's superuser, for making what a test needs and taking it away again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from include.local.stack import Stack


@contextmanager
def as_superuser(stack: Stack, *, dbname: str = "pulse_messages") -> Iterator[psycopg.Connection]:
    """Open a session in autocommit."""
    with psycopg.connect(stack.source.superuser_conninfo(dbname), autocommit=True) as connection:
        yield connection


@contextmanager
def changed(stack: Stack, do: str, undo: str) -> Iterator[None]:
    """Run one statement, and another one afterwards whatever happens."""
    with as_superuser(stack) as connection:
        connection.execute(do.encode())
        try:
            yield
        finally:
            connection.execute(undo.encode())
