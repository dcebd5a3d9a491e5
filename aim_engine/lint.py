"""Recipes and model cards in, what would keep a well-formed recipe from ever serving out, as `Problem`s with a kind.

What a single file tells is found when it is read; here is what follows from the GPU, the model's numbers, the memory
ledger and the other recipes. Pure: reads no file and asks no engine.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from aim_engine.backends.base import Complaint
from aim_engine.backends.registry import BUILT_IN, is_known
from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.evidence_checks import is_future
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.catalog.splitting import is_block_scaled, obstacles
from aim_engine.catalog.terms import ServingTerms
from aim_engine.catalog.yaml_file import Problem
from aim_engine.errors import InputError
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product, product_by_name
from aim_engine.request import read_request
from aim_engine.selection.candidate import Judged, Situation
from aim_engine.selection.memory import in_gib
from aim_engine.selection.select import select

_SIXTEEN_BITS = {"bf16", "fp16"}
_HOST = "CPU"  # the host itself, which is in no table of products
_PARTITION = re.compile(r"(.+?)[\s/:_-]*\b(SPX|DPX|TPX|QPX|CPX)\b.*", re.IGNORECASE)
# Where these are set, experts lie whole on a GPU each instead of being cut (vLLM's name, then sglang's).
_WHOLE_EXPERTS = ("enable-expert-parallel", "ep-size", "expert-parallel-size")


def lint(
    recipes: Iterable[Recipe], cards: Mapping[str, ModelCard], today: datetime.date | None = None
) -> list[Problem]:
    """Every problem of every recipe, in the order of the recipes; ties last. `today` is this machine's unless given."""
    known, now = list(recipes), today or datetime.datetime.now(datetime.UTC).date()
    found = [problem for recipe in known for problem in _of_recipe(recipe, cards.get(recipe.model_id))]
    found += [problem for recipe in known for problem in _of_another_precision(recipe, cards)]
    early = [problem for recipe in known for problem in _from_the_future(recipe, now)]
    return list(dict.fromkeys([*found, *early, *_ties(known)]))


def place_of(recipe: Recipe, variant: Variant, key: str = "") -> str:
    """Where a variant's key stands in the file."""
    place = f"{variant.backend}_serve.{variant.gpu_count}_gpu"
    return f"{place}.{key}" if key else place


def _of_recipe(recipe: Recipe, card: ModelCard | None) -> Iterator[Problem]:
    product = None
    if recipe.gpu_type != _HOST:
        try:
            product = product_by_name(recipe.gpu_type)
        except InputError as unknown:
            yield _problem(recipe, "unreachable", "hardware.gpu_type", _no_product(recipe.gpu_type, unknown))
    if not any(variant.enabled for variant in recipe.variants):
        yield _problem(recipe, "unreachable", "", "every variant is switched off; enable one, or remove the file")
    for variant in recipe.variants:
        yield from _reviewed(recipe, variant)
        if product is not None and variant.gpu_count > product.max_per_node:
            sentence = (
                f"is for {variant.gpu_count} GPUs, and no server is built with more than {product.max_per_node} "
                f"{product.name}; remove it"
            )
            yield _problem(recipe, "unreachable", place_of(recipe, variant), sentence)
    if product is not None and card is not None and not recipe.is_family:
        yield from _against_card(recipe, card, product)


def _of_another_precision(recipe: Recipe, cards: Mapping[str, ModelCard]) -> Iterator[Problem]:
    """A recipe that says fp8 of a checkpoint in bf16: the memory ledger would believe it, and the engine load bf16.
    An option that quantises on the way may make it true; 16 bits are cast from one kind to the other by `dtype`.
    """
    own = cards[recipe.huggingface_id].precision if recipe.huggingface_id in cards else None
    if own is None or own == recipe.precision or {own, recipe.precision} <= _SIXTEEN_BITS:
        return
    if all("quantization" in one.args for one in recipe.variants if one.enabled):
        return
    other = cards[recipe.huggingface_id].checkpoint_in(recipe.precision)
    instead = f"name the checkpoint that is, such as {other}, as huggingface_id" if other else (
        f"name a checkpoint in {recipe.precision} as huggingface_id")  # fmt: skip
    holds = f"{recipe.precision} is not what {recipe.huggingface_id} holds, which is {own}"
    yield _problem(recipe, "precision", "precision", f"{holds}, and no `quantization` is asked for; {instead}, "
                   f"or write precision: {own}")  # fmt: skip


def _from_the_future(recipe: Recipe, today: datetime.date) -> Iterator[Problem]:
    """Asked here and not where the file is read: a host whose clock is wrong must start all the same."""
    said = [("evidence.date", recipe.evidence)]
    said += [(place_of(recipe, one, "evidence.date"), one.evidence) for one in recipe.variants
             if one.evidence != recipe.evidence]  # fmt: skip
    for key, evidence in said:
        if is_future(evidence.date, today):
            yield _problem(recipe, "evidence", key, f"{evidence.date} has not come yet; write the day it was found out")


def _no_product(name: str, unknown: InputError) -> str:
    part = _PARTITION.fullmatch(name)
    if part:
        return (
            f"{name!r} names a partition, and a recipe is for a product; write {part[1].strip()}: its one-GPU variants "
            "serve partitions too"
        )
    return f"{unknown.message}; {unknown.hint}"


