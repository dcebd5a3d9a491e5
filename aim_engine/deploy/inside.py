"""What the container is told, so that it plans again and comes to the same plan: a plan in; variables, variables
passed through by name, and mounts out.

Paths of the host become paths of the container here. Reads nothing; knows no Docker.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aim_engine.errors import InputError
from aim_engine.plan import Plan
from aim_engine.request import SETTINGS, Request, Setting, log_name

API_PORT, HEALTH_PORT = 8000, 8080  # inside; what the image exposes. AIM_PORT and AIM_HEALTH_PORT are the host's
ENTRYPOINT = "/opt/aim-engine/entrypoint"
CACHE_FOLDER = "/workspace/model-cache"
CACHE_VOLUME = "aim-engine-cache"
LOG_FOLDER = "/workspace/logs"

# Files and folders of the host that a setting names, and where the container finds them, read-only.
MOUNTED = {
    "recipes_dir": "/config/recipes",
    "models_dir": "/config/models",
    "tls_cert": "/config/tls/cert.pem",
    "tls_key": "/config/tls/key.pem",
}
# Settings that mean something else in the container, and are said in another way or not at all: the ports and the
# address are published, the folders mounted, the hardware is what the container has.
_NOT_SAID = {
    "model", "recipe", "gpu_count", "host", "port", "health_port", "cache_dir", "state_dir", "image_cache", "hardware",
    "port_range", "engine_registry", "log_dir", "log_name", "node_rank", "leader_address", *MOUNTED,
}  # fmt: skip
# A container without GPUs still sees the host's in /sys, and would take it for an error that it cannot open them; so
# where the plan is for the CPU it is told so.
_HARDWARE = {"cpu": "cpu"}
_VARIABLE = re.compile(r"[^\s=\0][^=\0]*")
_SNAPSHOT = re.compile(r"(.*/models--[^/]+)/(snapshots/[^/]+)/?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A named volume (`source` without a slash) or a file or folder of the host, and where the container sees it."""

    source: str
    target: str
    read_only: bool = False

    @property
    def is_volume(self) -> bool:
        return not self.source.startswith("/")


@dataclass(frozen=True, kw_only=True)
class PassedVariable:
    """A variable whose value is taken from whoever starts the container, and is written nowhere. A `required` one
    was set when the plan was made: without it the container would be another one (open to all, for instance).
    """

    name: str
    required: bool


def environment(plan: Plan) -> dict[str, str]:
    """The container's variables: the model, the recipe pinned, the number of GPUs, every setting that was given, the
    user's own values of variables that the recipe sets, and what a configure hook set.
    """
    request, winner = plan.request, plan.winner
    hardware = _HARDWARE.get(winner.gpus[0].vendor)
    said = {"AIM_MODEL": model_place(request)[0], "AIM_RECIPE": plan.recipe_id}
    said |= {"AIM_HARDWARE": hardware} if hardware else {"AIM_GPU_COUNT": str(winner.gpu_count)}
    said |= {"AIM_CACHE_DIR": CACHE_FOLDER}
    for setting in SETTINGS:
        target = MOUNTED.get(setting.field)
        if target and getattr(request, setting.field) is not None:
            said[setting.variable] = target
        elif _is_said(request, setting):
            said[setting.variable] = as_text(setting, getattr(request, setting.field))
    names = {*winner.variant.env, *request.hooked} & request.environment.keys()
    own = {name: request.environment[name] for name in sorted(names)}
    return {**own, **said}


def on_the_host_s_network(plan: Plan) -> dict[str, str]:
    """What is said besides where no port is published, because the container listens on the host's own."""
    request = plan.request
    return {"AIM_HOST": request.host, "AIM_PORT": str(request.port), "AIM_HEALTH_PORT": str(request.health_port)}


def log_variables(plan: Plan, container: str) -> dict[str, str]:
    """Where all that is written goes besides, under the container's name unless another was given; nothing where no
    folder was named.
    """
    if plan.request.log_dir is None:
        return {}
    return {"AIM_LOG_DIR": LOG_FOLDER, "AIM_LOG_NAME": plan.request.log_name or container}


def log_file(folder: str | None, variables: Mapping[str, str]) -> str | None:
    """The way back: the file in the host's folder that is a container's AIM_LOG_DIR, by the container's variables."""
    if folder is None:
        return None
    port = variables.get("AIM_PORT", "")
    name = variables.get("AIM_LOG_NAME") or log_name(
        variables.get("AIM_MODEL"), int(port) if re.fullmatch(r"\d{1,5}", port, re.ASCII) else API_PORT
    )
    return os.path.join(folder, f"{name}.log")  # noqa: PTH118 - the host's


