"""What was measured before, in the ledger: a candidate and its terms in, the `Occasion` that its figures would be of
out; assumed lines and a measurement of that occasion in, the lines with the measured bytes out. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from aim_engine.catalog.measurement import JOINT, Measurement, Occasion
from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.inventory import Gpu, Host
from aim_engine.selection.served import checkpoint_of, revision_of

if TYPE_CHECKING:
    from aim_engine.selection.candidate import Candidate, Situation
    from aim_engine.selection.memory import Line

_GIB = 1024**3
MEASURED = "measured"


def occasion_of(situation: Situation, candidate: Candidate, terms: ServingTerms) -> Occasion:
    """What would run, of what, on what, and with which of the arguments that change what an engine needs."""
    request, catalog = situation.request, situation.catalog
    recipe, variant = candidate.recipe, candidate.variant
    return Occasion(
        engine=_engine(situation),
        checkpoint=checkpoint_of(request, recipe),
        revision=revision_of(request, catalog, recipe, variant) or "",
        devices=_devices(candidate.gpus, situation.inventory.host),
        terms=tuple(sorted(_terms(situation, candidate, terms))),
    )


def _engine(situation: Situation) -> str:
    engine = situation.engine
    if engine is None or engine.version is None:
        return ""
    return ", ".join(part for part in (f"{engine.distribution} {engine.version}", engine.kernels_version) if part)


def _devices(gpus: Sequence[Gpu], host: Host | None) -> str:
    """How many of which kind: "8 x MI300X gfx942 192 GiB SPX/NPS1". Those that are not used do not matter. A host's
    memory does not either, and changes with every limit; what it computes with does.
    """
    first = gpus[0]
    if first.product == "CPU":
        about = (f"{host.cores} cores", host.architecture, *host.isa) if host else ()
    else:
        about = (first.gfx or "", f"{round(first.memory_bytes / _GIB)} GiB", first.partition or "")
    return " ".join(part for part in (f"{len(gpus)} x {first.product}", *about) if part)


def _terms(situation: Situation, candidate: Candidate, terms: ServingTerms) -> list[str]:
    """As texts, so that they can be written down and compared. The weights' size tells a folder whose files have
    changed.
    """
    card, recipe = situation.catalog.card, candidate.recipe
    weights = card.weights_in(recipe.precision) if card else None
    own = situation.request.environment
    return [
        f"precision {recipe.precision}",
        f"weights {weights.bytes if weights else 'unknown'}",
        f"tensor parallel {candidate.tensor_parallel_size}",
        f"pipeline parallel {terms.pipeline_parallel_size}",
        f"copies {candidate.replicas}",
        *([f"nodes {candidate.nodes}"] if candidate.nodes > 1 else []),
        f"batch tokens {terms.batch_tokens}",
        f"kv bytes {terms.kv_element_bytes}",
        f"eager {terms.eager}",
        *(f"--{name} {value}" for name, value in terms.others),
        *(f"{name}={own.get(name, value)}" for name, value in candidate.variant.env.items()),
    ]


def with_measured(assumed: Sequence[Line], measurement: Measurement | None) -> tuple[Line, ...]:
    """The lines; those that were measured with these bytes, and without a range. A figure for several lines takes the
    place of the first of them; a figure for what is no line here is of another time, and is left out.
    """
    if measurement is None:
        return tuple(assumed)
    found: list[Line] = []
    for line in assumed:
        name = next((name for name in measurement.lines if line.name in name.split(JOINT)), None)
        if name is None:
            found.append(line)
        elif all(one.name != name for one in found):
            found.append(replace(line, name=name, bytes=measurement.lines[name], basis=MEASURED, least=None, most=None,
                                 note=f"on this machine, {measurement.date[:10]}, "
                                      f"{measurement.occasion.engine}"))  # fmt: skip
    return tuple(found)


def told_of(candidate: Candidate) -> list[str]:
    """The sentence that says what of a plan's memory was measured, when and with what."""
    book, occasion = candidate.ledger, candidate.occasion
    names = [line.name for line in book.lines if line.basis == MEASURED] if book else []
    if book is None or book.measurement is None or occasion is None or not names:
        return []
    doubt = "" if occasion.engine else ", which need not be the engine that will run"
    when = f"on {book.measurement.date[:10]} with {book.measurement.occasion.engine}{doubt}"
    return [f"as measured on this machine {when}: memory of {', '.join(names)}"]
