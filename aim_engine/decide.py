"""From request to plan: a `Request` in, a `Plan` or a `Refusal` out, asking disk, hardware and the hub on the way.

Everything it calls is a function from values to a value; only this file and the two ends touch the world.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aim_engine.backends.registry import backend as find_backend
from aim_engine.catalog.checkpoint import HUB, Checkpoint
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.hub_cache import cached_folder, commit_of, remember
from aim_engine.catalog.load import Catalog, catalog_folders, load_catalog, nearest_models
from aim_engine.catalog.remembered import recall
from aim_engine.deriving import missing_recipes, products_of, spare_recipes, with_checkpoints
from aim_engine.errors import DoesNotFitError, HubUnreachableError, InputError, ModelAccessError, NoRecipeError
from aim_engine.hardware.detect import detect
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Inventory, Surroundings
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request
from aim_engine.selection.candidate import Judged, gpus_of_type
from aim_engine.selection.select import Chooser
from aim_engine.selection.served import asked_revision
from aim_engine.values import is_hub_id

# What a program would have otherwise in a plan: the request with its changes.
Configure = Callable[[Plan], Request]
# Told how many of a hub model's files have been read of how many.
Progress = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Nobody wants to be told."""


def decide(
    request: Request,
    *,
    to_serve: bool = False,
    chooser: Chooser | None = None,
    configure: Configure | None = None,
    progress: Progress = _nobody,
) -> Plan | Refusal:
    """The plan for a request on the hardware that is here or declared. With `to_serve` it can be had here and now: the
    checkpoint is in the cache, or the hub answers; where only the first is true, it is served without the network.

    Raises:
        AimError: the request, the catalogue, the hardware or the model is wrong in a way no recipe could mend.
    """
    inventory = look(request)
    catalog = know(request, inventory, progress)
    engine = find_backend(request.backend).find(tuple(sys.path), sys.executable)
    plan = planned(request, inventory, catalog, engine, chooser=chooser, configure=configure)
    if isinstance(plan, Refusal) or not is_hub_id(plan.checkpoint):
        return plan
    if not to_serve or plan.inventory.declared or plan.engine is None:  # and so it cannot be served anyway
        return _with_doubts(plan)
    if (read := catalog.checkpoint) is not None and read.source == HUB and read.revision:
        remember(read.model_id, hub_cache(request), asked_revision(request), read.revision)
    reason = _why_offline(plan, heard=catalog.card is not None and catalog.card.source == HUB)
    if reason is None:
        return plan
    told = replace(catalog, notes=(*catalog.notes, reason))
    alone = replace(request, offline=True)
    return planned(alone, inventory, told, engine, chooser=chooser, configure=configure)


def survey(request: Request, inventory: Inventory, *, chooser: Chooser | None = None) -> Plan | Refusal:
    """Every candidate for the model, judged for what the hardware could do: whichever engine is installed, and without
    asking the hub.
    """
    return make_plan(request, inventory, know(replace(request, offline=True), inventory), chooser=chooser)


def planned(
    request: Request,
    inventory: Inventory,
    catalog: Catalog,
    engine: Engine | None = None,
    *,
    chooser: Chooser | None = None,
    configure: Configure | None = None,
) -> Plan | Refusal:
    """`make_plan`; where somebody configures the plan, made again with that, of the same recipe on as many GPUs, so
    that its memory and its warnings are those of what will run.

    Raises:
        InputError: the configuration cannot be had.
    """

    def make(known: Catalog) -> Plan | Refusal:
        return make_plan(request, inventory, known, engine, chooser=chooser)

    plan = make(catalog)
    if isinstance(plan, Refusal):
        plan, catalog = _with_made_ones(plan, request, inventory, catalog, make)
    if configure is None or isinstance(plan, Refusal):
        return plan
    changed = configure(plan)
    if changed is plan.request:
        return plan
    again = make_plan(changed, inventory, catalog, engine, chooser=_the_same(plan))
    if isinstance(again, Plan):
        _check_configured(again)
    return again


