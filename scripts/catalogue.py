"""What is made from the recipes and the model cards: the repository in, its stale files' texts out; see
scripts/catalogue.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from wherever

from aim_engine.catalog.json_schema import FILES, MODELINES, schema_text
from aim_engine.catalog.load import CatalogFolders, load_everything
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.hardware.products import all_products, product_names
from aim_engine.values import EVIDENCE_LEVELS, PRECISIONS
from scripts.pages import ROOT, renewed

_MODELINE = "# yaml-language-server:"

_PAGE = """\
# The catalogue

Made by `scripts/catalogue` from the files in `recipes/` and `models/`; not edited by hand. {recipes} recipes with
{variants} variants for {models} models, {cards} model cards.

Each cell is the numbers of GPUs that one copy of the model is served on, by the strength of the evidence: **derived**
was computed here, **reported** comes from a cited public source, **parsed** was accepted by the engine's own parser,
**served** answered on that GPU, **measured** was benchmarked there. A number of GPUs that is only for latency or for
throughput alone says so. `aim-engine recipes MODEL --hardware MI300X:8` says what of it works on which hardware, and
`aim-engine recipe show ID` what a recipe holds.

"""
_REST = """
## Models with a card and no recipe

Their memory is known without a network; where a GPU has no recipe for a model, one is made of the model's own numbers.

"""


_UNKNOWN = " (memory not checked)"  # it has no card, so nothing here knows its numbers


def stale(root: Path = ROOT) -> dict[Path, str]:
    """Files whose text is not what it would be made now, with that text."""
    wanted = dict(_wanted(root))
    return {path: text for path, text in wanted.items() if not path.is_file() or path.read_text() != text}


def _wanted(root: Path) -> Iterator[tuple[Path, str]]:
    folders = {"recipe": root / "recipes", "model": root / "models"}
    for kind, folder in folders.items():
        yield folder / FILES[kind], schema_text(kind, product_names())
        for path in sorted(folder.glob("*/**/*.yaml")):
            yield path, with_modeline(path.read_text(), MODELINES[kind])
    recipes, cards, problems = load_everything(CatalogFolders(recipes=(folders["recipe"],), models=(folders["model"],)))
    if problems:
        raise SystemExit("\n".join(map(str, problems)))
    yield root / "docs" / "catalogue.md", catalogue_page(recipes, cards)


def with_modeline(text: str, modeline: str) -> str:
    """The file with that line as its first, and no other of the kind."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith(_MODELINE)]
    return "".join([f"{modeline}\n", *lines])


def catalogue_page(recipes: Iterable[Recipe], cards: Iterable[ModelCard]) -> str:
    """docs/catalogue.md."""
    known = sorted(recipes, key=lambda one: (one.is_family, one.model_id.lower(), PRECISIONS.index(one.precision)))
    gpus = _gpus_of(known)
    with_card = {card.model_id for card in cards}
    rows: dict[tuple[str, str], dict[str, list[Recipe]]] = {}
    for recipe in known:
        name = "any model" if recipe.is_family else recipe.model_id + ("" if recipe.model_id in with_card else _UNKNOWN)
        cells = rows.setdefault((name, recipe.precision), {})
        cells.setdefault(recipe.gpu_type, []).append(recipe)
    table = [("model", "precision", *gpus), ("---",) * (2 + len(gpus))]
    table += [(model, precision, *(_cell(cells.get(gpu, [])) for gpu in gpus))
              for (model, precision), cells in rows.items()]  # fmt: skip
    served = {recipe.model_id for recipe in known}
    others = sorted((card.model_id for card in cards if card.model_id not in served), key=str.lower)
    counts = _PAGE.format(recipes=len(known), variants=sum(len(one.variants) for one in known),
                          models=len({one.model_id for one in known if not one.is_family}),
                          cards=len(list(cards)))  # fmt: skip
    lines = [f"| {' | '.join(row)} |" for row in table]
    return counts + "\n".join(lines) + "\n" + _REST + "\n".join(f"- {name}" for name in others) + "\n"


def _gpus_of(recipes: Iterable[Recipe]) -> list[str]:
    """In the order of the table of products, the CPU last."""
    used = {one.gpu_type for one in recipes}
    order = [product.name for product in all_products()]
    return sorted(used, key=lambda name: order.index(name) if name in order else len(order))


def _cell(recipes: Iterable[Recipe]) -> str:
    by_level: dict[str, list[str]] = defaultdict(list)
    for recipe in recipes:
        for variant in recipe.variants:
            if variant.enabled and (shown := _placed(variant)) not in by_level[variant.evidence.level]:
                by_level[variant.evidence.level].append(shown)
    levels = sorted((level for level in by_level if by_level[level]), key=EVIDENCE_LEVELS.index, reverse=True)
    return "; ".join(f"{level} {', '.join(by_level[level])}" for level in levels)


def _placed(variant: Variant) -> str:
    notes = [word for word in (variant.metric, "" if variant.backend == "vllm" else variant.backend) if word]
    return f"{variant.gpu_count} ({', '.join(notes)})" if notes else str(variant.gpu_count)


def main() -> int:
    return renewed(stale())


if __name__ == "__main__":
    sys.exit(main())
