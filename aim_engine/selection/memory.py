"""The memory ledger: a model, a placement and a context in; bytes per GPU, line by line, and whether they fit, out.

Each line says what it rests on: `exact` (read from the checkpoint), `computed` (follows from the model's published
shape), `measured` (on this machine, at an earlier start) or `assumed` (a rule of thumb, stated with the line). Pure
arithmetic.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.measurement import Measurement
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.reckoned_weights import Reckoned
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.kv_cache import CachePool, Capacity, cache_pool
from aim_engine.selection.measured import with_measured
from aim_engine.selection.weights import held_bytes, padding

GIB = 1024**3

# What an engine needs besides weights and cache: value, least, most. Stated, not measured: no AMD GPU was at hand when
# this was written. vLLM measures all of it at its start (vllm/v1/worker/gpu_worker.py), and its own estimate of the
# graphs has been seen three times too large (vllm-project/vllm, pull request 45197).
_CONTEXT_BYTES = (int(1.5 * GIB), GIB // 2, 3 * GIB)  # HIP context, hipBLASLt workspaces, allocator slack
_COLLECTIVES_BYTES = (1 * GIB, GIB // 2, 2 * GIB)  # RCCL buffers, once more than one GPU works together
_GRAPH_BYTES = (1 * GIB, GIB // 4, 3 * GIB)  # captured HIP graphs
# API server + engine core: 590 + 580 MB seen with vLLM 0.32 (uni process), rounded up
_CPU_PROCESSES_BYTES = (int(1.5 * GIB), int(1.1 * GIB), 2 * GIB)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the ledger; `bytes` per GPU, `basis` as the module says, `note` how it came about. `least` and `most`
    are set where the bytes are not known for certain.
    """

    name: str
    bytes: int
    basis: str
    note: str = ""
    least: int | None = None
    most: int | None = None

    @property
    def low_bytes(self) -> int:
        return self.bytes if self.least is None else self.least

    @property
    def high_bytes(self) -> int:
        return self.bytes if self.most is None else self.most

    def as_json(self) -> dict[str, Any]:
        """`{name, bytes, basis, note, low_bytes, high_bytes}`."""
        return {"name": self.name, "bytes": self.bytes, "basis": self.basis, "note": self.note,
                "low_bytes": self.low_bytes, "high_bytes": self.high_bytes}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one GPU of a placement is asked to carry. `budget_bytes` is what the engine may take of one GPU;
    `context_tokens` None asks for the longest context that fits. `terms` are the variant's arguments,
    `measurement` what an earlier start with the same ones took. `spare_bytes` are there beside the budget for what
    stands outside of it (ServingTerms.static_share): all but weights and KV cache.
    """

    card: ModelCard
    precision: str
    tensor_parallel_size: int
    budget_bytes: int
    context_tokens: int | None
    concurrency: int
    terms: ServingTerms
    measurement: Measurement | None = None
    spare_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The lines, what they add up to against the budget, and the context they are for, in tokens of one request.
    `capacity` is what the engine will say of its KV cache: it takes all that the other lines leave of the budget,
    unless `cache_given`. `measurement` is what some of the lines rest on.
    """

    lines: tuple[Line, ...]
    budget_bytes: int
    context_tokens: int
    concurrency: int
    kv_bytes_per_token: int
    block_tokens: int
    block_bytes: int
    capacity: Capacity
    cache_given: bool = False
    measurement: Measurement | None = None

    @property
    def total_bytes(self) -> int:
        return sum(line.bytes for line in self.lines)

    @property
    def low_bytes(self) -> int:
        """The sum, if all that is assumed is at its least."""
        return sum(line.low_bytes for line in self.lines)

    @property
    def high_bytes(self) -> int:
        """The sum, if all that is assumed is at its most."""
        return sum(line.high_bytes for line in self.lines)

    @property
    def missing_bytes(self) -> int:
        """How much too little there is; 0 when it fits."""
        return max(0, self.total_bytes - self.budget_bytes)

    @property
    def fits(self) -> bool:
        return self.missing_bytes == 0

    @property
    def kv_bytes(self) -> int:
        return next(line.bytes for line in self.lines if line.name == "kv cache")

    def as_json(self) -> dict[str, Any]:
        """`{lines: [{name, bytes, basis, note}], total_bytes, budget_bytes, capacity: {blocks, ...}, ...}`, per GPU."""
        measured = self.measurement.as_json() if self.measurement else None
        words = asdict(replace(self, measurement=None))
        return {**words, "lines": [line.as_json() for line in self.lines], "measurement": measured,
                "total_bytes": self.total_bytes,
                "low_bytes": self.low_bytes, "high_bytes": self.high_bytes, "missing_bytes": self.missing_bytes,
                "fits": self.fits}  # fmt: skip