def _reviewed(recipe: Recipe, variant: Variant) -> Iterator[Problem]:
    """What the variant's backend says; where that is not here, as a plug-in of somebody else's may be, a warning."""
    if not is_known(variant.backend):
        near = next(iter(difflib.get_close_matches(variant.backend, BUILT_IN, n=1)), "")
        sentence = "is for an engine that this installation does not know, so nothing more can be checked"
        told = _problem(recipe, "unreachable", place_of(recipe, variant), sentence)
        yield replace(told, nearest=f"{near}_serve" if near else "", is_warning=True)
        return
    for complaint in find_backend(variant.backend).review(recipe, variant):
        yield problem_of(recipe, variant, complaint)


def problem_of(recipe: Recipe, variant: Variant, complaint: Complaint) -> Problem:
    """What a backend says against a variant, with its place in the file."""
    of_variant = complaint.key.partition(".")[0] in ("args", "env")
    place = place_of(recipe, variant, complaint.key) if of_variant else complaint.key
    told = _problem(recipe, complaint.kind, place, complaint.sentence)
    return replace(told, replacement=complaint.replacement, is_warning=complaint.is_warning)


def _against_card(recipe: Recipe, card: ModelCard, product: Product) -> Iterator[Problem]:
    for one in _judged(recipe, card, product):
        variant = one.candidate.variant
        yield from _longer_than_the_model(recipe, variant, card)
        if not variant.enabled or variant.gpu_count > product.max_per_node:
            continue
        cut = list(_uncut(recipe, variant, card, one.candidate.tensor_parallel_size))
        yield from cut
        if not cut:
            yield from _too_large(recipe, variant, one)


def _longer_than_the_model(recipe: Recipe, variant: Variant, card: ModelCard) -> Iterator[Problem]:
    """Engines refuse a context beyond the config's own, unless something says that its positions are stretched."""
    option = find_backend(variant.backend).context_option
    asked, most = variant.args.get(option), card.architecture.max_context if card.architecture else None
    stretched = any("rope" in name or "override" in name for name in variant.args) or any(
        "ALLOW_LONG" in name or "ALLOW_OVERWRITE_LONGER" in name for name in variant.env)  # fmt: skip
    if isinstance(asked, int) and most is not None and asked > most and not stretched:
        sentence = f"must be at most {most}, the model's own longest context, found {asked}"
        yield _problem(recipe, "value", place_of(recipe, variant, f"args.{option}"), sentence)


def _uncut(recipe: Recipe, variant: Variant, card: ModelCard, size: int) -> Iterator[Problem]:
    if card.architecture is None:
        return
    blocks = is_block_scaled(recipe.huggingface_id, recipe.precision)
    given = [variant.args[name] for name in _WHOLE_EXPERTS if name in variant.args]
    whole = any(value is True or (isinstance(value, int) and value > 1) for value in given)
    for obstacle in obstacles(card.architecture, size, blocks=blocks, whole_experts=whole):
        remedy = "; use another number of GPUs" + (", or expert parallelism" if obstacle.kind == "fp8-blocks" else "")
        yield _problem(recipe, obstacle.kind, place_of(recipe, variant), f"{obstacle.sentence}{remedy}")


def _too_large(recipe: Recipe, variant: Variant, judged: Judged) -> Iterator[Problem]:
    book = judged.candidate.ledger
    if book is None or book.fits:
        return
    without_context = book.total_bytes - book.kv_bytes
    if without_context < book.budget_bytes:
        remedy = (
            f"lower {find_backend(variant.backend).context_option} below {book.context_tokens:,}, or say enabled: false"
        )
    else:
        remedy = "no context would be short enough: say enabled: false, or use more GPUs"
    sentence = (
        f"does not fit by {in_gib(book.missing_bytes)} a GPU: {in_gib(book.total_bytes)} of "
        f"{in_gib(book.budget_bytes)} with a context of {book.context_tokens:,} tokens; {remedy}"
    )
    yield _problem(recipe, "memory", place_of(recipe, variant), sentence)


def _judged(recipe: Recipe, card: ModelCard, product: Product) -> tuple[Judged, ...]:
    """Every variant placed on the largest server of its GPU, with its ledger."""
    readable = tuple(one for one in recipe.variants if is_known(one.backend))
    situation = Situation(
        request=read_request({"model": recipe.model_id}, {}),
        inventory=declared_inventory(f"{product.name}:{product.max_per_node}"),
        catalog=Catalog(recipes=(replace(recipe, variants=readable),), card=card),
    )

    def terms(variant: Variant, gpu: Gpu) -> ServingTerms:
        return find_backend(variant.backend).read_terms(variant.args, {}, gpu, None)

    return select(situation, terms).judged


def _ties(recipes: list[Recipe]) -> Iterator[Problem]:
    """Variants that no request and no hardware could tell apart but by the spelling of their ids."""
    seen: dict[tuple[object, ...], Recipe] = {}
    for recipe in sorted(recipes, key=lambda one: one.recipe_id):
        for variant in recipe.variants:
            key = (recipe.order, recipe.model_id, recipe.gpu_type.casefold(), recipe.precision, variant.backend,
                   variant.gpu_count, variant.metric, variant.evidence.rank)  # fmt: skip
            other = seen.setdefault(key, recipe) if variant.enabled else recipe
            if other.recipe_id != recipe.recipe_id:
                sentence = (
                    f"ties with {other.recipe_id}: neither could ever be preferred; give one of them other evidence or "
                    "another metric, or switch it off"
                )
                yield _problem(recipe, "tie", place_of(recipe, variant), sentence)


def _problem(recipe: Recipe, kind: str, key: str, sentence: str) -> Problem:
    return Problem(file=recipe.file, item=f"recipe {recipe.recipe_id}", kind=kind, key=key, sentence=sentence)
