"""The words of the form and the command line: alone, since a DAG file is read again for every task."""

from __future__ import annotations

from enum import StrEnum


class Choosing(StrEnum):
    """The ways to choose a backup, as the form shows them."""

    LATEST_PROVEN = "latest proven"
    BEFORE = "latest before"
    RELEASE = "release"
    ID = "id"


class Where(StrEnum):
    """The kinds of targets, as the form shows them."""

    SCRATCH = "scratch database"
    NAMED = "named database"
    PRODUCTION = "production"
