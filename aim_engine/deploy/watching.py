"""Endpoints over time: one look after the other in, a `Row` for each endpoint out, with what happened since.

Remembers the looks before. Asks nobody, and prints nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aim_engine.deploy.counters import rates
from aim_engine.deploy.looking import Health, Look, rates_between, uptime_seconds
from aim_engine.hardware.sensors import Sensors, together

# The sidecar asks the engine every five seconds: over this long its counters are a rate all the same.
_WINDOW_SECONDS = 12.0
_MOST_LOOKS = 600


@dataclass(frozen=True, kw_only=True)
class Row:
    """One endpoint at one moment. None for what nobody says. `restarts` counts Docker's and the engine's inside."""

    name: str
    model: str
    state: str
    health: Health
    running: float | None
    waiting: float | None
    tokens_per_second: float | None
    kv_cache_usage: float | None
    sensors: Sensors
    restarts: int
    uptime_seconds: float | None
    url: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Watch:
    """Remembers what it saw. `read` gives the sensors of a GPU, by its PCI address."""

    read: Callable[[str], Sensors]
    _seen: dict[str, deque[Look]] = field(default_factory=dict)

    def rows(self, looks: Iterable[Look]) -> list[Row]:
        """Rows for these looks; who is not among them any more is forgotten."""
        now = list(looks)
        kept = {one.endpoint.container_id for one in now}
        self._seen = {key: value for key, value in self._seen.items() if key in kept}
        return [self._row(one) for one in now]

    def _row(self, seen: Look) -> Row:
        endpoint = seen.endpoint
        before = self._seen.setdefault(endpoint.container_id, deque(maxlen=_MOST_LOOKS))
        speed = _speed(before, seen)
        before.append(seen)
        return Row(
            name=endpoint.name,
            model=endpoint.model,
            state=endpoint.state,
            health=seen.health,
            running=seen.counters.running,
            waiting=seen.counters.waiting,
            tokens_per_second=speed,
            kv_cache_usage=seen.counters.kv_cache_usage,
            sensors=together(self.read(gpu) for gpu in endpoint.gpus),
            restarts=endpoint.restarts + engine_restarts(seen.status),
            uptime_seconds=uptime_seconds(endpoint),
            url=endpoint.url,
        )


def _speed(before: deque[Look], seen: Look) -> float | None:
    """Since the look before; where the counters are the sidecar's, since one that is old enough."""
    if not before:
        return None
    found = rates_between(before[-1], seen)
    if found is None and not seen.fresh:
        old = [one for one in before if not one.fresh and seen.counters.at - one.counters.at >= _WINDOW_SECONDS]
        found = rates(old[-1].counters, seen.counters) if old else None
    return found.tokens_per_second if found else None


def engine_restarts(status: Mapping[str, Any]) -> int:
    """How often the engine was started again inside the container."""
    attempts = status.get("attempts")
    return max(0, len(attempts) - 1) if isinstance(attempts, list) else 0
