"""Every candidate judged, ranked, and one chosen: a `Situation` in, a `Selection` out, or the reason there is none.

Deterministic: the order of files, folders or GPUs of one kind never changes the answer.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

from aim_engine.catalog.load import nearest_models
from aim_engine.catalog.model_card import BITS
from aim_engine.catalog.recipe import Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import AimError, DoesNotFitError, InputError, NoAcceleratorError, NoRecipeError
from aim_engine.hardware.inventory import Gpu
from aim_engine.selection.candidate import Candidate, Judged, Situation, candidates
from aim_engine.selection.memory import Load, ledger
from aim_engine.selection.rules import RULES

ReadTerms = Callable[[Variant, Gpu], ServingTerms]

_PREFERENCE = ("bf16", "fp16", "fp8", "int8", "int4", "fp4")  # among checkpoints none of which is the model's own


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen and every verdict on every candidate, best first. Without a winner, `refusal` says why.
    `warnings` tell what was chosen against a rule's verdict (AIM_FORCE).
    """

    winner: Judged | None
    judged: tuple[Judged, ...]
    refusal: AimError | None = None
    warnings: tuple[str, ...] = ()


def select(situation: Situation, read_terms: ReadTerms) -> Selection:
    """Judge every candidate by every rule, rank them, and take the best that passed all.

    `read_terms` is the backend's reading of a variant's arguments on a GPU.
    """
    judged = tuple(sorted((_judge(c, situation, read_terms) for c in candidates(situation)), key=_rank(situation)))
    eligible = _pinned(judged, situation)
    winner = next((one for one in eligible if one.passed), None)
    if winner is None and situation.request.recipe and situation.request.force:
        forced = next((one for one in eligible if _can_be_forced(one)), None)
        if forced:
            warnings = tuple(f"forced although {v.rule}: {v.sentence}" for v in forced.failures)
            return Selection(winner=forced, judged=judged, warnings=warnings)
    if winner is None:
        refusal = _refusal(eligible, judged, situation)
        return Selection(winner=None, judged=tuple(_unpinned(one, situation) for one in judged), refusal=refusal)
    return Selection(winner=winner, judged=tuple(_compared(one, winner, situation) for one in judged))


# What each place of the rank's key means, said of one that lost by it.
_LOST_BY = (
    "it failed a check",
    "the model's own recipes come before those for any model",
    "its precision comes later: the checkpoint's own first, then lower ones",
    "a variant tuned for the metric comes before one for both",
    "{width}",
    "the chosen one's evidence is stronger",
    "the chosen one's folder is looked at first",
    "equal in everything; the ids' order decides",
)


def _unpinned(judged: Judged, situation: Situation) -> Judged:
    """One that would do, were another recipe not asked for."""
    pin = situation.request.recipe
    if pin in (None, judged.candidate.recipe.recipe_id) or not judged.passed:
        return judged
    return replace(judged, passed_over=f"it would do, but {pin} was asked for")


def _compared(judged: Judged, winner: Judged, situation: Situation) -> Judged:
    """The same, with the reason why it passed every check and yet was not chosen."""
    if judged is winner or not judged.passed:
        return judged
    if situation.request.recipe not in (None, judged.candidate.recipe.recipe_id):
        return replace(judged, passed_over=f"{situation.request.recipe} is pinned")
    key = _rank(situation)
    pairs = zip(key(judged), key(winner), strict=True)
    place = next((n for n, (mine, best) in enumerate(pairs) if mine != best), len(_LOST_BY) - 1)
    latency = situation.request.metric == "latency"
    width = "latency takes the widest placement" if latency else "throughput takes the narrowest, and more replicas"
    return replace(judged, passed_over=_LOST_BY[min(place, len(_LOST_BY) - 1)].format(width=width))


def _judge(candidate: Candidate, situation: Situation, read_terms: ReadTerms) -> Judged:
    accounted = _account(candidate, situation, read_terms)
    return Judged(candidate=accounted, verdicts=tuple(rule(accounted, situation) for rule in RULES))


