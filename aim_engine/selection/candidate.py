"""The words of the selection: a `Candidate` (a recipe's variant, placed on GPUs), a `Verdict` on it, a `Judged` pair.

In: recipes, inventory, request. Out: every placement worth a verdict. Judges nothing itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aim_engine.catalog.load import Catalog
from aim_engine.catalog.measurement import Occasion
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.hardware.products import refused_format
from aim_engine.request import Request
from aim_engine.selection.budget import budget_bytes, has_room, reduced_fraction
from aim_engine.selection.groups import equal_groups, sharers, spread
from aim_engine.selection.memory import Ledger

# The backend's reading of a variant's arguments on a GPU.
ReadTerms = Callable[[Variant, Gpu], ServingTerms]
# The backend's reason not to load weights quantised by a method on a vendor's devices, or "".
RefusedFormat = Callable[[str, str], str]


# The backend's way to split a variant over so many nodes, each with so many GPUs of its type.
OverNodes = Callable[[Variant, int, int], Variant]


def takes_every_format(method: str, vendor: str) -> str:
    """What is said where no backend is asked."""
    return ""


def as_on_one(variant: Variant, nodes: int, here: int) -> Variant:
    """The split where no backend is asked."""
    return variant


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything a rule may look at besides the candidate. `engine` is None when planning for hardware that
    is not here, because then the engine that will run is not here either. `unloaded` is the backend's word on formats,
    `over_nodes` its way to several nodes, of which the inventory is that of one.
    """

    request: Request
    inventory: Inventory
    catalog: Catalog
    engine: Engine | None = None
    unloaded: RefusedFormat = takes_every_format
    over_nodes: OverNodes = as_on_one

    def refused_format(self, method: str, vendor: str) -> str:
        """Why a checkpoint quantised so cannot be served on that vendor's devices, or ""."""
        return refused_format(vendor, method) or self.unloaded(method, vendor)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one rule says of one candidate: whether it passed, and why, in one sentence."""

    rule: str
    passed: bool
    sentence: str


# How a variant may write into how many parts a layer is cut, how many stages there are, and how many copies it makes
# itself (vLLM's name, then sglang's).
TENSOR_PARALLEL = ("tensor-parallel-size", "tp-size", "tp")
PIPELINE_PARALLEL = ("pipeline-parallel-size", "pp-size", "pp")
DATA_PARALLEL = ("data-parallel-size", "dp-size", "dp")


def written_size(variant: Variant, names: Sequence[str]) -> int | None:
    """The number that the variant's arguments give one of these; None where they give none that could be one."""
    sizes = (variant.args[name] for name in names if name in variant.args)
    return next((size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and size > 0), None)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant placed: `replicas` data-parallel copies of `variant.gpu_count` GPUs each, on `gpus` (those of the
    recipe's type that would be used; fewer than needed when there are not enough). `memory_fraction` is set where the
    engine must be told to take less of each GPU than the recipe says, because others hold the rest or share it.
    `occasion` is what figures that are measured of it would be of; it comes with the ledger. Of several `nodes` all of
    this is one's.
    """

    recipe: Recipe
    variant: Variant
    replicas: int
    gpus: tuple[Gpu, ...]
    nodes: int = 1
    ledger: Ledger | None = None
    memory_fraction: float | None = None
    occasion: Occasion | None = None

    @property
    def gpu_count(self) -> int:
        """GPUs needed in all, on one node."""
        return self.variant.gpu_count * self.replicas

    def in_words(self) -> str:
        """`qwen3-32b-mi300x-bf16 on 4 x MI300X`."""
        return f"{self.recipe.recipe_id} on {self.gpu_count} x {self.recipe.gpu_type}"

    @property
    def tensor_parallel_size(self) -> int:
        return written_size(self.variant, TENSOR_PARALLEL) or self.variant.gpu_count

    @property
    def pipeline_parallel_size(self) -> int:
        return written_size(self.variant, PIPELINE_PARALLEL) or 1

    @property
    def copies(self) -> int:
        """Data-parallel copies in all: made here of a variant for one, or written into it."""
        return self.replicas if self.nodes == 1 else written_size(self.variant, DATA_PARALLEL) or 1

    @property
    def sharers(self) -> int:
        """The most of its GPUs that live in one memory: 1 where each has its own."""
        return max((sharers(gpu, self.gpus) for gpu in self.gpus), default=1)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A candidate with every verdict on it; `passed_over` says why one that passed them all was not chosen."""

    candidate: Candidate
    verdicts: tuple[Verdict, ...]
    passed_over: str = ""

    @property
    def passed(self) -> bool:
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def failures(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if not verdict.passed)


def gpus_of_type(inventory: Inventory, gpu_type: str) -> tuple[Gpu, ...]:
    """The largest group of equal usable GPUs of one product, in the engine's order."""
    wanted = gpu_type.casefold()
    return next((group for group in equal_groups(inventory) if group[0].product.casefold() == wanted), ())


def candidates(situation: Situation, read_terms: ReadTerms) -> Iterator[Candidate]:
    """Every variant of every recipe, placed as the request and the GPUs allow."""
    for recipe in situation.catalog.recipes:
        present = gpus_of_type(situation.inventory, recipe.gpu_type) or _forced_on(situation, recipe)
        # the user's own choice and order of GPUs is followed; else those with the most room come first
        in_turn = list(present) if situation.inventory.visibility else spread(present)
        for written in recipe.variants:
            variant = _on_one_node(written, situation, len(present))
            counts = (
                replicas
                for worthwhile in _worthwhile(variant, situation, present, read_terms)
                for replicas in _replica_counts(variant, situation, worthwhile)
            )
            for replicas in dict.fromkeys(counts):
                taken = in_turn[: variant.gpu_count * replicas]
                yield Candidate(
                    recipe=recipe,
                    variant=variant,
                    replicas=replicas,
                    nodes=situation.request.nodes,
                    gpus=tuple(sorted(taken, key=lambda gpu: gpu.index)),
                )


def _on_one_node(variant: Variant, situation: Situation, here: int) -> Variant:
    """The part of a variant that one of the nodes asked for has; another engine's variant is not split by this one."""
    request = situation.request
    if request.nodes == 1 or not here or variant.backend != request.backend:
        return variant
    return situation.over_nodes(variant, request.nodes, here)


def _forced_on(situation: Situation, recipe: Recipe) -> tuple[Gpu, ...]:
    """For a recipe that was pinned and forced: the largest group of equal GPUs, though they are of another type."""
    if not situation.request.force or situation.request.recipe != recipe.recipe_id:
        return ()
    return next(iter(equal_groups(situation.inventory)), ())


def _worthwhile(
    variant: Variant, situation: Situation, present: tuple[Gpu, ...], read_terms: ReadTerms
) -> Iterator[tuple[Gpu, ...]]:
    """The GPUs to fill with copies: all of them, and those alone that have as much free as the recipe wants.

    One engine takes the same share of every GPU, so a GPU that others hold makes every copy smaller. All of them are
    not tried where that leaves less memory in all. A choice or a count of the user's is not second-guessed.
    """
    request = situation.request
    fixed = request.gpu_count or request.nodes > 1 or situation.inventory.visibility
    if not present or request.metric != "throughput" or fixed:
        yield present
        return
    terms = read_terms(variant, present[0])
    roomy = tuple(gpu for gpu in present if has_room(gpu, terms))
    if not variant.gpu_count <= len(roomy) < len(present):
        yield present
        return

    def worth(gpus: tuple[Gpu, ...]) -> int:
        budget = budget_bytes(gpus, terms, reduced_fraction(gpus, terms))
        return len(gpus) // variant.gpu_count * budget

    if worth(present) >= worth(roomy):
        yield present
    yield roomy


def _replica_counts(variant: Variant, situation: Situation, present: tuple[Gpu, ...]) -> Iterator[int]:
    """How many copies to try. Where GPUs share a memory, fewer copies have more of it each: then also every smaller
    number of them in each memory, because as many as there are GPUs may be more than fit.
    """
    most = _replicas(variant, situation, len(present))
    yield most
    pools = Counter(gpu.memory_pool for gpu in present)
    if situation.request.gpu_count is not None or variant.gpu_count != 1 or None in pools:
        return
    for each in range(max(pools.values(), default=1) - 1, 0, -1):
        fewer = sum(min(each, members) for members in pools.values())
        if fewer < most:
            yield fewer


def _replicas(variant: Variant, situation: Situation, present: int) -> int:
    """Data-parallel copies: as many as an exact GPU count asks for, else one for latency, the rest for throughput.

    A mixture of experts gets one: vLLM shards its experts over the data-parallel ranks, so copies of it are not
    independent and need settings of their own (vLLM documentation, "Data Parallel Deployment"). Nor are copies
    made on nodes that serve together: each is a part of one.
    """
    card = situation.catalog.card
    experts = card.architecture.experts if card and card.architecture else 0
    if experts or situation.request.nodes > 1 or variant.args.keys() & set(DATA_PARALLEL):
        return 1
    asked = situation.request.gpu_count
    if asked is not None:
        return max(1, asked // variant.gpu_count)
    if situation.request.metric == "throughput":
        return max(1, present // variant.gpu_count)
    return 1
