"""The Python API. For now its heart: `decide`, from request to plan, asking disk and hardware.

Everything it calls is a function from values to a value; only this file and the two ends touch the world.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from aim_engine.backends.registry import backend
from aim_engine.catalog.hub import cached_folder, card_from_folder, card_from_hub
from aim_engine.catalog.load import Catalog, catalog_folders, load_catalog, nearest_models
from aim_engine.errors import HubUnreachableError, ModelAccessError
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Inventory, Surroundings
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request
from aim_engine.selection.candidate import gpus_of_type


def decide(request: Request) -> Plan | Refusal:
    """The plan for a request on the hardware that is here or declared.

    Raises:
        AimError: the request, the catalogue, the hardware or the model is wrong in a way no recipe could mend.
    """
    inventory = look(request)
    catalog = know(request, inventory)
    engine = backend(request.backend).find(tuple(sys.path), sys.executable)
    return make_plan(request, inventory, catalog, engine)


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


def know(request: Request, inventory: Inventory) -> Catalog:
    """The recipes for the asked model and its card: from the catalogue, or else from the checkpoint itself."""
    folder = request.model_folder
    model_id = None if folder is not None else request.required_model
    catalog = load_catalog(model_id, catalog_folders(request.recipes_dir, request.models_dir))
    if catalog.card is not None:
        return catalog
    if folder is not None:
        return replace(catalog, card=card_from_folder(folder, request.required_model))
    if not any(gpus_of_type(inventory, recipe.gpu_type) for recipe in catalog.recipes):
        return catalog  # nothing here could serve it anyway: do not ask the network
    cached = cached_folder(request.required_model, hub_cache(request))
    if cached is not None:
        return replace(catalog, card=card_from_folder(cached, request.required_model))
    if request.offline:
        return catalog
    try:
        return replace(catalog, card=card_from_hub(request.required_model, token=request.hf_token))
    except (HubUnreachableError, ModelAccessError) as error:
        unheard = isinstance(error, HubUnreachableError)  # then it may well exist
        near = nearest_models(request.required_model, catalog.known_models, misspelt=unheard)
        if not near:
            raise
        raise type(error)(error.message, hint=f"did you mean {near[0]}? {error.hint}") from None


def hub_cache(request: Request) -> Path:
    """The Hugging Face cache the engine will use: the user's own variables first, then AIM_CACHE_DIR."""
    own = request.environment.get("HF_HUB_CACHE")
    return Path(own) if own else Path(request.environment.get("HF_HOME") or request.cache_dir) / "hub"
