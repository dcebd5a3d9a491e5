"""One look at endpoints: where they are in, a `Look` at each out, all asked at the same time.

Judges little: the health sidecar's verdict is passed on, and Docker's own where no sidecar can be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from aim_engine.deploy.asking import Access, Answer, access_to, ask, at_once
from aim_engine.deploy.counters import Counters, Rates, from_metrics, from_status, rates
from aim_engine.deploy.endpoints import Endpoint

LOOK_SECONDS = 2.0  # an answer from this host's memory takes milliseconds; more is a sign by itself
_MARGIN_SECONDS = 0.5
BETWEEN_LOOKS_SECONDS = 1.0

# The words for health: the sidecar's phase while it starts, and these.
READY, FAILED, SILENT, STOPPED, UNKNOWN = "ready", "failed", "no answer", "stopped", "unknown"
DRAINING = "draining"  # the engine answers on while it finishes what is in flight
GOOD = (READY, "healthy")


@dataclass(frozen=True, kw_only=True)
class Health:
    """What is known of an endpoint's health: one word, and why. `source` says who said so: the sidecar, Docker, or
    nobody. `phase` is the sidecar's.
    """

    word: str
    source: str
    phase: str = ""
    reason: str = ""
    hint: str = ""
    ready: bool = False
    live: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """One endpoint at one moment; `status` is all that the sidecar said."""

    endpoint: Endpoint
    health: Health
    counters: Counters
    status: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False  # the counters are the engine's own, of this moment


# Somebody else's verdict on an endpoint that runs, in place of the sidecar's.
Judge = Callable[[Endpoint], Health]


@dataclass(frozen=True, kw_only=True)
class Running:
    """One endpoint as it is now; `rates` are None where its counters cannot tell."""

    look: Look
    rates: Rates | None

    @property
    def endpoint(self) -> Endpoint:
        return self.look.endpoint

    @property
    def health(self) -> Health:
        return self.look.health

    @property
    def tokens_per_second(self) -> float | None:
        return self.rates.tokens_per_second if self.rates else None

    def as_json(self) -> dict[str, Any]:
        """Keys may be added, never renamed."""
        return {
            **self.endpoint.as_json(),
            "health": asdict(self.health),
            "phase": self.health.phase or None,
            "uptime_seconds": uptime_seconds(self.endpoint),
            "tokens_per_second": self.tokens_per_second,
            "requests_running": self.look.counters.running,
            "requests_waiting": self.look.counters.waiting,
            "kv_cache_usage": self.look.counters.kv_cache_usage,
        }


def look(
    endpoint: Endpoint,
    access: Access,
    *,
    seconds: float = LOOK_SECONDS,
    count: bool = True,
    judge: Judge | None = None,
) -> Look:
    """Ask one endpoint's sidecar, and for counters of this moment the engine itself; the latter may want the key."""
    seen = _look(endpoint, access, seconds=seconds, count=count)
    if judge is None or endpoint.state != "running":
        return seen
    return replace(seen, health=judge(endpoint))


def _look(endpoint: Endpoint, access: Access, *, seconds: float, count: bool) -> Look:
    if not endpoint.is_running or endpoint.state != "running" or endpoint.health_url is None:
        return Look(endpoint=endpoint, health=_by_docker(endpoint), counters=Counters(at=time.monotonic()))
    answer = ask(f"{endpoint.health_url}/status", seconds=seconds)
    said = answer.value
    status = said if isinstance(said, Mapping) and answer.status == 200 else {}
    health = _by_sidecar(endpoint, answer, status)
    counters = from_status(status.get("engine"), time.monotonic())
    if count and (health.ready or health.phase == DRAINING) and endpoint.url:
        own = ask(f"{endpoint.url}/metrics", seconds=seconds, access=access)
        if own.status == 200:
            return Look(endpoint=endpoint, health=health, status=status, fresh=True,
                        counters=from_metrics(own.text, time.monotonic()))  # fmt: skip
    return Look(endpoint=endpoint, health=health, counters=counters, status=status)


