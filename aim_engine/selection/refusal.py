"""Why nothing can be chosen: every judged candidate and the situation in, one error with its remedy out.

Ranks nothing itself: the order among equals is handed in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from aim_engine.catalog.load import nearest_models
from aim_engine.errors import AimError, DoesNotFitError, InputError, NoAcceleratorError, NoRecipeError
from aim_engine.hardware.inventory import Gpu, nothing_usable
from aim_engine.hardware.partitions import way_back
from aim_engine.selection.candidate import Candidate, Judged, Situation, gpus_of_type
from aim_engine.selection.changes import Change
from aim_engine.selection.context_limit import context_limit
from aim_engine.selection.groups import equal_groups
from aim_engine.selection.memory import in_gib
from aim_engine.selection.rules import partition_remedy
from aim_engine.selection.standing import standing

Rank = Callable[[Judged], tuple[object, ...]]


def why_none(
    eligible: tuple[Judged, ...], situation: Situation, rank: Rank, changes: tuple[Change, ...] = ()
) -> AimError:
    """The one sentence why there is no winner, and what to do. `eligible` are those that a pin leaves; `changes` would
    help where it is memory that lacks.
    """
    request = situation.request
    if not eligible and request.recipe:
        return _unknown_recipe(request.recipe, situation)
    groups = equal_groups(situation.inventory)
    if not groups:
        return nothing_usable(situation.inventory)
    most = len(groups[0])
    if request.gpu_count is not None and request.gpu_count > most:
        return NoAcceleratorError(
            f"{request.gpu_count} GPUs were asked for, and {situation.inventory.in_words()} is what is usable here",
            hint=f"set AIM_GPU_COUNT to at most {most}, or to auto",
        )
    card, formats = situation.catalog.card, [v.rule for one in eligible for v in one.failures if v.rule == "format"]
    if (
        card
        and (formats or not _possible(eligible))
        and (reason := situation.refused_format(card.quantization, groups[0][0].vendor))
    ):
        return NoRecipeError(f"{request.required_model} cannot be served on {situation.inventory.in_words()}: {reason}",
                             hint=_FORMAT_HINT)  # fmt: skip
    if request.recipe is None and all(one.candidate.recipe.is_family for one in eligible) and not _possible(eligible):
        return _unknown_model(situation)
    nearest = min(eligible, key=lambda one: (_severity(one), rank(one)))
    return _nearest_refusal(nearest, eligible, situation, changes)


_FORMAT_HINT = "take another checkpoint of the model: MXFP4, fp8 or bf16"


def _possible(eligible: tuple[Judged, ...]) -> bool:
    """True when one of them is for the hardware that is here, so that it is the answer to explain."""
    return any(all(v.rule != "gpu type" for v in one.failures) for one in eligible)


def _unknown_recipe(recipe_id: str, situation: Situation) -> AimError:
    known = list(dict.fromkeys(recipe.recipe_id for recipe in situation.catalog.recipes))
    near = difflib.get_close_matches(recipe_id, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"recipes for this model: {', '.join(known) or 'none'}"
    return NoRecipeError(f"there is no recipe {recipe_id} for this model", hint=hint)


def _unknown_model(situation: Situation) -> AimError:
    asked, near = situation.request.model, nearest_models(str(situation.request.model), situation.catalog.known_models)
    hint = f"did you mean {near[0]}? " if near else ""
    if situation.request.offline and situation.catalog.card is None:
        hint += "without AIM_OFFLINE its own config would be asked for; "
    return NoRecipeError(
        f"no recipe serves {asked} on {situation.inventory.in_words()}",
        hint=f"{hint}aim-engine models lists the known ones; AIM_RECIPES_DIR adds recipes of your own",
    )


def _severity(judged: Judged) -> tuple[int, int, int]:
    """How far from possible: memory and counts can be changed, the wrong GPU or backend cannot. Of several that lack
    nothing but memory, the one that lacks the least is the answer to explain; of several that need more GPUs than
    there are, the one that needs the fewest.
    """
    weight = {"memory": 1, "context": 1, "visibility": 1, "gpu count": 2, "partition": 2, "precision": 2, "metric": 2,
              "evidence": 2, "nodes": 2, "enabled": 3, "format": 4}  # fmt: skip
    book = judged.candidate.ledger
    missing = book.missing_bytes if book and [verdict.rule for verdict in judged.failures] == ["memory"] else 0
    count = judged.candidate.gpu_count
    too_few = any(verdict.rule == "gpu count" for verdict in judged.failures)
    return sum(weight.get(one.rule, 10) for one in judged.failures), missing, count if too_few else -count


def _nearest_refusal(
    nearest: Judged, eligible: tuple[Judged, ...], situation: Situation, changes: tuple[Change, ...]
) -> AimError:
    asked, recipe = situation.request.required_model, nearest.candidate.recipe
    reasons = "; ".join(verdict.sentence for verdict in nearest.failures)
    rules = {verdict.rule for verdict in nearest.failures}
    message = f"{asked} cannot be served on {situation.inventory.in_words()}: with {recipe.recipe_id}, {reasons}"
    if rules == {"memory"}:
        return DoesNotFitError(message + _binding(nearest), hint=_memory_hint(nearest, situation, changes))
    if "partition" in rules <= {"partition", "memory"}:
        return NoRecipeError(message, hint=partition_remedy(nearest.candidate.gpus))
    if "engine" in rules and "gpu type" not in rules:
        return NoAcceleratorError(message, hint=_ENGINE_HINT, details=situation.inventory.notes)
    others = rules - {"memory"}
    if len(others) == 1 and (told := _told_by(next(iter(others)), nearest, situation)):
        return told[0](message, hint=told[1])
    if "gpu type" in rules:
        return NoRecipeError(_wrong_type(situation, eligible), hint=_WRONG_TYPE_HINT)
    return NoRecipeError(message, hint=_alternatives(rules, eligible, situation))


_TOLD_BY_ONE_RULE: dict[str, tuple[type[AimError], str]] = {
    "format": (NoRecipeError, "take another checkpoint of the model: bf16, fp16 or int4"),
    "nodes": (InputError, "AIM_ENGINE_ARGS: name sizes whose product is the GPUs of all nodes, or leave them out"),
    "visibility": (InputError, "the choice of GPUs is yours and is not overwritten: put these first, or unset it"),
}


def _told_by(rule: str, nearest: Judged, situation: Situation) -> tuple[type[AimError], str] | None:
    if rule != "context":
        return _TOLD_BY_ONE_RULE.get(rule)
    limit = context_limit(nearest.candidate, situation)
    return InputError, (
        f"set AIM_MAX_MODEL_LEN to at most {limit}, or to auto; for one that its publisher stretches (YaRN) name "
        'max_position_embeddings and rope_parameters: AIM_ENGINE_ARGS={"hf-overrides": {...}}'
    )


_WRONG_TYPE_HINT = (
    "write a recipe for these GPUs in AIM_RECIPES_DIR (similar hardware is not the same hardware, so none is guessed); "
    "aim-engine recipes shows what there is"
)


def _wrong_type(situation: Situation, eligible: tuple[Judged, ...]) -> str:
    types = sorted({one.candidate.recipe.gpu_type for one in eligible if not one.candidate.recipe.is_family})
    types = types or sorted({one.candidate.recipe.gpu_type for one in eligible})
    asked, which = situation.request.required_model, situation.request.recipe
    whose = f"recipe {which} is" if which else f"the recipes for {asked} are"
    return f"{asked} cannot be served on {situation.inventory.in_words()}: {whose} for {', '.join(types)}"


_ENGINE_HINT = (
    "give the container its GPUs (--device /dev/kfd --device /dev/dri), or install the engine built for what is here"
)


_MORE_GPUS = (
    "use a host with as many, a lower precision (AIM_PRECISION) or a smaller model; aim-engine fit MODEL says what fits"
)


def _counts_as(candidate: Candidate, situation: Situation) -> str:
    return standing(candidate.variant.evidence, situation.engine).level


def _alternatives(rules: set[str], eligible: tuple[Judged, ...], situation: Situation) -> str:
    """What the recipes for this hardware do offer, where one setting is all that stands in the way."""
    near = [one.candidate for one in eligible if {verdict.rule for verdict in one.failures} <= rules]
    here = {one.recipe.gpu_type: len(gpus_of_type(situation.inventory, one.recipe.gpu_type)) for one in near}
    enough = [one for one in near if one.gpu_count <= here[one.recipe.gpu_type]]
    if rules == {"gpu count"} and not enough:
        return _MORE_GPUS
    offers = {
        "precision": ("AIM_PRECISION", sorted({candidate.recipe.precision for candidate in near})),
        "gpu count": ("AIM_GPU_COUNT", [str(count) for count in sorted({one.gpu_count for one in enough})]),
        "metric": ("AIM_METRIC", sorted({str(candidate.variant.metric) for candidate in near})),
        "evidence": ("AIM_MIN_EVIDENCE", sorted({_counts_as(one, situation) for one in near})),
    }
    if len(rules) == 1 and (offer := offers.get(next(iter(rules)))):
        name, values = offer
        which = values[0] if len(values) == 1 else "one of these"
        return f"the recipes for this hardware offer {', '.join(values)}; set {name} to {which}"
    return "aim-engine recipes shows every recipe and what speaks against it"


def _more_host_memory(situation: Situation) -> str:
    host = situation.inventory.host
    if host is None or host.cgroup_memory_limit_bytes is None:
        return "a machine with more memory"
    return (
        f"a larger memory limit for the container than {in_gib(host.cgroup_memory_limit_bytes)} (docker run --memory)"
    )


def _binding(nearest: Judged) -> str:
    """Which line of the ledger is the one that matters: what is there whatever the context, or the cache."""
    book = nearest.candidate.ledger
    if book is None:
        return ""
    room = book.budget_bytes - (book.total_bytes - book.kv_bytes)
    if room > 0:
        return f"; beside the rest there is room for {in_gib(room)} of KV cache"
    return "; it would not fit even without a KV cache"


def _memory_hint(nearest: Judged, situation: Situation, changes: tuple[Change, ...]) -> str:
    gpus = nearest.candidate.gpus
    remedies = [change.sentence for change in changes]
    if all(gpu.product == "CPU" for gpu in gpus):
        remedies.insert(0, _more_host_memory(situation))
    if any(gpu.is_partition for gpu in gpus):
        remedies.insert(0, f"whole GPUs ({way_back(gpus)})")
    if nearest.candidate.sharers > 1:
        remedies.insert(0, "fewer of the GPUs that share one memory (AIM_GPU_COUNT)")
    remedies.append("a smaller model")
    told = f"{', '.join(remedies[:-1])} or {remedies[-1]}" if len(remedies) > 1 else remedies[0]
    return f"{_freeing(nearest.candidate)}use {told}"


def _freeing(candidate: Candidate) -> str:
    """What to do where the GPUs are large enough, and others hold their memory; else "". The CPU's memory is held by
    all that runs.
    """
    held = [gpu for gpu in candidate.gpus if gpu.product != "CPU" and gpu.memory_free_bytes is not None]
    busy = [(gpu, gpu.memory_bytes - (gpu.memory_free_bytes or 0)) for gpu in held]
    missing = candidate.ledger.missing_bytes if candidate.ledger else 0
    busy = [(gpu, taken) for gpu, taken in busy if taken > max(missing, gpu.memory_bytes // 10)]
    if not busy:
        return ""
    named = "; ".join(f"{gpu.name}: {in_gib(taken)} held{_holders(gpu)}" for gpu, taken in busy[:3])
    more = f"; and {len(busy) - 3} more" if len(busy) > 3 else ""
    return f"free the memory that others hold ({named}{more}), or "


def _holders(gpu: Gpu) -> str:
    """ " by python3 (pid 7)", as far as it is known."""
    names = [f"{one.name or 'a process'} (pid {one.pid})" for one in gpu.holders[:2]]
    return f" by {', '.join(names)}" if names else ""
