"""Two recipes in, what is different between them out, by variant and key. Judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.recipe import Recipe, Variant

_OF_RECIPE = ("model_id", "huggingface_id", "precision", "gpu_type", "description")


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`variant` is "" for the recipe as a whole, else "vllm 4"; None is what is not there."""

    variant: str
    key: str
    first: Any
    second: Any

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def differences(first: Recipe, second: Recipe) -> list[Difference]:
    """All of them: of the recipes as wholes, then of each variant. Where these are, ids and files are not compared."""
    return [*_compared("", _of_recipe(first), _of_recipe(second)), *_of_variants(first, second)]


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    return {**{name: getattr(recipe, name) for name in _OF_RECIPE}, **_evidence(recipe.evidence)}


def _of_variants(first: Recipe, second: Recipe) -> Iterator[Difference]:
    mine, theirs = ({(one.backend, one.gpu_count): one for one in recipe.variants} for recipe in (first, second))
    for backend, count in sorted({*mine, *theirs}):
        ours, other = mine.get((backend, count)), theirs.get((backend, count))
        name = f"{backend} {count}"
        if ours is None or other is None:
            yield Difference(variant=name, key="", first=_there(ours), second=_there(other))
        else:
            yield from _compared(name, _flat(ours, first.evidence), _flat(other, second.evidence))


def _there(variant: Variant | None) -> str | None:
    return None if variant is None else "is there"


def _flat(variant: Variant, of_recipe: Evidence) -> dict[str, Any]:
    """Evidence that is merely the recipe's is compared there."""
    return {
        "enabled": variant.enabled,
        "metric": variant.metric,
        **(_evidence(variant.evidence) if variant.evidence.as_written() != of_recipe.as_written() else {}),
        **{f"args.{name}": value for name, value in variant.args.items()},
        **{f"env.{name}": value for name, value in variant.env.items()},
        **({"optional": list(variant.optional)} if variant.optional else {}),
    }


def _evidence(evidence: Evidence) -> dict[str, str]:
    return {f"evidence.{name}": value for name, value in evidence.as_written().items()}


def _compared(variant: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Difference]:
    for key in dict.fromkeys([*mine, *theirs]):
        if mine.get(key) != theirs.get(key):
            yield Difference(variant=variant, key=key, first=mine.get(key), second=theirs.get(key))
