"""Which checkpoint a candidate would serve, and which revision of it: a request, what is known and a recipe in, names
out. Chooses nothing.
"""

from __future__ import annotations

from aim_engine.catalog.load import Catalog
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.errors import InputError
from aim_engine.request import Request
from aim_engine.values import RefusedError, is_hub_id, revision_text


def checkpoint_of(request: Request, recipe: Recipe) -> str:
    """A hub id, or the path of a folder."""
    folder = request.model_folder
    if folder is not None:
        return str(folder.absolute())
    return request.required_model if recipe.is_family else recipe.huggingface_id


def revision_of(request: Request, catalog: Catalog, recipe: Recipe, variant: Variant) -> str | None:
    """The commit that the plan's numbers are from, else the revision that was asked for; None for the recipe's own or
    for whatever is newest, and for another checkpoint than the one asked for.
    """
    checkpoint, read = checkpoint_of(request, recipe), catalog.checkpoint
    if not is_hub_id(checkpoint) or checkpoint != request.model:
        return None
    pinned = read.revision if read is not None else None
    return (pinned or request.revision) if request.revision or "revision" not in variant.args else None


def asked_revision(request: Request) -> str:
    """The revision to read: the setting's, else the engine option's.

    Raises:
        InputError: the option's value is no revision.
    """
    option = dict(request.engine_args).get("revision")
    if request.revision is not None or option is None:
        return request.revision or "main"
    try:
        return revision_text(option)
    except (RefusedError, TypeError, AttributeError):
        raise InputError(
            "AIM_ENGINE_ARGS: revision must be a branch, a tag or a commit", hint="use AIM_REVISION"
        ) from None
