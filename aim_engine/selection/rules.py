"""One small function per rule: a candidate and the situation in, a `Verdict` with a sentence out.

`RULES` is the list, in the order people read it. A rule never looks at another rule's verdict, and never ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.partitions import way_back
from aim_engine.hardware.products import product_by_name
from aim_engine.hardware.visibility import put_first, set_here
from aim_engine.selection.candidate import (
    DATA_PARALLEL,
    PIPELINE_PARALLEL,
    TENSOR_PARALLEL,
    Candidate,
    Situation,
    Verdict,
    gpus_of_type,
    written_size,
)
from aim_engine.selection.context_limit import context_limit
from aim_engine.selection.memory import Ledger, in_gib
from aim_engine.selection.standing import standing
from aim_engine.values import EVIDENCE_LEVELS

Rule = Callable[[Candidate, Situation], Verdict]


def backend(candidate: Candidate, situation: Situation) -> Verdict:
    """The variant is for the engine asked for."""
    asked, has = situation.request.backend, candidate.variant.backend
    return _verdict("backend", asked == has, f"it is for {has}", f"it is for {has}, and {asked} was asked for")


def model(candidate: Candidate, situation: Situation) -> Verdict:
    """The recipe serves the model asked for."""
    asked, recipe = situation.request.model, candidate.recipe
    if recipe.is_family:
        return Verdict(rule="model", passed=True, sentence="it serves any model")
    return _verdict(
        "model", recipe.model_id == asked, f"it serves {asked}", f"it serves {recipe.model_id}, not {asked}"
    )


def enabled(candidate: Candidate, situation: Situation) -> Verdict:
    """The variant is switched on in its recipe."""
    return _verdict("enabled", candidate.variant.enabled, "it is enabled", "it is switched off in its recipe")


def gpu_type(candidate: Candidate, situation: Situation) -> Verdict:
    """There is a usable GPU of the recipe's type."""
    wanted = candidate.recipe.gpu_type
    here = _products(situation)
    present = bool(gpus_of_type(situation.inventory, wanted))
    return _verdict("gpu type", present, f"{wanted} is here", f"it is for {wanted}, and here is {here}")


def gpu_count(candidate: Candidate, situation: Situation) -> Verdict:
    """There are enough GPUs of the type, and exactly as many are used as were asked for."""
    needed, asked = candidate.gpu_count, situation.request.gpu_count
    present = len(gpus_of_type(situation.inventory, candidate.recipe.gpu_type))
    if asked is not None and needed != asked:
        return Verdict(
            rule="gpu count",
            passed=False,
            sentence=f"it uses {_gpus(needed)}, and exactly {asked} {_was(asked)} asked for",
        )
    if not present:
        return Verdict(rule="gpu count", passed=True, sentence="not checked: none of its type is here")
    shape = f"{candidate.replicas} replicas of {candidate.variant.gpu_count}" if candidate.replicas > 1 else f"{needed}"
    each = f" on each of {candidate.nodes} nodes" if candidate.nodes > 1 else ""
    return _verdict("gpu count", present >= needed, f"it uses {shape} of {_gpus(present)}{each}",
                    f"it needs {_gpus(needed)}, and {present} usable of its type {_are(present)} here")  # fmt: skip


def visibility(candidate: Candidate, situation: Situation) -> Verdict:
    """The user's choice of GPUs is never overwritten, so the engine takes the first ones of it: these must be they."""
    chosen_by = situation.inventory.visibility
    if not chosen_by:
        return Verdict(rule="visibility", passed=True, sentence=_unheeded(situation))
    shown, indices = " and ".join(chosen_by), [gpu.index for gpu in candidate.gpus]
    instead = put_first(chosen_by, indices)
    remedy = f": set {instead}" if instead else ""
    return _verdict("visibility", indices == list(range(len(indices))), f"the first ones of {shown}",
                    f"the engine would take the first GPUs of {shown}, and these come later{remedy}")  # fmt: skip


