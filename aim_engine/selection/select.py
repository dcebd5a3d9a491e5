"""Every candidate judged, ranked, and one chosen: a `Situation` in, a `Selection` out, or the reason there is none.

Deterministic: the order of files, folders or GPUs of one kind never changes the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from aim_engine.catalog.measurement import recalled
from aim_engine.catalog.model_card import BITS
from aim_engine.errors import AimError, DoesNotFitError
from aim_engine.selection.budget import budget_bytes, reduced_fraction, spare_bytes
from aim_engine.selection.candidate import Candidate, Judged, ReadTerms, Situation, candidates
from aim_engine.selection.changes import Change, Derive, derive_none, what_would_fit
from aim_engine.selection.groups import equal_groups
from aim_engine.selection.measured import occasion_of
from aim_engine.selection.memory import Load, ledger
from aim_engine.selection.notes import notes_on, without_need
from aim_engine.selection.refusal import why_none
from aim_engine.selection.rules import rules_for
from aim_engine.selection.standing import Standing, standing

# A recipe that is made here takes the longest context that fits; where that is less than this, more GPUs are better.
_LEAST_CONTEXT = 8192
_PREFERENCE = ("bf16", "fp16", "fp8", "int8", "int4", "fp4")  # among checkpoints none of which is the model's own


RULES_CHOSE = "the rules"


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """Somebody else's choice: `choose` is given what fits, best first, and returns one of these; `name` is who."""

    name: str
    choose: Callable[[tuple[Judged, ...]], Judged]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen, by whom, and every verdict on every candidate, best first. Without a winner, `refusal` says why.
    `changes` are those of which each alone would make it fit, where memory is all that lacks. `warnings` tell what was
    chosen against a rule's verdict (AIM_FORCE), `notes` which GPUs serve and why.
    """

    winner: Judged | None
    judged: tuple[Judged, ...]
    refusal: AimError | None = None
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    chosen_by: str = RULES_CHOSE


def select(
    situation: Situation,
    read_terms: ReadTerms,
    chooser: Chooser | None = None,
    derive: Derive = derive_none,
    *,
    advise: bool = True,
) -> Selection:
    """Judge every candidate by every rule, rank them, and take the best that passed all, or the chooser's choice.

    `read_terms` is the backend's reading of a variant's arguments on a GPU, `derive` its recipe for a model without.
    Where nothing fits, what would is looked for only to `advise`: that judges everything many times over.
    """
    judged = _ranked(situation, read_terms)
    eligible = _pinned(judged, situation)
    winner = next((one for one in eligible if one.passed), None)
    if winner is None and situation.request.recipe and situation.request.force:
        forced = next((one for one in eligible if _can_be_forced(one)), None)
        if forced:
            warnings = tuple(f"forced although {v.rule}: {v.sentence}" for v in forced.failures)
            return Selection(
                winner=forced, judged=judged, warnings=warnings, notes=_notes(forced, judged, situation, read_terms)
            )
    if winner is None:
        return _refused(eligible, judged, situation, read_terms, derive if advise else None)
    if chooser is not None:
        return _chosen(chooser, eligible, judged, situation, read_terms)
    compared = tuple(_compared(one, winner, situation) for one in judged)
    return Selection(winner=winner, judged=compared, notes=_notes(winner, judged, situation, read_terms))


def _chosen(
    chooser: Chooser,
    eligible: tuple[Judged, ...],
    judged: tuple[Judged, ...],
    situation: Situation,
    read_terms: ReadTerms,
) -> Selection:
    """The selection as the chooser has it, which is for it to explain."""
    offered = offered_of(eligible)
    winner = chooser.choose(offered)
    if winner is offered[0]:
        told = tuple(_compared(one, winner, situation) for one in judged)
        notes = [f"{chooser.name} chose this one of {len(offered)}, as the rules would have"]
    else:
        reason = f"{chooser.name} chose another"
        told = tuple(replace(one, passed_over=reason) if one.passed and one is not winner else one for one in judged)
        best = offered[0].candidate.in_words()
        notes = [f"{chooser.name} chose this one of {len(offered)}; the rules would now take {best}"]
    own = _notes(winner, judged, situation, read_terms)
    return Selection(winner=winner, judged=told, notes=(*notes, *own), chosen_by=chooser.name)


def offered_of(eligible: tuple[Judged, ...]) -> tuple[Judged, ...]:
    """What a chooser may choose among, best first: of those with the same recipe and number of GPUs the best, because
    these two are what a container can be told.
    """
    best: dict[tuple[str, int], Judged] = {}
    for one in eligible:
        if one.passed:
            best.setdefault((one.candidate.recipe.recipe_id, one.candidate.gpu_count), one)
    return tuple(best.values())


def _notes(winner: Judged, judged: tuple[Judged, ...], situation: Situation, read_terms: ReadTerms) -> tuple[str, ...]:
    """What is to be said of the choice; of several nodes also that one would do, where it would."""
    found = notes_on(winner, judged, situation, read_terms)
    if situation.request.nodes == 1:
        return found
    alone = replace(situation, request=replace(situation.request, nodes=1))
    enough = next((one.candidate for one in _pinned(_ranked(alone, read_terms), alone) if one.passed), None)
    return (*found, *without_need(enough))


def _ranked(situation: Situation, read_terms: ReadTerms) -> tuple[Judged, ...]:
    placed = candidates(situation, read_terms)
    return tuple(sorted((_judge(one, situation, read_terms) for one in placed), key=_rank(situation)))


def _refused(
    eligible: tuple[Judged, ...],
    judged: tuple[Judged, ...],
    situation: Situation,
    read_terms: ReadTerms,
    derive: Derive | None,
) -> Selection:
    """Why there is none; with `derive` also what would fit."""

    def judge(changed: Situation) -> tuple[Judged, ...]:
        return _pinned(_ranked(changed, read_terms), changed)

    lacks_memory = any([verdict.rule for verdict in one.failures] == ["memory"] for one in eligible)
    changes = what_would_fit(situation, judge, derive) if lacks_memory and derive else ()
    refusal = why_none(eligible, situation, _rank(situation), changes)
    unpinned = tuple(_unpinned(one, situation) for one in judged)
    kept = changes if isinstance(refusal, DoesNotFitError) else ()
    return Selection(winner=None, judged=unpinned, refusal=refusal, changes=kept)


# What each place of the rank's key means, said of one that lost by it.
_LOST_BY = (
    "it failed a check",
    "recipes for the largest group of equal GPUs come first",
    "recipes for the model come first, then those made from its numbers, then those for any model",
    "its precision comes later: the checkpoint's own first, then lower ones",
    "a variant tuned for the metric comes before one for both",
    "{width}",
    "the chosen one has more replicas",
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
    if winner.candidate.recipe.generated and latency:
        width = "a recipe that nobody tuned takes the fewest GPUs that hold the model"
    if winner.candidate.nodes > 1:
        width = "of several nodes as many GPUs are taken as can be"
    return replace(judged, passed_over=_LOST_BY[min(place, len(_LOST_BY) - 1)].format(width=width))


def _judge(candidate: Candidate, situation: Situation, read_terms: ReadTerms) -> Judged:
    accounted = _account(candidate, situation, read_terms)
    return Judged(candidate=accounted, verdicts=tuple(rule(accounted, situation) for rule in rules_for(situation)))


def _account(candidate: Candidate, situation: Situation, read_terms: ReadTerms) -> Candidate:
    """The candidate with its ledger, where there is a GPU and a model to reckon with."""
    card, request = situation.catalog.card, situation.request
    if not candidate.gpus or card is None or card.architecture is None:
        return candidate
    terms = read_terms(candidate.variant, candidate.gpus[0])
    asked = request.max_model_len
    limit = card.architecture.max_context
    longest = asked == "auto" or (candidate.recipe.generated and asked is None)
    reduced = reduced_fraction(candidate.gpus, terms)
    own = min(terms.context_tokens or limit, limit)
    occasion = occasion_of(situation, candidate, terms)
    load = Load(
        card=card,
        precision=candidate.recipe.precision,
        tensor_parallel_size=candidate.tensor_parallel_size,
        budget_bytes=budget_bytes(candidate.gpus, terms, reduced),
        spare_bytes=spare_bytes(candidate.gpus, terms, reduced),
        context_tokens=None if longest else asked if isinstance(asked, int) else own,
        concurrency=request.concurrency,
        terms=terms,
        measurement=recalled(situation.catalog.measurements, occasion),
    )
    book = ledger(load)
    least = min(limit, _LEAST_CONTEXT)
    if book and candidate.recipe.generated and asked is None and book.context_tokens < least:
        book = ledger(replace(load, context_tokens=least))
    return replace(candidate, ledger=book, memory_fraction=reduced, occasion=occasion)


def _rank(situation: Situation) -> Callable[[Judged], tuple[object, ...]]:
    """The sort key, best first: what passes, the larger group of GPUs, the model's own recipes, precision, tuning,
    width, replicas, evidence, place.
    """
    latency = situation.request.metric == "latency"
    group_of = {gpu.index: place for place, group in enumerate(equal_groups(situation.inventory)) for gpu in group}

    def key(judged: Judged) -> tuple[object, ...]:
        candidate = judged.candidate
        return (
            len(judged.failures),
            group_of[candidate.gpus[0].index] if candidate.gpus else len(group_of),
            (candidate.recipe.is_family, candidate.recipe.generated),
            _precision_rank(candidate.recipe.precision, situation),
            candidate.variant.metric is None,
            _width_rank(candidate, latency=latency),
            0 if latency else -candidate.replicas,
            _weakness(standing(candidate.variant.evidence, situation.engine)),
            candidate.recipe.order,
            candidate.recipe.recipe_id,
            candidate.variant.backend,
        )

    return key


def _weakness(evidence: Standing) -> tuple[int, int]:
    rank, before = evidence.order
    return -rank, -before


def _width_rank(candidate: Candidate, *, latency: bool) -> tuple[int, int]:
    """Latency takes the widest placement; where nobody has tuned it one copy on the fewest GPUs that hold it. Several
    nodes are used whole.
    """
    width = candidate.variant.gpu_count
    if candidate.nodes > 1:
        return 0, -width
    if not latency:
        return 0, width
    return (candidate.replicas, width) if candidate.recipe.generated else (0, -width)


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
    facts = ("backend", "gpu count", "visibility", "format")
    return enough and not any(verdict.rule in facts for verdict in judged.failures)
