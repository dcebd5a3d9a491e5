"""Recipes and model cards of the user's own on their way into a pod: a plan in, the files that it was made from out.

Reads the recipe that was chosen and the model's card, where they are in AIM_RECIPES_DIR and AIM_MODELS_DIR; nothing
else of these folders concerns the pod, whose recipe is pinned.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aim_engine.errors import InputError
from aim_engine.plan import Plan

_LARGEST = 900_000  # a ConfigMap holds 1 MiB (kubernetes.io, "ConfigMaps")


@dataclass(frozen=True, kw_only=True)
class OwnFile:
    """`field` is the setting whose folder it is in, `path` where below that, `key` its name in the ConfigMap."""

    field: str
    key: str
    path: str
    text: str


def own_files(plan: Plan) -> tuple[OwnFile, ...]:
    """The files, or nothing.

    Raises:
        InputError: one of them cannot be read any more, or is too large for a ConfigMap.
    """
    request, found = plan.request, []
    if request.recipes_dir is not None and plan.winner.recipe.file:
        found += _below("recipes_dir", "recipe.yaml", request.recipes_dir, Path(plan.winner.recipe.file))
    if request.models_dir is not None and request.model_folder is None:
        found += _below("models_dir", "model.yaml", request.models_dir, request.models_dir / f"{plan.model}.yaml")
    return tuple(found)


def digest(files: tuple[OwnFile, ...]) -> str:
    """Twelve digits by which a pod is told from one with other files."""
    texts = "\0".join(f"{one.path}\0{one.text}" for one in files)
    return hashlib.sha256(texts.encode()).hexdigest()[:12]


def _below(field: str, key: str, folder: Path, file: Path) -> list[OwnFile]:
    if not file.is_relative_to(folder) or not file.is_file():
        return []
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", hint="make it readable, in UTF-8") from None
    if len(text) > _LARGEST:
        raise InputError(f"{file} is too large for a ConfigMap", hint="build an image with it")
    return [OwnFile(field=field, key=key, path=file.relative_to(folder).as_posix(), text=text)]