def _with_made_ones(
    refusal: Refusal,
    request: Request,
    inventory: Inventory,
    catalog: Catalog,
    make: Callable[[Catalog], Plan | Refusal],
) -> tuple[Plan | Refusal, Catalog]:
    """Where no recipe does, one made of the model's own numbers may: for another number of GPUs, say, or with less
    context. If none does either, the refusal that has numbers.
    """
    made = spare_recipes(catalog, request, inventory)
    if request.recipe is not None:  # by a plan that came to one of these, in its container for instance
        made = tuple(one for one in made if one.recipe_id == request.recipe)
    if not made or not (request.recipe or isinstance(refusal.error, DoesNotFitError | NoRecipeError)):
        return refusal, catalog
    note = f"no recipe of this model does here ({refusal.error.message}), so one made of its own numbers is used"
    wide = replace(catalog, recipes=(*catalog.recipes, *made), notes=(*catalog.notes, note))
    again = make(wide)
    if isinstance(again, Refusal) and not isinstance(again.error, DoesNotFitError):
        return refusal, catalog
    return again, wide


def _the_same(plan: Plan) -> Chooser:
    recipe, count = plan.recipe_id, plan.winner.gpu_count

    def choose(offered: tuple[Judged, ...]) -> Judged:
        for one in offered:
            if (one.candidate.recipe.recipe_id, one.candidate.gpu_count) == (recipe, count):
                return one
        raise InputError(
            f"with what the configure hook set, {plan.winner.in_words()} cannot be served any more",
            hint="give the same options as AIM_ENGINE_ARGS, and aim-engine plan says why",
        )

    return Chooser(name=plan.chosen_by, choose=choose)


def _check_configured(plan: Plan) -> None:
    """What AIM Engine sets itself wins over the same option of a user's; of a hook's that would go unnoticed."""
    wanted = {**plan.request.environment, **plan.request.engine_args}
    there = {**plan.command.env, **plan.command.options}
    for name in sorted(plan.request.hooked):
        got, asked = there.get(name), wanted[name]
        if got != asked and not (isinstance(got, list) and isinstance(asked, list) and set(asked) <= set(got)):
            raise InputError(f"the configure hook: {name} is for AIM Engine to set, and is {got}", hint="leave it")


class Planner:
    """Plans for what a host's containers leave. The catalogue is read once; the engine is the image's, not known
    here.
    """

    def __init__(self, *, chooser: Chooser | None = None, configure: Configure | None = None) -> None:
        self._chooser, self._configure = chooser, configure
        self._catalog: Catalog | None = None

    def __call__(self, request: Request, inventory: Inventory) -> Plan | Refusal:
        if self._catalog is None:
            # a container's cache is a volume unless a folder was named: what is kept here is of other engines
            named = request.origins.get("cache_dir", "default") != "default"
            found = know(request, inventory)
            self._catalog = found if named else replace(found, measurements=())
        return planned(request, inventory, self._catalog, chooser=self._chooser, configure=self._configure)


def _with_doubts(plan: Plan) -> Plan:
    """The plan with a warning, where it could not be served for want of a network. Only the disk is asked."""
    if not _offline_by(plan.request) or plan.inventory.declared:
        return plan
    try:
        _why_offline(plan, heard=True)
    except ModelAccessError as error:
        return replace(plan, warnings=(*plan.warnings, f"{error.message}; remedy: {error.hint}"))
    return plan


def _why_offline(plan: Plan, *, heard: bool) -> str | None:
    """The reason to serve what the cache holds without the network, if there is one."""
    from aim_engine.catalog.hub_access import why_offline  # here: most plans are of no hub's model, or only shown

    request, argv = plan.request, plan.command.argv
    return why_offline(
        plan.checkpoint,
        hub_cache(request),
        environment=request.environment,
        offline=_offline_by(request),
        heard=heard,
        revision=plan.revision or "main",
        asked=asked_revision(request),
        tokenizer=not {"--tokenizer", "--skip-tokenizer-init"} & set(argv),
    )


def _offline_by(request: Request) -> str:
    """The setting that forbids the network; the others are read as the hub's client does (its constants.py)."""
    if request.offline:
        return "AIM_OFFLINE=1"
    name = "HF_HUB_OFFLINE" if request.environment.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    own = request.environment.get(name, "")
    return f"{name}={own}" if own.upper() in ("1", "ON", "YES", "TRUE") else ""


def look(request: Request) -> Inventory:
    """What is here, or declared."""
    surroundings = Surroundings(environment=request.environment, timeout_seconds=request.detect_timeout)
    return detect(_wish(request), surroundings)


