"""What the stack says of itself: how each service is, and what starting it took."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """One service: whether its process runs, whether it answers, and where."""

    name: str
    running: bool
    healthy: bool
    address: str

    def to_json(self) -> dict[str, object]:
        return {"name": self.name, "running": self.running, "healthy": self.healthy, "address": self.address}


@dataclass(slots=True, kw_only=True)
class UpReport:
    """What ``up`` did; seconds of phases that overlap each other."""

    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    sample_mb: int = 0
    sample_was_there: bool = False

    def to_json(self) -> dict[str, object]:
        phases = {name: round(seconds, 2) for name, seconds in self.phases.items()}
        return {"seconds": round(self.seconds, 2), "phases": phases, "sample_mb": self.sample_mb}
