"""Cases for real starts: tiny models and a number in, a case near the edge of what fits out; and the plans for it.

The plans are AIM Engine's own, of a folder on a CPU whose memory is made to leave a chosen room for the KV cache. What
the engine makes of them is told in bench_matrix.py; this starts nothing.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aim_engine.backends.registry import backend
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.layer_cache import StateCache
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.terms import ServingTerms
from aim_engine.decide import know
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request, read_request
from aim_engine.selection.kv_cache import CachePool, cache_pool

SEED = 2026
AMPLE_BYTES = 1024**4
LONGEST = 16384  # of the tiny models that have no learned positions; the engine's CPU build is quick enough for these

# What the engine's CPU build refuses whatever the memory.
NOT_ON_A_CPU = {
    "Qwen2, windows in some layers": "vLLM serves no such model (sliding window for some but all layers)",
    "DeepSeek V3.2": "sparse attention has no CPU kernels",
}
# exact: just the room it needs. short: a byte or a block less. longest: whatever fits a room between two blocks.
# roomy: the engine gets more than was asked for. Only the last is not at the edge.
KINDS = ("exact",) * 4 + ("short",) * 3 + ("longest",) * 3 + ("roomy",)
_ALWAYS = {"load-format": "dummy", "skip-tokenizer-init": True}
_OPTIONS: Mapping[str, Sequence[Any]] = {
    "block-size": (None, None, None, None, 32, 64, 96, 256),
    "max-num-batched-tokens": (None, None, None, 64, 128, 512, 1024, 4096),
    "max-num-seqs": (None, None, None, 1, 8, 256),
    "kv-cache-dtype": (None, None, None, None, None, "fp8"),
    "enable-prefix-caching": (None, None, None, True, False),
    "disable-hybrid-kv-cache-manager": (None,) * 9 + (True,),
    "mamba-cache-dtype": (None,) * 9 + ("float32",),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model with options of the engine, for so many requests of so long a context, and the bytes that are there for
    the KV cache. `context` is None where the plan is to find the longest.
    """

    number: int
    model: str
    kind: str
    context: int | None
    concurrency: int
    room_bytes: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Place:
    """A checkpoint in a folder, and the plans for it."""

    folder: Path
    cache: Path

    @cached_property
    def _catalog(self) -> Catalog:
        return know(self._request(None, 1, {}), _cpu(AMPLE_BYTES))

    @property
    def shape(self) -> Architecture:
        """The model's shape, which all of these have."""
        assert self._catalog.card is not None
        assert self._catalog.card.architecture is not None
        return self._catalog.card.architecture

    @property
    def has_states(self) -> bool:
        return any(isinstance(cache, StateCache) for caches in self.shape.layer_caches for cache in caches)

    @cached_property
    def _engine(self) -> Engine | None:
        return backend("vllm").find(tuple(sys.path), sys.executable)

    def _request(self, context: int | None, concurrency: int, options: Mapping[str, Any]) -> Request:
        flags = {
            "model": str(self.folder),
            "max_model_len": "auto" if context is None else str(context),
            "concurrency": str(concurrency),
            "engine_args": json.dumps({**_ALWAYS, **options}),
            "cache_dir": str(self.cache),
        }
        return read_request(flags, {})

    def plan(self, context: int | None, concurrency: int, options: Mapping[str, Any],
             free_bytes: int = AMPLE_BYTES) -> Plan | Refusal:  # fmt: skip
        """The plan where so much of the host's memory is free."""
        request = self._request(context, concurrency, options)
        return make_plan(request, _cpu(free_bytes), self._catalog, self._engine)

    def ample(self, context: int | None, concurrency: int, options: Mapping[str, Any]) -> Plan:
        """The plan where memory does not matter."""
        found = self.plan(context, concurrency, options)
        assert isinstance(found, Plan), found
        return found

    def in_room(self, case: Case) -> Plan | Refusal:
        """The plan where all but the KV cache leaves it just the case's room."""
        ample = self.ample(case.context, case.concurrency, case.options)
        assert ample.ledger is not None
        budget = ample.ledger.total_bytes - ample.ledger.kv_bytes + case.room_bytes
        free = _free_for(budget, terms_of(ample).memory_fraction)
        return self.plan(case.context, case.concurrency, case.options, free)


def _cpu(free_bytes: int) -> Inventory:
    cpu = Gpu(index=0, product="CPU", vendor="cpu", memory_bytes=AMPLE_BYTES, memory_free_bytes=free_bytes)
    return Inventory(source="cpu", gpus=(cpu,))


def _free_for(budget_bytes: int, fraction: float) -> int:
    """The free memory of which the engine's share is just the budget (selection/budget.py)."""
    free = int(budget_bytes / fraction)
    while int(free * fraction) < budget_bytes:
        free += 1
    assert int(free * fraction) == budget_bytes
    return free


def terms_of(plan: Plan) -> ServingTerms:
    """The arguments' terms, as the plan's ledger had them."""
    request, winner = plan.request, plan.winner
    return backend(request.backend).read_terms(winner.variant.args, request.engine_args, winner.gpus[0], plan.engine)


def pool_of(place: Place, options: Mapping[str, Any]) -> tuple[CachePool, int]:
    """The KV cache's pool of a place with these options, and the longest context there is."""
    pool = cache_pool(place.shape, terms_of(place.ample(None, 1, options)), 1)
    assert pool is not None
    return pool, place.shape.max_context


def lengthened(config: Mapping[str, Any]) -> dict[str, Any]:
    """A tiny model's config with a longer context, where it learns no positions."""
    longer = {"max_position_embeddings": LONGEST} if config.get("max_position_embeddings") == 2048 else {}
    return {**config, **longer}


def case_of(number: int, models: Sequence[str], places: Mapping[str, Place]) -> Case:
    """The case of that number: always the same. Every model has its turn."""
    turn = sorted(models)
    random.Random(SEED + number // len(turn)).shuffle(turn)
    model, chance = turn[number % len(turn)], random.Random(f"{SEED} {number}")
    options = _options(chance)
    if places[model].has_states:
        options.pop("disable-hybrid-kv-cache-manager", None)  # the engine refuses that (unify_hybrid_kv_cache_specs)
    pool, limit = pool_of(places[model], options)
    kind, context = chance.choice(KINDS), _context(chance, pool.block_tokens, limit)
    concurrency = chance.choice((1, 1, 1, 1, 1, 2, 3, 8))
    needed = pool.bytes_for(context, concurrency)
    room = {
        "exact": needed,
        "short": needed - chance.choice((1, pool.block_bytes)),
        "longest": needed + chance.choice((0, pool.block_bytes - 1, chance.randrange(pool.block_bytes))),
        "roomy": needed + chance.randrange(20 * pool.block_bytes),
    }[kind]
    case = Case(number=number, model=model, kind=kind, context=context, concurrency=concurrency,
                room_bytes=room, options=options)  # fmt: skip
    return replace(case, context=None) if kind == "longest" else case


def _options(chance: random.Random) -> dict[str, Any]:
    found = {name: value for name, values in _OPTIONS.items() if (value := chance.choice(values)) is not None}
    if found.get("max-num-seqs", 64) > found.get("max-num-batched-tokens", 2048):
        del found["max-num-seqs"]  # the engine refuses fewer tokens than requests in one step
    return found


def _context(chance: random.Random, block: int, limit: int) -> int:
    """Mostly about a block's edge."""
    if chance.random() < 0.3:
        return chance.randint(1, limit)
    at = block * chance.randint(1, max(1, min(limit, 4096) // block)) + chance.choice((-1, 0, 1))
    return max(1, min(limit, at))
