"""Folders of recipes and model cards in, a `Catalog` out, with every error of every file in one go.

Only the asked model's own folder and the families are read, so the time does not grow with the catalogue. The user's
folders come before the built-in ones: a recipe of the same id there takes the built-in one's place, and is said so.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from aim_engine.catalog.checkpoint import Checkpoint
from aim_engine.catalog.measurement import Measurement
from aim_engine.catalog.model_card import ModelCard, read_model_card
from aim_engine.catalog.parsed import with_records
from aim_engine.catalog.recipe import ANY_MODEL, Recipe, read_recipe
from aim_engine.catalog.yaml_file import Problem, YamlError, read_yaml
from aim_engine.catalog.yaml_files import is_folder, yaml_files_below
from aim_engine.errors import CatalogError

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
FAMILIES = "_families"  # the folder of recipes that serve any model


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What we know that could serve the asked model: its recipes and the families', its card if there is one, and the
    checkpoint that this card was made from, if it was; and what earlier starts on this machine have measured.
    """

    recipes: tuple[Recipe, ...]
    card: ModelCard | None = None
    notes: tuple[str, ...] = ()
    known_models: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    measurements: tuple[Measurement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CatalogFolders:
    """Where to look, in order of precedence."""

    recipes: tuple[Path, ...]
    models: tuple[Path, ...]


def catalog_folders(recipes_dir: Path | None = None, models_dir: Path | None = None) -> CatalogFolders:
    """The user's folders, if any, before the built-in ones (beside the package in a checkout, inside it when
    installed).
    """
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent
    in_checkout = (checkout / "recipes").is_dir() and (checkout / "pyproject.toml").is_file()
    recipes = checkout / "recipes" if in_checkout else package / "builtin_recipes"
    models = checkout / "models" if in_checkout else package / "builtin_models"
    return CatalogFolders(
        recipes=(*((recipes_dir,) if recipes_dir else ()), recipes),
        models=(*((models_dir,) if models_dir else ()), models),
    )


def load_catalog(model_id: str | None, folders: CatalogFolders) -> Catalog:
    """The part of the catalogue that concerns `model_id` (None: a model known by no id, so only the families).

    Raises:
        CatalogError: a folder cannot be read, or any file concerned has an error; `details` lists all of them.
    """
    places = [FAMILIES] + ([model_id] if model_id else [])
    files = [(order, root, path) for order, root in enumerate(folders.recipes) for path in _yaml_in(root, places)]
    recipes, problems = _read_recipes(files)
    card, card_problems = _read_card(model_id, folders) if model_id else (None, [])
    raise_if(problems + card_problems)
    kept, notes = _first_of_each(recipes)
    # the user's folders only: to list the built-in one takes longer the more there is in it, and validate does
    notes += [str(problem) for root in folders.recipes[:-1] for problem in _loose(root)]
    return Catalog(recipes=tuple(kept), card=card, notes=tuple(notes),
                   known_models=() if model_id and card else known_models(folders))  # fmt: skip


def load_everything(folders: CatalogFolders) -> tuple[list[Recipe], list[ModelCard], list[Problem]]:
    """Every recipe and card of every folder, and every problem found, for `validate`, `models` and the lint."""
    files = [(order, root, path) for order, root in enumerate(folders.recipes) for path in yaml_files_below(root)]
    recipes, problems = _read_recipes(files)
    cards, of_cards = _read_cards(folders)
    problems += of_cards
    problems += [problem for root in folders.recipes for problem in _loose(root)]
    return recipes, cards, problems


def known_cards(folders: CatalogFolders) -> dict[str, ModelCard]:
    """Every card that can be read, by its model's id; the user's before the built-in ones."""
    return {card.model_id: card for card in reversed(_read_cards(folders)[0])}


def _read_cards(folders: CatalogFolders) -> tuple[list[ModelCard], list[Problem]]:
    cards: list[ModelCard] = []
    problems: list[Problem] = []
    for root in folders.models:
        for path in yaml_files_below(root):
            card, found = read_model_card(path)
            cards += [card] if card else []
            problems += found or _misplaced(root, path, card)
    return cards, problems


def read_loose_file(path: Path) -> tuple[int, list[Recipe], list[Problem]]:
    """Check a file, or all files of a folder, that need not lie in a catalogue: (files read, recipes, problems).

    A file with `recipe_id` is a recipe, any other a model card.

    Raises:
        CatalogError: no such path, or a folder that cannot be read.
    """
    if is_folder(path):
        path = path if path.name not in ("", "..") else path.resolve()  # "." has no name, and nothing above it
        files, root = yaml_files_below(path), path
    elif os.path.isfile(path):  # noqa: PTH113
        files, root = [path], path.parent
    else:
        raise CatalogError(f"{path} is not there", hint="give the path of a recipe, a model card, or a folder of them")
    cards = [file for file in files if not _is_recipe(file)]
    recipes, problems = _read_recipes((0, _catalog_of(file, root), file) for file in files if file not in cards)
    for file in cards:
        problems += read_model_card(file)[1]
    return len(files), recipes, problems


def _catalog_of(file: Path, root: Path) -> Path:
    """The folder that the folders of organisations lie in: above `root`, where that is an organisation's own."""
    below = file.relative_to(root).parts
    return root.parent if len(below) == 2 and below[0] != FAMILIES else root


def _is_recipe(path: Path) -> bool:
    try:
        raw = read_yaml(path)
    except YamlError:
        return True  # the recipe reader will say what is wrong with it
    return bool({"recipe_id", "vllm_serve", "hardware", "backend"} & raw.keys())


def _loose(root: Path) -> list[Problem]:
    """Files that lie in the catalogue's folder itself, where nobody looks for them."""
    try:
        names = os.listdir(root)  # noqa: PTH208 - a glob of thousands of organisations takes longer than all the rest
    except OSError:
        return []
    return [
        Problem(
            file=str(root / name),
            kind="place",
            sentence="is never read here: it belongs into <org>/<model>/ below this folder",
        )
        for name in sorted(names)
        if name.endswith((".yaml", ".yml"))
    ]


def known_models(folders: CatalogFolders) -> tuple[str, ...]:
    """The ids of all models that have a card or a recipe, from the names of files and folders alone."""
    ids = {f"{p.parent.name}/{p.stem}" for root in folders.models if is_folder(root) for p in root.glob("*/*.yaml")}
    for root in folders.recipes:
        if is_folder(root):
            ids |= {f"{p.parent.name}/{p.name}" for p in root.glob("*/*") if is_folder(p) and p.parent.name != FAMILIES}
    return tuple(sorted(ids))


def nearest_models(model_id: str, known: Iterable[str], *, misspelt: bool = False) -> list[str]:
    """Ids that the asked one may be a misspelling of, or with whose beginning or last part it agrees, best first; with
    `misspelt` only the first kind. Other numbers are another size or generation: another model, not a misspelling.
    """
    asked = model_id.lower()
    by_lower = {
        name.lower(): name
        for name in known
        if name != model_id and _same_numbers(asked, name.lower(), all_of_them=misspelt)
    }
    same_name = [name for low, name in sorted(by_lower.items()) if low.split("/")[-1] == asked.split("/")[-1]]
    close = difflib.get_close_matches(asked, by_lower, n=3, cutoff=0.9 if misspelt else 0.75)
    return list(dict.fromkeys([*(() if misspelt else same_name), *(by_lower[name] for name in close)]))[:3]


def _same_numbers(one: str, other: str, *, all_of_them: bool) -> bool:
    """Whether two ids hold the same numbers, or the one the first of the other's."""
    mine, theirs = _NUMBER.findall(one), _NUMBER.findall(other)
    shorter = max(len(mine), len(theirs)) if all_of_them else min(len(mine), len(theirs))
    return mine[:shorter] == theirs[:shorter]


def _yaml_in(root: Path, places: Iterable[str]) -> Iterator[Path]:
    if not is_folder(root):
        raise CatalogError(
            f"the recipes folder {root} is not there or is not a folder",
            hint="set AIM_RECIPES_DIR to a folder that holds <org>/<model>/<recipe id>.yaml",
        )
    for place in places:
        folder = root / place
        # a model id never leaves the folder it belongs to
        if ".." not in Path(place).parts:
            yield from yaml_files_below(folder, must_exist=False)


def _read_recipes(files: Iterable[tuple[int, Path, Path]]) -> tuple[list[Recipe], list[Problem]]:
    recipes: list[Recipe] = []
    problems: list[Problem] = []
    for order, root, path in files:
        recipe, found = read_recipe(path, order=order)
        problems += found
        if recipe:
            recipes.append(recipe)
            problems += _misnamed(root, path, recipe)
    return with_records(recipes), problems + _repeated(recipes)


def _misnamed(root: Path, path: Path, recipe: Recipe) -> list[Problem]:
    """Path = id: the file is called like its recipe, and lies in its model's folder."""
    item = f"recipe {recipe.recipe_id}"
    problems = []
    if path.stem != recipe.recipe_id:
        problems.append(Problem(file=str(path), item=item, key="recipe_id", kind="place",
                                sentence=f"must be the file's name, {path.stem}"))  # fmt: skip
    place = path.parent.relative_to(root).as_posix()
    expected = ANY_MODEL if place.split("/")[0] == FAMILIES else place
    # a folder of loose files (given to validate, say) has no model folders; then nothing can be compared
    if place != "." and recipe.model_id != expected:
        sentence = f'must be that of its folder, "{expected}", found "{recipe.model_id}"'
        problems.append(Problem(file=str(path), item=item, key="model_id", kind="place", sentence=sentence))
    return problems


def _misplaced(root: Path, path: Path, card: ModelCard | None) -> list[Problem]:
    place = path.relative_to(root).with_suffix("").as_posix()
    if card is None or "/" not in place or card.model_id == place:
        return []
    return [Problem(file=str(path), item=f"model {card.model_id}", key="model_id", kind="place",
                    sentence=f'must be its path, "{place}"')]  # fmt: skip


def _repeated(recipes: list[Recipe]) -> list[Problem]:
    """Two recipes with one id in one search folder."""
    seen: dict[tuple[int, str], Recipe] = {}
    problems = []
    for recipe in recipes:
        other = seen.setdefault((recipe.order, recipe.recipe_id), recipe)
        if other is not recipe:
            problems.append(Problem(file=recipe.file, item=f"recipe {recipe.recipe_id}", key="recipe_id",
                                    kind="repeated", sentence=f"is taken already, by {other.file}"))  # fmt: skip
    return problems


def _first_of_each(recipes: list[Recipe]) -> tuple[list[Recipe], list[str]]:
    """The first recipe of each id in search order, and a note for each that another one hides."""
    kept: dict[str, Recipe] = {}
    notes = []
    for recipe in sorted(recipes, key=lambda r: (r.order, r.recipe_id)):
        first = kept.setdefault(recipe.recipe_id, recipe)
        if first is not recipe:
            notes.append(f"recipe {recipe.recipe_id}: {first.file} is used instead of {recipe.file}")
    return list(kept.values()), notes


def _read_card(model_id: str, folders: CatalogFolders) -> tuple[ModelCard | None, list[Problem]]:
    for root in folders.models:
        if not is_folder(root):
            raise CatalogError(
                f"the models folder {root} is not there or is not a folder",
                hint="set AIM_MODELS_DIR to a folder that holds <org>/<model>.yaml",
            )
    for root in folders.models:
        path = root / f"{model_id}.yaml"
        if ".." in Path(model_id).parts or not os.path.lexists(path):
            continue
        card, problems = read_model_card(path)
        if card and card.model_id != model_id:
            problems = [*problems, Problem(file=str(path), item=f"model {card.model_id}", key="model_id", kind="place",
                                           sentence=f'must be its path, "{model_id}"')]  # fmt: skip
        return (replace(card, file=str(path)) if card else None), problems
    return None, []


def raise_if(problems: list[Problem]) -> None:
    if problems:
        files = len({problem.file for problem in problems})
        where = "" if files == 1 else f" in {files} files"
        count = "an error in" if len(problems) == 1 else f"{len(problems)} errors{where}, the first in"
        raise CatalogError(
            f"{count} {problems[0]}",
            hint="mend the file; aim-engine validate checks all of them",
            details=tuple(str(problem) for problem in problems),
        )