def ledger(load: Load) -> Ledger | None:
    """The ledger of one GPU, or None where the card holds no numbers to compute one from."""
    load = _as_the_checkpoint_says(load)
    shape = load.card.architecture
    weights = load.card.weights_in(load.precision)
    pool = cache_pool(shape, load.terms, load.tensor_parallel_size) if shape else None
    if shape is None or weights is None or pool is None:
        return None
    fixed = (_weights(load, weights), *with_measured(_overheads(load, shape), load.measurement))
    budget = load.budget_bytes + min(load.spare_bytes, sum(line.bytes for line in fixed[1:]))
    room = budget - sum(line.bytes for line in fixed)
    context = load.context_tokens or _longest(load, room, pool, shape.max_context)
    kv = _kv_line(load, shape, pool, context)
    # on the host the engine is told these bytes; on a GPU it takes what is left
    held = kv.bytes if load.terms.host_memory else max(kv.bytes, room)
    return Ledger(
        lines=(fixed[0], kv, *fixed[1:]),
        budget_bytes=budget,
        context_tokens=context,
        concurrency=load.concurrency,
        kv_bytes_per_token=pool.token_bytes,
        block_tokens=pool.block_tokens,
        block_bytes=pool.block_bytes,
        capacity=pool.capacity(held, context),
        cache_given=load.terms.cache_given,
        measurement=load.measurement,
    )


def _as_the_checkpoint_says(load: Load) -> Load:
    """The same with the KV cache in the type that the card's own checkpoint wants, where the engine heeds that."""
    card, shape = load.card, load.card.architecture
    if shape is None or not card.cache or load.precision != card.precision:
        return load
    own = load.terms.of_checkpoint(card.quantization, card.cache, latent=bool(shape.kv_lora_rank))
    return replace(load, terms=own)


def _kv_line(load: Load, shape: Architecture, pool: CachePool, context: int) -> Line:
    line = Line(
        name="kv cache",
        bytes=pool.bytes_for(context, load.concurrency),
        basis="exact" if load.card.weights_basis == "exact" else "computed",
        note=f"{context:,} tokens x {load.concurrency}, {pool.token_bytes:,} bytes a token, "
        f"in {pool.blocks(context) * load.concurrency + 1:,} blocks of {pool.block_tokens}",
    )
    return _guessed(line, load, shape, context) if shape.guess else line


def _guessed(line: Line, load: Load, shape: Architecture, context: int) -> Line:
    """The same with how far off it may be: from what is surely kept to full attention in every layer."""
    pools = (cache_pool(one, load.terms, load.tensor_parallel_size) for one in (shape.at_least, shape.at_most))
    sizes = [pool.bytes_for(context, load.concurrency) for pool in pools if pool is not None]
    why = shape.guess.sentence if shape.guess else ""
    return replace(line, basis="assumed", note=f"{line.note}; a guess: {why}", least=min(line.bytes, *sizes),
                   most=max(line.bytes, *sizes))  # fmt: skip


def _weights(load: Load, weights: Reckoned) -> Line:
    card, width, depth = load.card, load.tensor_parallel_size, load.terms.pipeline_parallel_size
    own = load.precision in card.weights_bytes
    padded = padding(card, load.terms, width) if own else 0
    more = f", and {padded:,} by which the engine pads its experts" if padded else ""
    if card.weight_parts and own:
        note = f"{weights.bytes:,} bytes of {load.precision}, tensor by tensor{more}"
        return Line(name="weights", bytes=held_bytes(card, load.terms, width), basis="exact", note=note)
    parts = width * depth
    note = f"{weights.bytes:,} bytes of {load.precision}"
    if weights.basis == "assumed":
        note += ", reckoned with embedding and head in 16 bits"
    if parts > 1:
        note += f", divided by {parts} (norms and other small tensors are kept whole on each)"
    divided, most = -(-weights.bytes // parts), -(-weights.most // parts)
    if parts > 1 and weights.basis != "assumed":
        most = most * 103 // 100
    return Line(name="weights", bytes=divided + padded, basis=weights.basis, note=note + more,
                least=-(-weights.least // parts) + padded, most=most + padded)  # fmt: skip


def _overheads(load: Load, shape: Architecture) -> tuple[Line, ...]:
    widest = 4 * shape.hidden_size + 3 * -(-shape.intermediate_size // load.tensor_parallel_size)
    activations = load.terms.batch_tokens * widest * 2
    note = f"{load.terms.batch_tokens:,} tokens a step x (4 hidden + 3 MLP widths) x 2 bytes"
    lines = [_assumed("activations", (activations, activations // 2, activations * 2), note)]
    if load.terms.host_memory:
        return (*lines, _assumed("processes", _CPU_PROCESSES_BYTES, "API server and engine core"))
    lines.append(_assumed("device context", _CONTEXT_BYTES, "HIP and BLAS workspaces"))
    if not load.terms.eager:
        lines.append(_assumed("graphs", _GRAPH_BYTES, "captured HIP graphs"))
    if load.tensor_parallel_size * load.terms.pipeline_parallel_size > 1:
        lines.append(_assumed("collectives", _COLLECTIVES_BYTES, "RCCL buffers"))
    return tuple(lines)


def _assumed(name: str, sizes: tuple[int, int, int], note: str) -> Line:
    value, least, most = sizes
    return Line(name=name, bytes=value, basis="assumed", note=note, least=least, most=most)


def _longest(load: Load, room: int, pool: CachePool, limit: int) -> int:
    """The longest context that fits `concurrency` times; at least one block, so that a ledger that does not fit says by
    how much.
    """
    return pool.longest(room, load.concurrency, limit) or min(pool.block_tokens, limit)


def in_gib(size_bytes: int) -> str:
    """A size for people: "61.0 GiB", or "412 MiB" below one GiB."""
    return f"{size_bytes / GIB:,.1f} GiB" if abs(size_bytes) >= GIB else f"{size_bytes / 1024**2:,.0f} MiB"