def checked_variables(extra: Mapping[str, str], *, giver: str = "--env") -> dict[str, str]:
    """Further variables for the container, as typed, or as a program gave them.

    Raises:
        InputError: a name cannot be one, is a setting's (whose flag says it better), or a value holds a NUL.
    """
    settings = {name: setting for setting in SETTINGS for name in (*setting.variables, setting.file_variable) if name}
    for name, value in extra.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise InputError(f"{giver} {name[:80]!r} cannot be a variable of a container", hint="use --env NAME=VALUE")
        if name in settings:
            secret, flag = settings[name].secret, settings[name].flag
            remedy = f"set {name} in your own environment" if secret else f"use {flag}"
            raise InputError(f"{giver} {name}: that is a setting of AIM Engine", hint=remedy)
    return dict(extra)


def _is_said(request: Request, setting: Setting) -> bool:
    given = request.origins.get(setting.field, "default") != "default"
    return given and not setting.secret and setting.field not in _NOT_SAID


def as_text(setting: Setting, value: Any) -> str:
    """A setting's value as it would be typed; `setting.parse` reads it back."""
    if value is None:
        return setting.default or ""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def passed_variables(plan: Plan) -> tuple[PassedVariable, ...]:
    """The secrets, and the hub's address where one was set (it may hold a password)."""
    request = plan.request
    found = [
        # a key that was given and then forgotten would leave the API open, so that is an error; a missing token is not
        PassedVariable(name=setting.variable, required=setting.field == "api_key" and request.api_key is not None)
        for setting in SETTINGS
        if setting.secret
    ]
    if request.environment.get("HF_ENDPOINT"):
        found.append(PassedVariable(name="HF_ENDPOINT", required=True))
    return tuple(found)


def mounts(plan: Plan) -> Iterator[Mount]:
    """The cache, the logs, the model where it is a folder, and the files and folders that settings name."""
    request = plan.request
    yield Mount(source=_absolute(request.cache_dir) if _own_cache(request) else CACHE_VOLUME, target=CACHE_FOLDER)
    if request.log_dir is not None:
        yield Mount(source=_absolute(request.log_dir), target=LOG_FOLDER)
    model = model_place(request)[1]
    if model is not None:
        yield model
    yield from _mounts_of_files(request, MOUNTED)


def tls_mounts(request: Request) -> Iterator[Mount]:
    """The certificate and its key, where the request has them."""
    return _mounts_of_files(request, ("tls_cert", "tls_key"))


def _mounts_of_files(request: Request, names: Iterable[str]) -> Iterator[Mount]:
    for name in names:
        path = getattr(request, name)
        if path is not None:
            yield Mount(source=_absolute(path), target=MOUNTED[name], read_only=True)


def _own_cache(request: Request) -> bool:
    """Whether the user named a folder for the cache: the image sets the variable itself, to a place of its own."""
    origin = request.origins.get("cache_dir", "default")
    of_the_image = origin == "environment" and in_the_image(request) and str(request.cache_dir) == CACHE_FOLDER
    return origin != "default" and not of_the_image


def in_the_image(request: Request) -> bool:
    """Whether we run in the image, whose paths are not the host's: it alone sets AIM_IMAGE_CACHE."""
    return request.image_cache is not None


def visibility(plan: Plan) -> dict[str, str]:
    """The settings that chose among the GPUs, for a container that sees all of them too."""
    pairs = (setting.partition("=") for setting in plan.inventory.visibility)
    return {name: text for name, _, text in pairs}


def model_place(request: Request) -> tuple[str, Mount | None]:
    """AIM_MODEL inside, and the mount it needs: a hub id is itself, a folder is /models/<its name>.

    The files of a snapshot in a Hugging Face cache are links to ../../blobs (huggingface_hub, "Understand caching"),
    so there the whole model's folder is mounted and the snapshot named below it.
    """
    if request.model_folder is None:
        return request.required_model, None
    folder = _absolute(request.model_folder)
    snapshot = _SNAPSHOT.fullmatch(folder)
    source, rest = (snapshot[1], f"/{snapshot[2]}") if snapshot else (folder, "")
    target = f"/models/{Path(source).name or 'model'}"
    return target + rest, Mount(source=source, target=target, read_only=True)


def served_names(plan: Plan) -> tuple[str, ...]:
    """The names that the API there takes for the model; the first is the one to tell."""
    place, mount = model_place(plan.request)
    return plan.command.served_names if mount is None else (Path(place).name, place)


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - takes out "..", which Path.absolute leaves in