def _account(candidate: Candidate, situation: Situation, read_terms: ReadTerms) -> Candidate:
    """The candidate with its ledger, where there is a GPU and a model to reckon with."""
    card, request = situation.catalog.card, situation.request
    if not candidate.gpus or card is None or card.architecture is None:
        return candidate
    terms = read_terms(candidate.variant, candidate.gpus[0])
    asked = request.max_model_len
    limit = card.architecture.max_context
    reduced = _reduced_fraction(candidate.gpus, terms)
    own = min(terms.context_tokens or limit, limit)
    load = Load(
        card=card,
        precision=candidate.recipe.precision,
        tensor_parallel_size=candidate.tensor_parallel_size,
        budget_bytes=min(_budget(gpu, terms, reduced or terms.memory_fraction) for gpu in candidate.gpus),
        context_tokens=None if asked == "auto" else asked if isinstance(asked, int) else own,
        concurrency=request.concurrency,
        terms=terms,
    )
    return replace(candidate, ledger=ledger(load), memory_fraction=reduced)


def _budget(gpu: Gpu, terms: ServingTerms, fraction: float) -> int:
    """What the engine may take of one device: the fraction of the whole it is told, but no more than is free."""
    free = gpu.memory_bytes if gpu.memory_free_bytes is None else gpu.memory_free_bytes
    if terms.host_memory:
        return int(free * fraction)
    return min(int(gpu.memory_bytes * fraction), free)


def _reduced_fraction(gpus: tuple[Gpu, ...], terms: ServingTerms) -> float | None:
    """vLLM refuses to start when less than its fraction is free, so where others hold memory it is told a smaller
    one: what is free, rounded down to whole percents with one percent to spare.
    """
    shares = [gpu.memory_free_bytes / gpu.memory_bytes for gpu in gpus if gpu.memory_free_bytes is not None]
    if terms.host_memory or not shares or min(shares) >= terms.memory_fraction:
        return None
    return max(0.01, int(min(shares) * 100 - 1) / 100)


def _rank(situation: Situation) -> Callable[[Judged], tuple[object, ...]]:
    """The sort key, best first: what passes, the model's own recipes, precision, tuning, width, evidence, place."""
    latency = situation.request.metric == "latency"

    def key(judged: Judged) -> tuple[object, ...]:
        candidate = judged.candidate
        width = candidate.variant.gpu_count
        return (
            len(judged.failures),
            candidate.recipe.is_family,
            _precision_rank(candidate.recipe.precision, situation),
            candidate.variant.metric is None,
            -width if latency else width,
            -candidate.variant.evidence.rank,
            candidate.recipe.order,
            candidate.recipe.recipe_id,
            candidate.variant.backend,
        )

    return key


def _precision_rank(precision: str, situation: Situation) -> int:
    """0 for the checkpoint's own precision, then lower ones (most bits first), then the others."""
    card = situation.catalog.card
    own = card.precision if card else None
    by_preference = _PREFERENCE.index(precision)
    if own is None:
        return by_preference
    if precision == own:
        return 0
    return 1 + by_preference if BITS[precision] <= BITS[own] else 10 + by_preference


def _pinned(judged: tuple[Judged, ...], situation: Situation) -> tuple[Judged, ...]:
    pin = situation.request.recipe
    return judged if pin is None else tuple(one for one in judged if one.candidate.recipe.recipe_id == pin)


def _can_be_forced(judged: Judged) -> bool:
    """Force overrules advice, not arithmetic: there must be as many GPUs as the variant uses, though of another type,
    and it must be for the asked backend.
    """
    enough = len(judged.candidate.gpus) == judged.candidate.gpu_count
    return enough and not any(verdict.rule in ("backend", "gpu count") for verdict in judged.failures)


def _refusal(eligible: tuple[Judged, ...], judged: tuple[Judged, ...], situation: Situation) -> AimError:
    """The one sentence why there is no winner, and what to do."""
    request = situation.request
    if not eligible and request.recipe:
        return _unknown_recipe(request.recipe, judged)
    if not situation.inventory.usable_gpus:
        return NoAcceleratorError("no usable accelerator", hint="aim-engine detect shows what was seen")
    most = max(situation.inventory.usable_products.values())
    if request.gpu_count is not None and request.gpu_count > most:
        return NoAcceleratorError(
            f"{request.gpu_count} GPUs were asked for, and {situation.inventory.in_words()} is what is usable here",
            hint=f"set AIM_GPU_COUNT to at most {most}, or to auto",
        )
    if request.recipe is None and all(one.candidate.recipe.is_family for one in eligible) and not _possible(eligible):
        return _unknown_model(situation)
    nearest = min(eligible, key=lambda one: (_severity(one), _rank(situation)(one)))
    return _nearest_refusal(nearest, eligible, situation)


