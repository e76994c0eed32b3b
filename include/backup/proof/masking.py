"""SQL without the values in it: what a finding may show of a definition.

Definitions hold secrets: user mappings and subscriptions passwords, settings of a database tokens, functions keys.
Findings go into proofs, logs and messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_VALUE = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*'            # text with escapes
      | '(?:[^']|'')*'                      # text
      | (?P<body>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)   # a function's body
      | (?P<kept>"(?:[^"]|"")*")            # a name
      | '.*                                 # text whose end is missing""",
    re.VERBOSE | re.DOTALL,
)

_FINDING = re.compile(r"pg_restore: error: |psql:.*(?:ERROR|FATAL|error): |(?P<statement>Command was: )")
_QUOTED_VALUE = re.compile(r'(?<=: )".*"$|(?<=value )".*?"')


def without_values(definition: str) -> str:
    """Return SQL with every text constant and function body replaced.

    >>> without_values("OPTIONS (user 'far', password 'it''s secret')")
    "OPTIONS (user '…', password '…')"
    """
    return _VALUE.sub(_shown, definition)


def without_row(message: str) -> str:
    """Return a message of PostgreSQL's without the value that it quotes of a row.

    >>> without_row('invalid input syntax for type integer: "secret"')
    'invalid input syntax for type integer: "…"'
    """
    return _QUOTED_VALUE.sub('"…"', message)


def findings(line: str) -> Iterator[str]:
    """Yield a line of pg_restore's or psql's if it says what failed, or how the failed statement begins.

    Those after them show the rest of the statement, or a row.
    """
    match = _FINDING.match(line)
    if match is not None:
        yield without_values(line) if match["statement"] else without_row(line)


def first_difference(wanted: str, found: str) -> str:
    """Say where two definitions differ, without showing a value of either."""
    shown_wanted, shown_found = without_values(wanted), without_values(found)
    if shown_wanted == shown_found:
        return "differs in a text constant or a function's body (not shown, they may hold secrets)"
    for archived, restored in zip(shown_wanted.splitlines(), shown_found.splitlines(), strict=False):
        if archived != restored:
            return f"differs: {archived.strip()[:160]!r} became {restored.strip()[:160]!r}"
    return "differs in length: lines were added or lost at its end"


def _shown(match: re.Match[str]) -> str:
    if match["kept"]:
        return match["kept"]
    return "$…$" if match["body"] else "'…'"
