"""Starting an endpoint again: which one in, the same container with its new ports, ready where that is waited for, out.

Requests in flight may finish, as in a stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.docker import guarded
from aim_engine.deploy.endpoint import OnPhase, wait_for_endpoint_ready
from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.deploy.looking import Judge
from aim_engine.deploy.reach import Vantage

if TYPE_CHECKING:
    from docker import DockerClient

_LONG_SECONDS = 86400.0  # the container ends by itself when its own start takes too long


@dataclass(frozen=True, kw_only=True)
class Restarted:
    """`ready_seconds` is None where nobody waited."""

    endpoint: Endpoint
    ready_seconds: float | None

    @property
    def ready(self) -> bool:
        return self.ready_seconds is not None

    def as_json(self) -> dict[str, Any]:
        seconds = None if self.ready_seconds is None else round(self.ready_seconds, 3)
        return {**self.endpoint.as_json(), "ready": self.ready, "seconds": seconds}


def restart(
    client: DockerClient,
    endpoint: Endpoint,
    vantage: Vantage,
    *,
    wait: bool = True,
    timeout: float | None = None,
    on_phase: OnPhase = lambda _phase, _reason: None,
    judge: Judge | None = None,
) -> Restarted:
    """Stop and start it; without a `timeout` it may take as long as it gives itself.

    Raises:
        AimError: Docker refuses, or the endpoint does not become ready.
    """
    with guarded(f"restart {endpoint.name}"):
        client.api.restart(endpoint.container_id, timeout=endpoint.stop_seconds)
        again = vantage.reach(endpoint_of(client.api.inspect_container(endpoint.container_id)))
    if not wait:
        return Restarted(endpoint=again, ready_seconds=None)
    limit = _LONG_SECONDS if timeout is None else timeout
    waited = wait_for_endpoint_ready(again, client, limit, on_phase, vantage=vantage, judge=judge)
    return Restarted(endpoint=waited.endpoint, ready_seconds=waited.seconds)
