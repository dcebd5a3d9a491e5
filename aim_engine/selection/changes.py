"""What would make a model fit that does not: a situation in, the smallest single change of each kind out, none where no
such change is enough.

Each is found by judging the changed situation anew, so that what is proposed works. Ranks nothing and reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from aim_engine.catalog.model_card import BITS, ModelCard
from aim_engine.catalog.recipe import Recipe
from aim_engine.errors import InputError
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.hardware.products import Product, all_products, product_by_name
from aim_engine.selection.candidate import Judged, Situation
from aim_engine.selection.groups import equal_groups

Judge = Callable[[Situation], tuple[Judged, ...]]  # every candidate that may be chosen, with its verdicts
Derive = Callable[[ModelCard, str, Product], Recipe | None]  # the backend's recipe for a model that has none


def derive_none(card: ModelCard, model_id: str, product: Product) -> None:
    """Of a backend that makes no recipes."""


_MOST_GPUS = 16


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing to do otherwise. `kind` is context, concurrency, gpus, nodes, precision or product; `setting` how it is
    asked for; `changed` the situation with it.
    """

    kind: str
    setting: str
    sentence: str
    changed: Situation

    def as_json(self) -> dict[str, str]:
        return {"kind": self.kind, "setting": self.setting, "sentence": self.sentence}


def what_would_fit(situation: Situation, judge: Judge, derive: Derive) -> tuple[Change, ...]:
    """The smallest change of each kind that is enough by itself, in the order in which people would take them."""
    kinds = (_larger(situation, judge), _context(situation, judge), _concurrency(situation, judge),
             _precision(situation, judge, derive), _product(situation, judge, derive))  # fmt: skip
    return tuple(change for found in kinds if (change := next(found, None)))


def _fits(situation: Situation, judge: Judge) -> bool:
    return any(one.passed for one in judge(situation))


def _context(situation: Situation, judge: Judge) -> Iterator[Change]:
    """The longest context that fits: whatever the placement, the engine keeps whole blocks."""
    request = situation.request
    if request.max_model_len == "auto":
        return
    longest = replace(situation, request=replace(request, max_model_len="auto"))
    books = [one.candidate.ledger for one in judge(longest) if one.passed]
    if not (tokens := max((book.context_tokens for book in books if book), default=0)):
        return
    yield Change(
        kind="context",
        setting=f"AIM_MAX_MODEL_LEN={tokens}",
        sentence=f"a context of at most {tokens:,} tokens (AIM_MAX_MODEL_LEN={tokens})",
        changed=replace(situation, request=replace(request, max_model_len=tokens)),
    )


def _concurrency(situation: Situation, judge: Judge) -> Iterator[Change]:
    """The most requests of full length at once, by halving: fewer never need more."""

    def at(number: int) -> Situation:
        return replace(situation, request=replace(situation.request, concurrency=number))

    least, most = 1, situation.request.concurrency - 1
    if most < 1 or not _fits(at(1), judge):
        return
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if _fits(at(middle), judge) else (least, middle - 1)
    yield Change(
        kind="concurrency",
        setting=f"AIM_CONCURRENCY={least}",
        sentence=f"at most {least} full-length requests at once (AIM_CONCURRENCY={least})",
        changed=at(least),
    )


def _larger(situation: Situation, judge: Judge) -> Iterator[Change]:
    """More GPUs, or, where no number of them in one machine would do, more machines."""
    yield from _more_gpus(situation, judge)
    yield from _more_nodes(situation, judge)


_MORE_NODES = (2, 3, 4, 8)


def _more_nodes(situation: Situation, judge: Judge) -> Iterator[Change]:
    """The fewest nodes like this one, where the engine can be spread over several."""
    group = next(iter(equal_groups(situation.inventory)), ())
    if not group or group[0].is_partition or _facts(group[0]) is None:
        return
    for count in _MORE_NODES:
        changed = replace(situation, request=replace(situation.request, nodes=count))
        if count <= situation.request.nodes:
            continue
        try:
            fits = _fits(changed, judge)
        except InputError:  # this engine, or this version of it, cannot be
            return
        if fits:
            words = f"{count} nodes like this one (--nodes {count})"
            yield Change(kind="nodes", setting=f"AIM_NODES={count}", sentence=words, changed=changed)


def _more_gpus(situation: Situation, judge: Judge) -> Iterator[Change]:
    """The fewest GPUs of the kind that is here: first more of those, then more than there are."""
    group = next(iter(equal_groups(situation.inventory)), ())
    if not group or group[0].is_partition or (product := _facts(group[0])) is None:
        return
    asked, here = situation.request.gpu_count, len(group)
    for count in range((asked or here) + 1, min(product.max_per_node, _MOST_GPUS) + 1):
        request = replace(situation.request, gpu_count=count if asked else None)
        inventory = situation.inventory if count <= here else _with(situation.inventory, group[0], count)
        changed = replace(situation, request=request, inventory=inventory)
        if _fits(changed, judge):
            setting = f"AIM_GPU_COUNT={count}" if count <= here else f"{product.name}:{count}"
            words = f"{count} GPUs (AIM_GPU_COUNT={count})" if count <= here else f"{count} x {product.name}"
            yield Change(kind="gpus", setting=setting, sentence=words, changed=changed)


