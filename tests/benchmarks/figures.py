"""What was measured, made into medians, ratios and verdicts. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The seconds of one way, one for each round."""

    key: str
    label: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.seconds), max(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target of the design; ``value`` must not be above ``limit``."""

    name: str
    value: float
    limit: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.value <= self.limit

    @property
    def verdict(self) -> str:
        return "PASS" if self.passed else "FAIL"

    def line(self) -> tuple[str, str, str, str]:
        """Return name, value, limit and verdict as text.

        >>> Target(name="backup : bound", value=1.534, limit=1.6).line()
        ('backup : bound', '1.53', '<= 1.60', 'PASS')
        """
        return self.name, f"{self.value:.2f}{self.unit}", f"<= {self.limit:.2f}{self.unit}", self.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that one run of the benchmark found."""

    machine: Mapping[str, Any]
    series: tuple[Series, ...]
    parts: Mapping[str, Mapping[str, float]]
    targets: tuple[Target, ...]

    @property
    def passed(self) -> bool:
        return all(target.passed for target in self.targets)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "machine": dict(self.machine),
            "series": [{**asdict(item), "median": item.median} for item in self.series],
            "parts": {name: dict(parts) for name, parts in self.parts.items()},
            "targets": [{**asdict(item), "passed": item.passed} for item in self.targets],
            "passed": self.passed,
        }


def median_of_ratios(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: what slowed a whole round is in both and cancels.

    >>> median_of_ratios([15.0, 30.0, 16.0], [10.0, 20.0, 10.0])
    1.5
    """
    return statistics.median(over / under for over, under in zip(numerator, denominator, strict=True))


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each part over the rounds.

    >>> medians([{"dump": 4.0, "upload": 1.0}, {"dump": 6.0, "upload": 1.5}])
    {'dump': 5.0, 'upload': 1.25}
    """
    return {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}