def _possible(eligible: tuple[Judged, ...]) -> bool:
    """True when one of them is for the hardware that is here, so that it is the answer to explain."""
    return any(all(v.rule != "gpu type" for v in one.failures) for one in eligible)


def _unknown_recipe(recipe_id: str, judged: tuple[Judged, ...]) -> AimError:
    known = list(dict.fromkeys(one.candidate.recipe.recipe_id for one in judged))
    near = difflib.get_close_matches(recipe_id, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"recipes for this model: {', '.join(known) or 'none'}"
    return NoRecipeError(f"there is no recipe {recipe_id} for this model", hint=hint)


def _unknown_model(situation: Situation) -> AimError:
    asked, near = situation.request.model, nearest_models(str(situation.request.model), situation.catalog.known_models)
    hint = f"did you mean {near[0]}? " if near else ""
    return NoRecipeError(
        f"no recipe serves {asked} on {situation.inventory.in_words()}",
        hint=f"{hint}aim-engine models lists the known ones; AIM_RECIPES_DIR adds recipes of your own",
    )


def _severity(judged: Judged) -> tuple[int, int]:
    """How far from possible: memory and counts can be changed, the wrong GPU or backend cannot."""
    weight = {"memory": 1, "context": 1, "gpu count": 2, "precision": 2, "metric": 2, "evidence": 2, "enabled": 3}
    return sum(weight.get(verdict.rule, 10) for verdict in judged.failures), -judged.candidate.gpu_count


def _nearest_refusal(nearest: Judged, eligible: tuple[Judged, ...], situation: Situation) -> AimError:
    asked, recipe = situation.request.required_model, nearest.candidate.recipe
    reasons = "; ".join(verdict.sentence for verdict in nearest.failures)
    rules = {verdict.rule for verdict in nearest.failures}
    message = f"{asked} cannot be served on {situation.inventory.in_words()}: with {recipe.recipe_id}, {reasons}"
    if rules == {"memory"}:
        return DoesNotFitError(message, hint=_memory_hint(nearest, situation))
    if "engine" in rules and "gpu type" not in rules:
        return NoAcceleratorError(message, hint=_ENGINE_HINT, details=situation.inventory.notes)
    if rules == {"context"}:
        return InputError(message, hint="set AIM_MAX_MODEL_LEN to at most that, or to auto")
    if "gpu type" in rules:
        return NoRecipeError(_wrong_type(situation, eligible), hint=_WRONG_TYPE_HINT)
    return NoRecipeError(message, hint=_alternatives(rules, eligible))


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


def _alternatives(rules: set[str], eligible: tuple[Judged, ...]) -> str:
    """What the recipes for this hardware do offer, where one setting is all that stands in the way."""
    near = [one.candidate for one in eligible if {verdict.rule for verdict in one.failures} <= rules]
    offers = {
        "precision": ("AIM_PRECISION", sorted({candidate.recipe.precision for candidate in near})),
        "gpu count": ("AIM_GPU_COUNT", sorted({str(candidate.variant.gpu_count) for candidate in near})),
        "metric": ("AIM_METRIC", sorted({str(candidate.variant.metric) for candidate in near})),
        "evidence": ("AIM_MIN_EVIDENCE", sorted({candidate.variant.evidence.level for candidate in near})),
    }
    if len(rules) == 1 and (offer := offers.get(next(iter(rules)))):
        return f"the recipes for this hardware offer {', '.join(offer[1])}; set {offer[0]} to one of these"
    return "aim-engine recipes shows every recipe and what speaks against it"


def _memory_hint(nearest: Judged, situation: Situation) -> str:
    book = nearest.candidate.ledger
    on_host = all(gpu.product == "CPU" for gpu in nearest.candidate.gpus)
    remedies = ["a machine with more memory"] if on_host else ["more GPUs", "a lower precision"]
    remedies.append("a smaller model")
    if book and book.missing_bytes < book.kv_bytes:
        remedies.insert(0, "a shorter context (AIM_MAX_MODEL_LEN=auto takes the longest that fits)")
        if situation.request.concurrency > 1:
            remedies.insert(1, "fewer full-length requests at once (AIM_CONCURRENCY)")
    return f"use {', '.join(remedies[:-1])} or {remedies[-1]}"