def _precision(situation: Situation, judge: Judge, derive: Derive) -> Iterator[Change]:
    """The recipe of the next lower precision that fits, or the checkpoint that the model's card names; a pinned recipe
    gives way to it.
    """
    request = situation.request
    wide = _with_checkpoints(situation, derive)
    judged = judge(replace(wide, request=replace(request, recipe=None, precision="auto")))
    bits = BITS[request.precision] if request.precision != "auto" else 99
    recipes = [one.candidate.recipe for one in judged]
    bits = min([bits, *(BITS[one.precision] for one in recipes if one.recipe_id == request.recipe)])
    lower = [one.candidate.recipe for one in judged if one.passed and BITS[one.candidate.recipe.precision] < bits]
    for recipe in sorted(lower, key=lambda one: (-BITS[one.precision], one.generated)):
        pin = request.recipe is not None and not recipe.generated
        setting = f"AIM_RECIPE={recipe.recipe_id}" if pin else f"AIM_PRECISION={recipe.precision}"
        unpin = " without AIM_RECIPE" if request.recipe is not None and not pin else ""
        wish = replace(request, recipe=recipe.recipe_id if pin else None,
                       precision="auto" if pin and request.precision == "auto" else recipe.precision)  # fmt: skip
        named = f", which is {recipe.huggingface_id}" if recipe.huggingface_id != recipe.model_id else ""
        yield Change(kind="precision", setting=setting, sentence=f"a lower precision ({setting}{unpin}{named})",
                     changed=replace(wide, request=wish))  # fmt: skip


def _with_checkpoints(situation: Situation, derive: Derive) -> Situation:
    """With a recipe for each named checkpoint that no recipe here serves."""
    card, group = situation.catalog.card, next(iter(equal_groups(situation.inventory)), ())
    product = _facts(group[0]) if group else None
    if card is None or product is None:
        return situation
    name = product.name.casefold()
    there = {one.precision for one in situation.catalog.recipes if one.gpu_type.casefold() == name}
    made = [derive(replace(card, precision=one), situation.request.required_model, product)
            for one in card.precisions if one not in there]  # fmt: skip
    recipes = (*situation.catalog.recipes, *(one for one in made if one))
    return replace(situation, catalog=replace(situation.catalog, recipes=recipes))


def _product(situation: Situation, judge: Judge, derive: Derive) -> Iterator[Change]:
    """The GPU with the least memory of which as many would do as are here: first those that are linked alike, which
    keeps servers' GPUs, workstations' and the ones inside processors apart.
    """
    group = next(iter(equal_groups(situation.inventory)), ())
    here = _facts(group[0]) if group and not group[0].is_partition else None
    if here is None or situation.catalog.card is None:
        return
    asked = situation.request.gpu_count or len(group)
    context = _context_of(judge(situation))
    for product in sorted(all_products(), key=lambda one: (one.link != here.link, one.memory_bytes, one.name)):
        if product.name == here.name or product.max_per_node < asked:
            continue
        changed = _on(situation, product, asked, derive, context)
        if _fits(changed, judge):
            setting, words = f"{product.name}:{asked}", f"{asked} x {product.name} instead"
            yield Change(kind="product", setting=setting, sentence=words, changed=changed)


def _context_of(judged: Sequence[Judged]) -> int | None:
    """What did not fit here: elsewhere a shorter one would be no answer."""
    books = [one.candidate.ledger for one in judged]
    return next((book.context_tokens for book in books if book), None)


def _on(situation: Situation, product: Product, count: int, derive: Derive, context: int | None) -> Situation:
    """The same elsewhere: with the recipes that there are for that GPU, or one that is made."""
    catalog, request = situation.catalog, situation.request
    known = any(recipe.gpu_type.casefold() == product.name.casefold() for recipe in catalog.recipes)
    made = None if known or catalog.card is None else derive(catalog.card, request.required_model, product)
    return replace(
        situation,
        request=replace(request, recipe=None, max_model_len=request.max_model_len or context),
        inventory=declared_inventory(f"{product.name}:{count}"),
        catalog=replace(catalog, recipes=(*catalog.recipes, *((made,) if made else ()))),
        engine=None,
    )


def _with(inventory: Inventory, gpu: Gpu, count: int) -> Inventory:
    """So many GPUs like that one, with nothing on them."""
    bare = replace(gpu, memory_free_bytes=None, holders=(), pci_address=None, uuid=None, xgmi_peers=())
    return replace(inventory, gpus=tuple(replace(bare, index=index) for index in range(count)), visibility=())


def _facts(gpu: Gpu) -> Product | None:
    try:
        return product_by_name(gpu.product)
    except InputError:
        return None
