"""How many rows of each kind make a sample of a given size."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SEED = 20250119
MESSAGES_PER_MB = 1_470
# The catalogs of an empty database and the tables that do not grow.
CONSTANT_MB = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleAmounts:
    """How many rows a size asks for; the generators read them as settings `sample.<name>`."""

    size_mb: int
    messages: int
    users: int
    workspaces: int
    conversations: int
    attachments: int
    activity: int


def sample_amounts(size_mb: int) -> SampleAmounts:
    """Return how many rows make a database of about `size_mb` megabytes; never fewer than a few thousand.

    >>> sample_amounts(100).messages
    124950
    """
    messages = max(MESSAGES_PER_MB * (size_mb - CONSTANT_MB), 5_000)
    # A workspace has at least 25 users, so that the members of a conversation differ.
    users = max(messages // 80, 200)
    return SampleAmounts(
        size_mb=size_mb,
        messages=messages,
        users=users,
        workspaces=users // 25 if users < 1_000 else users // 50,
        conversations=max(messages // 60, 100),
        attachments=messages // 25,
        activity=messages // 12,
    )
