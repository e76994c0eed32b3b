"""What changes something goes on only when a person has typed what it is."""

from __future__ import annotations

import io

import pytest

from include.backup.cli.confirming import confirm
from include.backup.errors import ParameterError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_word_itself_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("5499\n"))
    confirm("Type the new server's port to go on", word=5499, what="the port")
    assert capsys.readouterr() == ("", "Type the new server's port to go on: ")


@pytest.mark.parametrize("typed", ["", "\n", "y\n", "shop2\n", "SHOP\n"])
def test_anything_else_changes_nothing(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    with pytest.raises(ParameterError, match="that is not the database's name; nothing was released"):
        confirm("Type the database's name", word="shop", what="the database's name", undone="released")


def test_without_a_terminal_nobody_is_asked_even_where_the_word_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("shop\n"))
    with pytest.raises(ParameterError, match="nobody can be asked here whether to go on; add --yes, or --dry-run"):
        confirm("Type the database's name", word="shop", what="the database's name")
