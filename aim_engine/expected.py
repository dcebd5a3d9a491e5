"""What a plan is expected to come to: a plan in, what AIM_EXPECT_PLAN says of it out; and both in, the differences out.

For pods that plan again where they run: the same, or not at all. Only what does not depend on the machine's free memory
counts: what is served, how it is placed, and the recipe's own words. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.errors import InputError
from aim_engine.plan import Plan

_ABSENT = object()


def expectation(plan: Plan) -> dict[str, Any]:
    """The plan as it must be again. A folder's path is no part of it: elsewhere it is another one."""
    winner = plan.winner
    found: dict[str, Any] = {
        "recipe_id": plan.recipe_id,
        "huggingface_id": plan.checkpoint,
        "backend": winner.variant.backend,
        "precision": winner.recipe.precision,
        "gpu_type": winner.recipe.gpu_type,
        "gpu_count": winner.gpu_count,
        "tensor_parallel_size": winner.tensor_parallel_size,
        "data_parallel_size": winner.replicas,
        "args": dict(winner.variant.args),
        "env": dict(winner.variant.env),
    }
    if plan.request.model_folder is not None:
        del found["huggingface_id"]
    return found


def check_expected(plan: Plan) -> None:
    """That the plan is the expected one, where its request has any expectation.

    Raises:
        InputError: it is another one; with every difference.
    """
    wanted = plan.request.expect_plan
    if not wanted:
        return
    found = tuple(differences(expectation(plan), wanted))
    if found:
        raise InputError(
            f"the plan is not the one that AIM_EXPECT_PLAN expects: {'; '.join(found[:3])}",
            hint="render the manifest again with this version of the image, or leave AIM_EXPECT_PLAN out",
            details=found[3:],
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """A sentence for each key that is wanted and is otherwise; in a recipe's own words also for each that is new."""
    keys = dict.fromkeys((*wanted, *(found if above else ())))
    for key in keys:
        here, there = found.get(key, _ABSENT), wanted.get(key, _ABSENT)
        if isinstance(here, Mapping) and isinstance(there, Mapping) and not above:
            yield from differences(here, there, f"{key}.")
        elif here != there:
            yield f"{above}{key} is {_shown(here)}, and {_shown(there)} was expected"


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)[:120]
