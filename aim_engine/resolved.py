"""A recipe as it would be carried out: the recipe in, for each variant the exact command on as many GPUs out.

On hardware of its own kind with nothing else on it, and without any setting of a user's. Pure.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from aim_engine.backends.base import ServerCommand
from aim_engine.backends.registry import is_known
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.errors import AimError
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.plan import Plan, make_plan
from aim_engine.request import read_request

_HOST = "CPU"
_SOME_MODEL = "ORG/MODEL"  # stands for whichever model a family's recipe would serve
_SOME_HOST = Gpu(index=0, product=_HOST, vendor="cpu", memory_bytes=2**40)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A variant with its command, or the reason why there is none."""

    variant: Variant
    command: ServerCommand | None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The variant's keys, and `command: {argv, env}` or None with a `reason`."""
        command = {"argv": list(self.command.argv), "env": dict(self.command.env)} if self.command else None
        return {**asdict(self.variant), "command": command, "reason": self.reason}


def resolve(recipe: Recipe, card: ModelCard | None) -> tuple[Resolved, ...]:
    """Every variant, those that are switched off too."""
    return tuple(_resolve(recipe, variant, card) for variant in recipe.variants)


def _resolve(recipe: Recipe, variant: Variant, card: ModelCard | None) -> Resolved:
    if not is_known(variant.backend):
        return Resolved(variant=variant, command=None, reason=f"{variant.backend} is no backend of this installation")
    # alone, switched on and believed: what is asked is how it is started, not whether it would be chosen
    alone = replace(variant, enabled=True, evidence=Evidence(level="measured"))
    model = _SOME_MODEL if recipe.is_family else recipe.model_id
    flags = {"model": model, "backend": variant.backend, "metric": variant.metric or "latency"}
    try:
        request = read_request(flags, {})
        inventory = _hardware(recipe, variant)
        catalog = Catalog(recipes=(replace(recipe, variants=(alone,)),), card=card)
        outcome = make_plan(request, inventory, catalog)
    except AimError as error:
        return Resolved(variant=variant, command=None, reason=error.message)
    if isinstance(outcome, Plan):
        return Resolved(variant=variant, command=outcome.command)
    against = [verdict.sentence for one in outcome.judged for verdict in one.failures]
    return Resolved(variant=variant, command=None, reason="; ".join(against) or outcome.error.message)


def _hardware(recipe: Recipe, variant: Variant) -> Inventory:
    if recipe.gpu_type == _HOST:
        return Inventory(source="declared", gpus=(_SOME_HOST,))
    return declared_inventory(f"{recipe.gpu_type}:{variant.gpu_count}")
