"""What a launch has made: a decision, a container and its endpoint in, the specification's answer out. Asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aim_engine.deploy.devices import holds_alone
from aim_engine.deploy.inside import served_names
from aim_engine.deploy.launch_job import Decision

if TYPE_CHECKING:
    from aim_engine.deploy.endpoint import InferenceTest
    from aim_engine.deploy.endpoints import Endpoint
    from aim_engine.hardware.inventory import Gpu
    from aim_engine.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Launched:
    """What there is now. `tested` is None where nobody waited, or where the endpoint cannot be reached from here;
    `warnings` are sentences that a person should read; `replicas` are all that were launched together, this one first,
    or none where it is alone. The properties are the specification's keys.
    """

    container_id: str
    decision: Decision
    endpoint: Endpoint
    status: str
    ready_seconds: float | None = None
    tested: InferenceTest | None = None
    warnings: tuple[str, ...] = ()
    replicas: tuple[Launched, ...] = ()

    @property
    def success(self) -> Literal[True]:
        """A launch without success is an error that was raised."""
        return True

    @property
    def plan(self) -> Plan:
        return self.decision.plan

    @property
    def model_id(self) -> str:
        return self.plan.model

    @property
    def served_model(self) -> str:
        """The model's name in requests."""
        return served_names(self.plan)[0]

    @property
    def recipe_id(self) -> str:
        return self.plan.recipe_id

    @property
    def container_name(self) -> str:
        return self.decision.spec.name

    @property
    def endpoint_url(self) -> str | None:
        """As Docker's host reaches it."""
        return self.endpoint.url

    @property
    def api_url(self) -> str | None:
        """What OpenAI's clients call `base_url`."""
        return self.endpoint.api_url

    @property
    def health_url(self) -> str | None:
        return self.endpoint.health_url

    @property
    def log_file(self) -> str | None:
        """Where its log is copied to, as Docker's host calls it."""
        return self.endpoint.log_file

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs that are this endpoint's alone."""
        return tuple(gpu for gpu in self.plan.winner.gpus if holds_alone(gpu))

    @property
    def gpu_count(self) -> int:
        return len(self.gpus)

    @property
    def available_gpus(self) -> int:
        """How many were free when it was decided."""
        return len(self.decision.allocation.free)

    @property
    def precision(self) -> str:
        return self.plan.winner.recipe.precision

    @property
    def backend(self) -> str:
        return self.plan.winner.variant.backend

    @property
    def port(self) -> int:
        return self.plan.request.port

    @property
    def auto_selected(self) -> Mapping[str, bool]:
        """Which of these nobody asked for."""
        origins = self.plan.request.origins
        return {name: origins.get(name, "default") == "default" for name in ("gpu_count", "precision")}

    def as_json(self) -> dict[str, Any]:
        """The specification's answer, and what was tested."""
        return {
            "success": self.success,
            "model_id": self.model_id,
            "served_model": self.served_model,
            "recipe_id": self.recipe_id,
            "container_id": self.container_id[:12],
            "container_name": self.container_name,
            "endpoint_url": self.endpoint_url,
            "api_url": self.api_url,
            "health_url": self.health_url,
            "gpu_count": self.gpu_count,
            "available_gpus": self.available_gpus,
            "precision": self.precision,
            "backend": self.backend,
            "port": self.port,
            "status": self.status,
            "auto_selected": dict(self.auto_selected),
            "gpus": [gpu.pci_address or gpu.uuid for gpu in self.gpus],
            "image": self.decision.spec.image,
            "log_file": self.log_file,
            "ready_seconds": None if self.ready_seconds is None else round(self.ready_seconds, 1),
            "test": self.tested.as_json() if self.tested else None,
            "warnings": list(self.warnings),
            **({"replicas": [one.as_json() for one in self.replicas]} if self.replicas else {}),
        }