def _wish(request: Request) -> str:
    """The hardware asked for; a product's name alone means as many of it as GPUs were asked for."""
    wish = request.hardware
    if wish.lower() == "auto":  # what AMD's own charts write for "detect"
        return "detect"
    bare = wish.lower() not in ("detect", "cpu") and ":" not in wish and not os.path.exists(wish)  # noqa: PTH110 - says no where Path.exists raises
    return f"{wish}:{request.gpu_count}" if bare and request.gpu_count else wish


def know(request: Request, inventory: Inventory, progress: Progress = _nobody) -> Catalog:
    """The recipes for the asked model and its card: from the catalogue, or else from the checkpoint itself; for GPUs
    that none of them is for, and for a precision that none of them has, one made of the card. And what was measured on
    this machine.
    """
    catalog = _known(request, inventory, progress)
    if inventory.declared or request.forget:
        return catalog
    own = str(request.model_folder.absolute()) if request.model_folder else request.required_model
    found, notes = recall(request.cache_dir, {own, *(recipe.huggingface_id for recipe in catalog.recipes)})
    return replace(catalog, measurements=found, notes=(*catalog.notes, *notes))


def _known(request: Request, inventory: Inventory, progress: Progress) -> Catalog:
    catalog = _what_is_written(request)
    here = products_of(inventory)
    served = bool(here) or any(gpus_of_type(inventory, recipe.gpu_type) for recipe in catalog.recipes)
    catalog = _with_card(catalog, request, progress, may_be_served=served)
    if catalog.card is None:
        return catalog
    catalog = replace(catalog, card=with_checkpoints(catalog.card, catalog.recipes))
    return replace(catalog, recipes=(*catalog.recipes, *missing_recipes(catalog, request, inventory)))


def _what_is_written(request: Request) -> Catalog:
    """The recipes and the card of the catalogue. A folder's model has neither but the families'."""
    folder = request.model_folder
    if folder is not None and request.revision is not None:
        raise InputError(f"AIM_REVISION={request.revision} is for a hub's model, and {folder} is a folder",
                         hint="leave it out, or name the model's id")  # fmt: skip
    model_id = None if folder is not None else request.required_model
    return load_catalog(model_id, catalog_folders(request.recipes_dir, request.models_dir))


def _with_card(catalog: Catalog, request: Request, progress: Progress, *, may_be_served: bool) -> Catalog:
    if catalog.card is not None and catalog.card.architecture is not None:
        return catalog
    if request.model_folder is not None:
        return _with(catalog, _read(request.model_folder, request))
    if not may_be_served:
        return catalog  # nothing here could serve it anyway: do not ask the network
    cached = cached_folder(request.required_model, hub_cache(request), asked_revision(request))
    if cached is not None:
        return _with(catalog, _read(cached, request, commit_of(cached)))
    return catalog if _offline_by(request) else _heard_of(request, catalog, progress)


def _heard_of(request: Request, catalog: Catalog, progress: Progress) -> Catalog:
    """With what the hub says of the model; a card without numbers does for a hub that does not answer."""
    try:
        return _with(catalog, _ask_hub(request, progress))
    except (HubUnreachableError, ModelAccessError) as error:
        unheard = isinstance(error, HubUnreachableError)  # then it may well exist
        if catalog.card is not None and unheard:
            return catalog
        near = nearest_models(request.required_model, catalog.known_models, misspelt=unheard)
        if not near:
            raise
        raise type(error)(error.message, hint=f"did you mean {near[0]}? {error.hint}") from None


def _read(folder: Path, request: Request, revision: str | None = None) -> Checkpoint:
    from aim_engine.catalog.model_files import checkpoint_in  # here: most plans are of what is known

    return checkpoint_in(folder, request.required_model, revision=revision)


def _ask_hub(request: Request, progress: Progress) -> Checkpoint | None:
    from aim_engine.catalog.hub import checkpoint_at_hub  # here: most plans are of what is known or cached

    return checkpoint_at_hub(
        request.required_model,
        token=request.hf_token,
        environment=request.environment,
        revision=asked_revision(request),
        seconds=request.hub_timeout,
        told=progress,
    )


def _with(catalog: Catalog, checkpoint: Checkpoint | None) -> Catalog:
    return replace(catalog, checkpoint=checkpoint, card=card_of(checkpoint)) if checkpoint else catalog


def hub_cache(request: Request) -> Path:
    """The Hugging Face cache the engine will use: the user's own variables first, then AIM_CACHE_DIR."""
    own = request.environment.get("HF_HUB_CACHE")
    return Path(own) if own else Path(request.environment.get("HF_HOME") or request.cache_dir) / "hub"
