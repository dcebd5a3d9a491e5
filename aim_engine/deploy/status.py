"""Everything about one endpoint: which one in; how it is now, its own plan, and how it has ended, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.asking import ask
from aim_engine.deploy.ending import Ending, ending_of
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.looking import LOOK_SECONDS, Health, Judge, Running, two_looks

if TYPE_CHECKING:
    from docker import DockerClient


@dataclass(frozen=True, kw_only=True)
class Status:
    """`plan` is the endpoint's own as JSON, empty where it does not say; `ending` is None for one that runs."""

    running: Running
    plan: Mapping[str, Any]
    ending: Ending | None

    @property
    def endpoint(self) -> Endpoint:
        return self.running.endpoint

    @property
    def health(self) -> Health:
        return self.running.health

    def as_json(self) -> dict[str, Any]:
        return {
            **self.running.as_json(),
            "status": dict(self.running.look.status) or None,
            "plan": dict(self.plan) or None,
            "ending": self.ending.as_json() if self.ending else None,
        }


def status_of(
    client: DockerClient, endpoint: Endpoint, environment: Mapping[str, str], *, judge: Judge | None = None
) -> Status:
    """Ask the endpoint, and Docker about one that has ended."""
    (running,) = two_looks([endpoint], environment, judge=judge)
    plan = ask(f"{endpoint.health_url}/plan", seconds=LOOK_SECONDS).value if running.look.status else None
    return Status(
        running=running,
        plan=plan if isinstance(plan, Mapping) else {},
        ending=ending_of(client, endpoint) if endpoint.exit_code is not None else None,
    )
