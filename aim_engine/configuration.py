"""The best configuration of a model, and all of them: plans in, the specification's answers out. Asks nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.deploy.devices import holds_alone
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal, candidates_json
from aim_engine.selection.candidate import Judged


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What would be served; the properties are the specification's keys, and `plan` says all the rest."""

    plan: Plan

    @property
    def recipe_id(self) -> str:
        return self.plan.recipe_id

    @property
    def model_id(self) -> str:
        return self.plan.model

    @property
    def gpu_count(self) -> int:
        return sum(map(holds_alone, self.plan.winner.gpus))

    @property
    def precision(self) -> str:
        return self.plan.winner.recipe.precision

    @property
    def backend(self) -> str:
        return self.plan.winner.variant.backend

    @property
    def available_gpus(self) -> int:
        """How many can be used here; whether another endpoint has them shows at the launch."""
        return sum(map(holds_alone, self.plan.inventory.usable_gpus))

    @property
    def config(self) -> Mapping[str, Any]:
        """The engine's options by their long names (`args`), its variables (`env`), and the whole command (`argv`)."""
        command = self.plan.command
        return {"args": dict(command.options), "env": dict(command.env), "argv": list(command.argv)}

    def as_json(self) -> dict[str, Any]:
        return {
            "recipe_id": self.recipe_id,
            "model_id": self.model_id,
            "gpu_count": self.gpu_count,
            "precision": self.precision,
            "backend": self.backend,
            "config": dict(self.config),
            "available_gpus": self.available_gpus,
        }


@dataclass(frozen=True, kw_only=True)
class Configurations:
    """Every configuration of a model, best first, judged on an inventory, and the outcome of the choice."""

    model_id: str
    inventory: Inventory
    outcome: Plan | Refusal

    @property
    def judged(self) -> tuple[Judged, ...]:
        return self.outcome.judged

    @property
    def chosen(self) -> Judged | None:
        """The one that would be launched, if any would."""
        winner = self.outcome.winner if isinstance(self.outcome, Plan) else None
        return next((one for one in self.judged if one.candidate is winner), None)

    def as_json(self) -> dict[str, Any]:
        chosen = self.chosen.candidate if self.chosen else None
        configurations = [
            {**shape, "gpu_type": one.candidate.recipe.gpu_type, "huggingface_id": one.candidate.recipe.huggingface_id,
             "metric": one.candidate.variant.metric, "chosen": one.candidate is chosen, "works": one.passed}
            for shape, one in zip(candidates_json(self.judged, chosen), self.judged, strict=True)
        ]  # fmt: skip
        return {"model_id": self.model_id, "hardware": self.inventory.as_json(), "configurations": configurations}