def _unheeded(situation: Situation) -> str:
    """The variables of this machine choose nothing on hardware that is elsewhere."""
    names = set_here(situation.request.environment) if situation.inventory.declared else ()
    if not names:
        return "no variable chooses among the GPUs"
    elsewhere = "recorded" if situation.inventory.recorded else "declared"
    verbs = ("is", "does") if len(names) == 1 else ("are", "do")
    return f"{' and '.join(names)} {verbs[0]} set here and {verbs[1]} not count: the hardware is {elsewhere}"


def partition(candidate: Candidate, situation: Situation) -> Verdict:
    """No copy of the model is spread over parts of a GPU."""
    modes = sorted({gpu.partition or "" for gpu in candidate.gpus if gpu.is_partition})
    if not modes:
        return Verdict(rule="partition", passed=True, sentence="no GPU of these is a part of one")
    width = max(1, candidate.variant.gpu_count * candidate.nodes // _copies_inside(candidate, situation))
    shown = ", ".join(modes)
    return _verdict(
        "partition",
        width == 1,
        f"each copy of the model has a partition ({shown}) of its own",
        f"it would spread one copy of the model over {width} partitions ({shown}) of GPUs, with an exchange between "
        "them at every layer that a whole GPU does not need",
    )


def partition_remedy(gpus: Sequence[Gpu]) -> str:
    """What serves a model on GPUs that are cut into parts."""
    return (
        "use data-parallel copies of a one-GPU variant (AIM_METRIC=throughput, or AIM_GPU_COUNT), "
        f"or whole GPUs ({way_back(gpus)})"
    )


def _copies_inside(candidate: Candidate, situation: Situation) -> int:
    """Data-parallel copies that the variant itself sets; those of a mixture of experts share their experts."""
    card = situation.catalog.card
    if card and card.architecture and card.architecture.experts:
        return 1
    return written_size(candidate.variant, DATA_PARALLEL) or 1


def checkpoint_format(candidate: Candidate, situation: Situation) -> Verdict:
    """The checkpoint's quantisation is one that these GPUs can compute with."""
    card = situation.catalog.card
    stored = card.quantization if card and not _serves_another(candidate, situation) else ""
    if "nvfp4" in candidate.recipe.huggingface_id.lower():  # its publishers put the format into the name
        stored = "nvfp4"
    if "quantization" in {*candidate.variant.args, *situation.request.engine_args}:
        stored = stored if stored == "nvfp4" else ""  # somebody knows better, as one with a plug-in does
    reasons = [situation.refused_format(stored, gpu.vendor) or _lacks_fp8(candidate, gpu) for gpu in candidate.gpus[:1]]
    return _verdict("format", not any(reasons), "it is in no format that these GPUs refuse", "; ".join(reasons))


def _lacks_fp8(candidate: Candidate, gpu: Gpu) -> str:
    """A recipe in a file was checked for that when it was read; one that was made of a checkpoint's numbers was not."""
    if not candidate.recipe.generated or candidate.recipe.precision != "fp8" or product_by_name(gpu.product).has_fp8:
        return ""
    return f"the checkpoint is fp8, in which {gpu.product} does not compute"


def _serves_another(candidate: Candidate, situation: Situation) -> bool:
    """The recipe serves another checkpoint than the one whose card is known."""
    recipe = candidate.recipe
    return not recipe.is_family and recipe.huggingface_id != situation.request.model


def precision(candidate: Candidate, situation: Situation) -> Verdict:
    """The recipe's precision is the one asked for; auto takes any and leaves the order to the ranking."""
    asked, has = situation.request.precision, candidate.recipe.precision
    if asked == "auto":
        card = situation.catalog.card
        own = " (the checkpoint's own)" if card and card.precision == has else ""
        return Verdict(rule="precision", passed=True, sentence=f"it serves {has}{own}")
    return _verdict("precision", asked == has, f"it serves {has}", f"it serves {has}, and {asked} was asked for")


def metric(candidate: Candidate, situation: Situation) -> Verdict:
    """The variant is tuned for what was asked for, or for both."""
    asked, has = situation.request.metric, candidate.variant.metric
    return _verdict(
        "metric", has in (None, asked), f"it serves {asked}", f"it is tuned for {has}, and {asked} was asked for"
    )


def evidence(candidate: Candidate, situation: Situation) -> Verdict:
    """The evidence for the variant is strong enough, as far as it holds for the engine that is here."""
    found, least = standing(candidate.variant.evidence, situation.engine), situation.request.min_evidence
    has = f"its evidence is {found.level}"
    if found.sentence and found.level != candidate.variant.evidence.level:
        has = found.sentence
    return _verdict("evidence", found.rank >= EVIDENCE_LEVELS.index(least), has,
                    f"{has}, and AIM_MIN_EVIDENCE is {least}")  # fmt: skip


def engine(candidate: Candidate, situation: Situation) -> Verdict:
    """The engine that is installed here was built for the kind of device the recipe is for."""
    installed = situation.engine
    if installed is None or installed.platform is None:
        return Verdict(rule="engine", passed=True, sentence="not checked: no installed engine is known")
    named = f"{installed.distribution} {installed.version}"
    fits = all(gpu.vendor in installed.runs_on for gpu in candidate.gpus)
    return _verdict("engine", fits, f"{named} runs on it",
                    f"the installed engine, {named}, is built for {installed.platform}")  # fmt: skip


def context(candidate: Candidate, situation: Situation) -> Verdict:
    """The context asked for is within the model's own limit."""
    limit, asked = context_limit(candidate, situation), situation.request.max_model_len
    if limit is None or not isinstance(asked, int):
        return Verdict(rule="context", passed=True, sentence="no context beyond the model's own was asked for")
    return _verdict("context", asked <= limit, f"{asked:,} tokens are within the model's {limit:,}",
                    f"{asked:,} tokens are more than the model's own {limit:,}")  # fmt: skip


def memory(candidate: Candidate, situation: Situation) -> Verdict:
    """The ledger fits into what the engine may take of each GPU."""
    book = candidate.ledger
    if book is None:
        why = "no GPU of its type is here" if not candidate.gpus else "the model's numbers are not known"
        return Verdict(rule="memory", passed=True, sentence=f"not checked: {why}")
    return _verdict(
        "memory", book.fits, f"it fits: {_sum(book)}", f"it does not fit by {in_gib(book.missing_bytes)}: {_sum(book)}"
    )


def nodes(candidate: Candidate, situation: Situation) -> Verdict:
    """The parts into which the model is split are as many as the GPUs of all nodes."""
    sizes = [written_size(candidate.variant, names) or 1 for names in _SPLITS.values()]
    told = " x ".join(f"{name} {size}" for name, size in zip(_SPLITS, sizes, strict=True))
    there = candidate.gpu_count * candidate.nodes
    over = f"{candidate.nodes} nodes with {_gpus(candidate.gpu_count)} each"
    return _verdict("nodes", math.prod(sizes) == there, f"split over {over}: {told}",
                    f"{told} is {math.prod(sizes)}, and {over} are {_gpus(there)}")  # fmt: skip


_SPLITS = {"tensor parallel": TENSOR_PARALLEL, "pipeline parallel": PIPELINE_PARALLEL, "data parallel": DATA_PARALLEL}


def rules_for(situation: Situation) -> tuple[Rule, ...]:
    """The rules that have something to say: of nodes only where there are several."""
    return (*RULES, nodes) if situation.request.nodes > 1 else RULES


RULES: tuple[Rule, ...] = (
    backend, model, enabled, gpu_type, gpu_count, visibility, partition, checkpoint_format, precision, metric, evidence,
    engine, context, memory,
)  # fmt: skip


def _verdict(rule: str, passed: bool, if_passed: str, if_not: str) -> Verdict:
    return Verdict(rule=rule, passed=passed, sentence=if_passed if passed else if_not)


def _sum(book: Ledger) -> str:
    parts = {line.name: line.bytes for line in book.lines}
    rest = book.total_bytes - parts["weights"] - parts["kv cache"]
    return (
        f"{in_gib(parts['weights'])} weights + {in_gib(parts['kv cache'])} KV cache "
        f"({book.context_tokens:,} tokens x {book.concurrency}) + {in_gib(rest)} other "
        f"= {in_gib(book.total_bytes)} of {in_gib(book.budget_bytes)} a device"
    )


def _products(situation: Situation) -> str:
    counts = situation.inventory.usable_products.items()
    return " and ".join(name if name == "CPU" else f"{n} x {name}" for name, n in counts) or "nothing usable"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
