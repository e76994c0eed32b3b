"""SQL scripts as pg_dumpall writes them, taken apart into statements."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""--[^\n]*                                # a comment
      | ^\\[^\n]*                               # a command of psql's, such as \restrict
      | [eE]'(?:[^'\\]|\\.|'')*'                # text with escapes
      | '(?:[^']|'')*' | "(?:[^"]|"")*"         # text, identifier
      | ; | [^;'"eE\\\n-]+ | .""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def split_statements(script: str) -> Iterator[str]:
    r"""Yield the statements without their semicolons; comments and psql's own commands are left out.

    A line is no statement: a role's comment may hold one that looks like it.

    >>> list(split_statements("-- x;\n\\restrict a\nSET x = 'a;b';\nCREATE ROLE \"c;d\";\n"))
    ["SET x = 'a;b'", 'CREATE ROLE "c;d"']
    """
    statement = ""
    for match in _TOKEN.finditer(script):
        piece = match[0]
        if piece == ";":
            if statement.strip():
                yield statement.strip()
            statement = ""
        elif not piece.startswith(("--", "\\")):
            statement += piece
    if statement.strip():
        yield statement.strip()
