"""A winner in, sentences about it out: what needs a person's attention, what is left unused, what is served instead.

Judges nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from aim_engine.selection.candidate import Candidate, Situation
from aim_engine.selection.memory import Ledger, in_gib
from aim_engine.selection.standing import standing


def cautions(situation: Situation, winner: Candidate, checkpoint: str, argv: Collection[str]) -> list[str]:
    """What needs a person's attention; `checkpoint` is what is served, `argv` the engine's command."""
    found = []
    if winner.ledger is None:
        found.append("whether it fits in memory was not checked: the model's numbers are not known")
    else:
        found += _tight(winner.ledger, on_host=any(gpu.product == "CPU" for gpu in winner.gpus))
    if situation.catalog.card is not None:
        found += situation.catalog.card.doubts
    found += _guessed(situation, winner)
    found += _about_the_checkpoint(situation, checkpoint, argv)
    if winner.memory_fraction is not None:
        why = f"up to {winner.sharers} of the GPUs share one memory" if winner.sharers > 1 else "others hold GPU memory"
        found.append(f"{why}, so the engine takes {winner.memory_fraction:.0%} of each GPU")
    return found


def _about_the_checkpoint(situation: Situation, checkpoint: str, argv: Collection[str]) -> list[str]:
    request, read = situation.request, situation.catalog.checkpoint
    found = []
    if request.revision and checkpoint != request.model:
        found.append(f"AIM_REVISION={request.revision} is not used: it is of {request.model}, and "
                     f"{checkpoint} is served")  # fmt: skip
    if read is not None and read.brings_code and "--trust-remote-code" not in argv:
        found.append(
            f"{read.model_id} brings code of its own (auto_map in its config.json), which is not run; where the engine "
            'needs it, read that code first, then set AIM_ENGINE_ARGS={"trust-remote-code": true}'
        )
    return found


def _guessed(situation: Situation, winner: Candidate) -> list[str]:
    """A caution where nobody has written down what the layers of the model's family keep."""
    card, book = situation.catalog.card, winner.ledger
    guess = card.architecture.guess if card and card.architecture else None
    if guess is None or book is None:
        return []
    line = next(line for line in book.lines if line.name == "kv cache")
    span = in_gib(line.low_bytes), in_gib(line.high_bytes)
    size = f"{span[0]} to {span[1]}" if span[0] != span[1] else f"about {span[0]}"
    return [f"the size of its KV cache, {size} a device, is a guess: {guess.sentence}; where the engine finds it too "
            "large, set a lower AIM_MAX_MODEL_LEN or AIM_CONCURRENCY"]  # fmt: skip


def _tight(book: Ledger, *, on_host: bool) -> list[str]:
    """A caution where the ledger fits, and would not if the engine needed the most that is assumed of it."""
    if not book.fits or book.high_bytes <= book.budget_bytes:
        return []
    most = f"{in_gib(book.high_bytes)} of {in_gib(book.budget_bytes)} a device"
    tokens = _shorter(book)
    remedy = "more memory leaves" if on_host else "more GPUs (AIM_GPU_COUNT) leave"
    if tokens:
        remedy = f"a context of about {tokens:,} tokens (AIM_MAX_MODEL_LEN={tokens}) leaves"
    return [f"it fits, but the engine's own needs are assumed and may make it {most}; {remedy} room"]


def _shorter(book: Ledger) -> int:
    """The context, in whole blocks, whose KV cache leaves the most that is assumed its room; 0 where none does."""
    lacking = book.high_bytes - book.budget_bytes
    if lacking >= book.kv_bytes:
        return 0
    tokens = book.context_tokens * (book.kv_bytes - lacking) // book.kv_bytes
    return max(0, tokens // book.block_tokens - 1) * book.block_tokens  # one for the engine's empty block


def choices(situation: Situation, winner: Candidate) -> list[str]:
    """What the plan leaves unused, and what it serves instead of what was asked for."""
    found = []
    usable, used = len(situation.inventory.usable_gpus), winner.gpu_count
    if used < usable:
        found.append(f"{used} of {usable} usable GPUs {'is' if used == 1 else 'are'} used")
    left_out: dict[tuple[str, str], list[str]] = {}
    for gpu in situation.inventory.gpus:
        if gpu.unusable is not None:
            left_out.setdefault((gpu.product, gpu.unusable), []).append(gpu.name)
    found += [f"{few[0]} ({product}) is not used: {why}" if len(few) == 1 else
              f"{len(few)} x {product} are not used: {why}" for (product, why), few in left_out.items()]  # fmt: skip
    if other_version := standing(winner.variant.evidence, situation.engine).sentence:
        found.append(other_version)
    checkpoint, asked = winner.recipe.huggingface_id, situation.request.model
    if not winner.recipe.is_family and checkpoint != asked:
        found.append(f"the checkpoint {checkpoint} is served for {asked}")
    return found