def look_at_all(
    endpoints: Iterable[Endpoint], environment: Mapping[str, str], *, count: bool = True, judge: Judge | None = None
) -> list[Look]:
    """All at once; one that dribbles counts as one that does not answer."""
    wanted = list(endpoints)
    looks = at_once(
        wanted,
        lambda one: look(one, access_to(one, environment), count=count, judge=judge),
        seconds=2 * LOOK_SECONDS + _MARGIN_SECONDS,
    )
    return [found or _no_look(one) for one, found in zip(wanted, looks, strict=True)]


def two_looks(
    endpoints: Iterable[Endpoint], environment: Mapping[str, str], *, judge: Judge | None = None
) -> list[Running]:
    """Two looks at all of them, a second apart, where any is ready; else one, and no rates."""
    first = look_at_all(endpoints, environment, judge=judge)
    if not any(one.health.ready for one in first):
        return [Running(look=one, rates=None) for one in first]
    time.sleep(BETWEEN_LOOKS_SECONDS)
    second = look_at_all([one.endpoint for one in first], environment, judge=judge)
    pairs = zip(first, second, strict=True)
    return [Running(look=after, rates=rates_between(before, after)) for before, after in pairs]


def rates_between(before: Look, after: Look) -> Rates | None:
    """None where counters cannot tell: the sidecar's are up to five seconds old, so that they stand still while the
    engine works.
    """
    if before.fresh != after.fresh or before.endpoint.container_id != after.endpoint.container_id:
        return None
    if not after.fresh and (after.counters.running or after.counters.generation_tokens is None):
        return None
    return rates(before.counters, after.counters)


def _no_look(endpoint: Endpoint) -> Look:
    health = Health(word=SILENT, source="nobody", reason="it takes connections, and does not answer in time")
    return Look(endpoint=endpoint, health=health, counters=Counters(at=time.monotonic()))


def _by_sidecar(endpoint: Endpoint, answer: Answer, status: Mapping[str, Any]) -> Health:
    if not status:
        why = answer.error or f"its health port answered {answer.status}"
        return Health(word=SILENT, source="nobody", reason=why, seconds=answer.seconds)
    phase, ready, live = str(status.get("phase", "")), status.get("ready") is True, status.get("live") is not False
    return Health(
        word=READY if ready else phase or UNKNOWN,
        source="sidecar",
        phase=phase,
        reason=str(status.get("reason") or ""),
        hint=str(status.get("hint") or ""),
        ready=ready,
        live=live,
        seconds=answer.seconds,
    )


def _by_docker(endpoint: Endpoint) -> Health:
    """Docker's own checks, where the sidecar cannot be reached: no port is published, or it does not run."""
    if endpoint.state != "running":
        word = STOPPED if endpoint.exit_code is not None else endpoint.state
        return Health(word=word, source="docker", reason=endpoint.state_error)
    word = endpoint.docker_health or UNKNOWN
    reason = "its health port cannot be reached from here; this is Docker's own check"
    healthy = word == "healthy"
    return Health(word=word, source="docker", reason=reason, ready=healthy, live=word != "unhealthy")


def uptime_seconds(endpoint: Endpoint, now: datetime | None = None) -> float | None:
    """Since the container was started, where it runs."""
    return seconds_since(endpoint.started_at, now) if endpoint.is_running else None


def seconds_since(moment: str | None, now: datetime | None = None) -> float | None:
    """Since a moment that Docker wrote."""
    try:
        # nanoseconds, which fromisoformat reads since 3.11, cut to microseconds
        begun = datetime.fromisoformat(moment or "")
    except ValueError:
        return None
    if begun.tzinfo is None:
        begun = begun.replace(tzinfo=UTC)
    return max(0.0, ((now or datetime.now(UTC)) - begun).total_seconds())
