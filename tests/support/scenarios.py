"""Runs that go on at the same time, each looked at by a test of its own: a scheduler has time for many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import pytest

Subject = TypeVar("Subject")
Result = TypeVar("Result")
PARAMETER = "scenario"


class Scenarios(Generic[Subject, Result]):
    """Started together; a test asks for the result of the one that it is about."""

    def __init__(
        self, pool: ThreadPoolExecutor, subject: Subject, actions: Mapping[str, Callable[[Subject], Result]]
    ) -> None:
        self._pool = pool
        self._subject = subject
        self._actions = actions
        self._started: dict[str, Future[Result]] = {}

    def start(self, name: str) -> Future[Result]:
        """Start a scenario unless it was started before."""
        if name not in self._started:
            self._started[name] = self._pool.submit(self._actions[name], self._subject)
        return self._started[name]

    @property
    def started(self) -> tuple[str, ...]:
        """The names of those that go on or have ended."""
        return tuple(self._started)

    def __getitem__(self, name: str) -> Result:
        """Return what a scenario found, or raise what it raised."""
        return self.start(name).result()


@contextmanager
def at_the_same_time(
    request: pytest.FixtureRequest, subject: Subject, actions: Mapping[str, Callable[[Subject], Result]]
) -> Iterator[Scenarios[Subject, Result]]:
    """Start the scenarios that this module's collected tests name by their parameter ``scenario``.

    Others start when a test asks for their result.
    """
    with ThreadPoolExecutor(len(actions), thread_name_prefix=PARAMETER) as pool:
        scenarios = Scenarios(pool, subject, actions)
        for item in request.session.items:
            parameters = getattr(getattr(item, "callspec", None), "params", {})
            if item.path == request.path and parameters.get(PARAMETER) in actions:
                scenarios.start(parameters[PARAMETER])
        yield scenarios
