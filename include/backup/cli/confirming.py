"""Have a person type what is about to be changed, before anything is."""

from __future__ import annotations

import sys

from include.backup.errors import ParameterError


def confirm(
    question: str, *, word: object, what: str, look: str = "--dry-run to see the preview", undone: str = "changed"
) -> None:
    """Ask for a word; raises ParameterError when nobody can be asked, or says something else.

    ``what`` names the word and ``look`` what only shows; ``undone`` is what nothing was.
    """
    if not sys.stdin.isatty():
        raise ParameterError(f"nobody can be asked here whether to go on; add --yes, or {look}")
    print(f"{question}: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != str(word):
        raise ParameterError(f"that is not {what}; nothing was {undone}")
