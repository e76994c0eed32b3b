"""Hypothesis without its deadline: how long an example takes says nothing on a machine that runs servers beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis


def given(*strategies: Any, **named: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Do what ``hypothesis.given`` does."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        return hypothesis.settings(deadline=None)(hypothesis.given(*strategies, **named)(test))

    return decorate
