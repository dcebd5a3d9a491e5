"""What is to be said of a choice besides the verdicts: the winner, all judged and the situation in, sentences out.

Each names what would be changed, and by which setting, where there is one. Judges and ranks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.inventory import Gpu
from aim_engine.selection.budget import has_room
from aim_engine.selection.candidate import Candidate, Judged, ReadTerms, Situation, gpus_of_type
from aim_engine.selection.groups import choice_in_words
from aim_engine.selection.memory import in_gib

_FEW = 4  # GPUs that are still named one by one


def notes_on(winner: Judged, judged: Sequence[Judged], situation: Situation, read_terms: ReadTerms) -> tuple[str, ...]:
    """What the model's card explains, which of several kinds of GPUs serve, what partitions mean, what is left idle,
    and which GPUs others hold.
    """
    chosen, card = winner.candidate, situation.catalog.card
    found = [
        *(card.notes if card else ()),
        choice_in_words(situation.inventory, chosen.gpus),
        *_on_partitions(chosen, situation),
        _more_copies(chosen, situation),
        _lower_precision(chosen, situation),
    ]
    if chosen.gpus:
        terms = read_terms(chosen.variant, chosen.gpus[0])
        found += [_who_shrinks_all(chosen, judged, situation, terms), _left_out(chosen, situation, terms)]
    return tuple(note for note in found if note)


def without_need(alone: Candidate | None) -> Iterator[str]:
    """What is said where several nodes were asked for, and this would do on one of them."""
    if alone is not None:
        yield (f"one node holds it ({alone.in_words()}): a copy on each, without AIM_NODES, answers more requests than "
               "one over all of them, and a node that fails takes only its own copy along")  # fmt: skip


def _on_partitions(chosen: Candidate, situation: Situation) -> Iterator[str]:
    first = next((gpu for gpu in chosen.gpus if gpu.is_partition), None)
    if first is None:
        return
    yield (f"the recipe's evidence is for a whole {first.product}; these are parts of it "
           f"({first.partition}), each reckoned with its own memory")  # fmt: skip
    present = len(gpus_of_type(situation.inventory, first.product))
    if chosen.gpu_count == 1 < present and (situation.request.metric, situation.request.gpu_count) == ("latency", None):
        yield (f"latency takes one copy of the model, on one partition of {present}: AIM_METRIC=throughput puts a "
               "copy on each, and whole GPUs (SPX) serve larger models and a single copy faster")  # fmt: skip


def _more_copies(chosen: Candidate, situation: Situation) -> str:
    """What to do about GPUs that throughput leaves idle: experts are not copied within one server."""
    copies = len(gpus_of_type(situation.inventory, chosen.recipe.gpu_type)) // max(1, chosen.gpu_count)
    shape = situation.catalog.card.architecture if situation.catalog.card else None
    if (situation.request.metric, situation.request.gpu_count) != ("throughput", None) or copies < 2:
        return ""
    if shape is None or not shape.experts:
        return ""
    return (f"one server has one copy of a mixture of experts; the other GPUs hold more of them: aim-engine launch "
            f"{situation.request.required_model} --replicas {copies}")  # fmt: skip


def _lower_precision(chosen: Candidate, situation: Situation) -> str:
    card, served = situation.catalog.card, chosen.recipe.precision
    if card is None or card.precision in (None, served) or situation.request.precision != "auto":
        return ""
    if situation.request.recipe is not None or chosen.recipe.is_family or chosen.recipe.gpu_type == "CPU":
        return ""
    return (f"{served} is served, which is what there is a recipe for on these GPUs; the model's own precision is "
            f"AIM_PRECISION={card.precision}")  # fmt: skip


def _who_shrinks_all(
    chosen: Candidate, judged: Sequence[Judged], situation: Situation, terms: ServingTerms
) -> str:  # fmt: skip
    """An engine takes the same share of every GPU it runs on, so the fullest one decides."""
    busy = [gpu for gpu in chosen.gpus if not has_room(gpu, terms)]
    if chosen.memory_fraction is None or not busy:
        return ""
    share = f"and so the engine takes no more than {chosen.memory_fraction:.0%} of any"
    return f"others hold memory of {_named(busy)}, {share}; {_way_out(chosen, judged, situation)}"


def _way_out(chosen: Candidate, judged: Sequence[Judged], situation: Situation) -> str:
    if situation.inventory.visibility:
        variables = dict.fromkeys(setting.partition("=")[0] for setting in situation.inventory.visibility)
        return f"leave them out of {' and '.join(variables)}"
    without = [one.candidate.gpu_count for one in judged if one.passed and one.candidate.memory_fraction is None
               and one.candidate.recipe.gpu_type == chosen.recipe.gpu_type]  # fmt: skip
    if without:
        return f"AIM_GPU_COUNT={max(without)} leaves them out"
    return "stop what holds it (aim-engine doctor names it)"


def _left_out(chosen: Candidate, situation: Situation, terms: ServingTerms) -> str:
    """Throughput puts no copy on GPUs that would make all the others smaller."""
    if situation.request.metric != "throughput" or situation.request.gpu_count is not None:
        return ""
    present = gpus_of_type(situation.inventory, chosen.recipe.gpu_type)
    busy = [gpu for gpu in present if gpu not in chosen.gpus and not has_room(gpu, terms)]
    return f"left out, because others hold their memory: {_named(busy)}" if busy else ""


def _named(gpus: Sequence[Gpu]) -> str:
    """With what is free of each; of many only the fullest."""
    if len(gpus) > _FEW:
        fullest = min(gpus, key=lambda gpu: (gpu.memory_free_bytes or 0, gpu.index))
        return f"{len(gpus)} GPUs, {_free(fullest)} first"
    *others, last = (_free(gpu) for gpu in gpus)
    return f"{', '.join(others)} and {last}" if others else last


def _free(gpu: Gpu) -> str:
    free = f"{in_gib(gpu.memory_free_bytes or 0)} of {in_gib(gpu.memory_bytes)} free"
    return f"{gpu.name.removesuffix(')')}; {free})" if gpu.name.endswith(")") else f"{gpu.name} ({free})"
