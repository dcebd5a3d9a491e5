"""`aim-engine recipe explain RECIPE`: why a recipe would or would not be chosen on this or declared hardware, and what
each of its settings means and where it comes from.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from aim_engine.backends.base import ServerCommand
from aim_engine.backends.meanings import meaning
from aim_engine.catalog.find import find_recipe
from aim_engine.catalog.load import Catalog, catalog_folders
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.cli.arguments import FITTING, add_settings, typed_flags
from aim_engine.cli.recipe_show import shown
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import know, look
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal, candidates_json, make_plan
from aim_engine.report import Paint, table, whys
from aim_engine.request import Request, read_request
from aim_engine.resolved import resolve
from aim_engine.selection.candidate import Judged
from aim_engine.selection.standing import as_it_stands

_EXAMPLES = """examples:
  aim-engine recipe explain qwen3-32b-mi300x-fp8 --hardware MI300X:4
  aim-engine recipe explain cpu-any-bf16 --model Qwen/Qwen3-0.6B --json
"""
_ASKED = FITTING | {"gpu_count", "metric", "min_evidence"}
_SOME_MODEL = "any/model"


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """One option or variable of the engine, with who gave it and what it does."""

    kind: Literal["args", "env"]
    name: str
    value: Any
    origin: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class _Explanation:
    """Every verdict on the recipe's placements, best first, and the settings of the variant that came nearest."""

    recipe: Recipe
    outcome: Plan | Refusal
    judged: list[Judged]
    nearest: Variant
    settings: list[_Setting]

    @property
    def chosen(self) -> Judged | None:
        """The placement that is served, if it is one of the recipe's."""
        winner = self.outcome.winner if isinstance(self.outcome, Plan) else None
        return next((one for one in self.judged if one.candidate is winner), None)

    def as_json(self) -> dict[str, Any]:
        """`{recipe_id, file, chosen, chosen_instead, candidates, gpu_count, settings: [{kind, name, value, ...}]}`; the
        settings are those of the variant for `gpu_count` GPUs.
        """
        winner = self.outcome.winner if isinstance(self.outcome, Plan) else None
        return {
            "recipe_id": self.recipe.recipe_id,
            "file": self.recipe.file,
            "chosen": self.chosen is not None,
            "chosen_instead": winner.recipe.recipe_id if winner and self.chosen is None else None,
            "candidates": candidates_json(tuple(self.judged), winner),
            "gpu_count": self.nearest.gpu_count,
            "settings": [asdict(one) for one in self.settings],
        }


def add_to(actions: Any) -> None:
    parser = actions.add_parser("explain", help="why it would be chosen or not, and what it says",
                                description=__doc__, epilog=_EXAMPLES)  # fmt: skip
    parser.add_argument("recipe_id", metavar="RECIPE", help="a recipe's id, or its file")
    parser.add_argument("--model", metavar="MODEL", help="for a recipe that serves any model: which")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser, only=frozenset(_ASKED))


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    asked = read_request(typed_flags(arguments), environment)
    recipe = find_recipe(arguments.recipe_id, catalog_folders(asked.recipes_dir, asked.models_dir))
    model = (asked.model or _SOME_MODEL) if recipe.is_family else recipe.model_id
    request = replace(asked, model=model, recipe=None)
    inventory = look(request)
    catalog = _with(know(replace(request, offline=True), inventory), recipe)
    outcome = make_plan(request, inventory, catalog)
    judged = [one for one in outcome.judged if one.candidate.recipe.recipe_id == recipe.recipe_id]
    nearest = judged[0].candidate.variant
    told = _Explanation(recipe=recipe, outcome=outcome, judged=judged, nearest=nearest,
                        settings=_settings(nearest, recipe, request, inventory, catalog))  # fmt: skip
    if arguments.json:
        terminal.result_json(told.as_json())
    else:
        terminal.result(_page(told, terminal.paint))
    return 0


def _with(catalog: Catalog, recipe: Recipe) -> Catalog:
    """The catalogue with this recipe in the place of any other of its id."""
    others = tuple(one for one in catalog.recipes if one.recipe_id != recipe.recipe_id)
    return replace(catalog, recipes=(recipe, *others))


def _settings(
    variant: Variant, recipe: Recipe, request: Request, inventory: Inventory, catalog: Catalog
) -> list[_Setting]:
    """Those of the variant as it would run here, or, where it cannot, as it would on hardware of its own."""
    alone = replace(catalog, recipes=(replace(recipe, variants=(variant,)),))
    outcome = make_plan(request, inventory, alone)
    if isinstance(outcome, Plan):
        command: ServerCommand | None = outcome.command
    else:
        (found,) = resolve(replace(recipe, variants=(variant,)), catalog.card)
        command = found.command
    if command is None:
        args, env, origins = dict(variant.args), dict(variant.env), {}
    else:
        args, env, origins = dict(command.options), dict(command.env), dict(command.origins)
    mine = f"recipe {recipe.recipe_id}"
    return [
        *(_setting("args", variant, name, value, origins.get(f"--{name}", mine)) for name, value in args.items()),
        *(_setting("env", variant, name, value, origins.get(name, mine)) for name, value in env.items()),
    ]


def _setting(kind: Literal["args", "env"], variant: Variant, name: str, value: Any, origin: str) -> _Setting:
    return _Setting(kind=kind, name=name, value=value, origin=origin, meaning=meaning(variant.backend, kind, name))


def _page(told: _Explanation, paint: Paint) -> str:
    chosen, nearest = told.chosen, told.nearest
    lines = [paint("strong", _standing(told)), f"  {told.recipe.file}", ""]
    if chosen is not None:
        lines += [paint("strong", f"Why on {chosen.candidate.gpu_count}")]
        lines += [f"  {paint('good', '✓')} {verdict.rule}: {verdict.sentence}" for verdict in chosen.verdicts] + [""]
    others = [one for one in told.judged if one is not chosen]
    if others:
        lines += [paint("strong", "Why not otherwise" if chosen else "Why not"), *whys(others, paint), ""]
    lines += [paint("strong", f"What it says for {nearest.gpu_count} x {told.recipe.gpu_type}"),
              f"  evidence {as_it_stands(nearest.evidence, None).in_words()}", ""]  # fmt: skip
    rows = [(one.name, shown(one.value), one.origin, one.meaning or "–") for one in told.settings]
    header = ("setting", "value", "from", "what it does")
    return "\n".join([*lines, *(f"  {line}" for line in table([header, *rows], paint))])


def _standing(told: _Explanation) -> str:
    outcome, name = told.outcome, told.recipe.recipe_id
    if isinstance(outcome, Refusal):
        return f"{name} is not chosen: {outcome.error.message}"
    here = outcome.inventory.in_words()
    if told.chosen is not None:
        return f"{name} is chosen on {here}"
    return f"{name} is not chosen on {here}: {outcome.recipe_id} is"
