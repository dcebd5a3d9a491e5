"""The image to launch: its name, and that it is there. A plan, a request and a client in; the image pulled if it is
absent, with what has come so far. Knows no container.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.devices import access_of
from aim_engine.deploy.docker import guarded
from aim_engine.deploy.names import checked_image
from aim_engine.errors import DockerError
from aim_engine.plan import Plan

if TYPE_CHECKING:
    from docker import DockerClient

# distribution/reference, normalize.go: what has a dot, or is localhost, is a host
_HOST_AND_PORT = re.compile(r"(localhost|[^:]*\.[^:]*):\d{1,5}", re.ASCII)

_REMEDY = "check the image's name, docker login, or scripts/build; --image and AIM_ENGINE_REGISTRY name another"

OnPull = Callable[[int, int, str], None]  # bytes that have come, bytes known of, and in words


def image_name(plan: Plan, asked: str | None, own: Callable[[], str | None] = lambda: None) -> str:
    """The image that was asked for; else AIM_ENGINE_REGISTRY, where that is a whole image, or with the name of the
    image for the planned devices behind it; else `own`, the one that we run from; else the name alone.

    Raises:
        InputError: it cannot be an image.
    """
    if asked is not None:
        return checked_image(asked)
    registry = plan.request.engine_registry
    name = access_of(plan).image
    if not registry:
        return own() or name
    return checked_image(registry if _is_whole(registry) else f"{registry.rstrip('/')}/{name}")


def _is_whole(registry: str) -> bool:
    """Whether a tag or a digest says that it names an image; `registry.example.com:5000` is a host with its port."""
    host, slash, _ = registry.partition("/")
    if not slash and _HOST_AND_PORT.fullmatch(host):
        return False
    return "@" in registry or ":" in registry.rpartition("/")[2]


def is_here(client: DockerClient, image: str) -> bool:
    """Whether the engine has the image."""
    from docker.errors import NotFound

    with guarded("look for the image"):
        try:
            client.api.inspect_image(image)
        except NotFound:
            return False
    return True


def pull(client: DockerClient, image: str, on_pull: OnPull) -> None:
    """Pull an absent image.

    Raises:
        DockerError: it is nowhere, or may not be had.
    """
    if "/" not in image:  # a name without a registry is one that scripts/build made here
        raise DockerError(
            f"the image {image} is not here, and its name says no registry",
            hint="make it with scripts/build, name one with --image, or set AIM_ENGINE_REGISTRY",
        )
    repository, tag = _parted(image)
    with guarded(f"pull {image}", remedy=_REMEDY):
        watch_pull(client.api.pull(repository, tag=tag, stream=True, decode=True), on_pull)
    if not is_here(client, image):
        raise DockerError(f"{image} was pulled, and is not here", hint="docker images shows what is")


def _parted(image: str) -> tuple[str, str | None]:
    """`registry:5000/name:tag` in two; a digest is a tag to the SDK."""
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, digest
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")


def watch_pull(lines: Iterable[Mapping[str, Any]], on_pull: OnPull) -> None:
    """Read the engine's progress to its end, and tell it layer by layer.

    Raises:
        DockerError: the engine gave up, with its own words.
    """
    layers: dict[str, tuple[int, int]] = {}
    done: set[str] = set()
    for line in lines:
        if line.get("error"):
            raise DockerError(
                f"the image cannot be pulled: {line['error']}",
                hint=_REMEDY,
            )
        layer, status = str(line.get("id", "")), str(line.get("status", ""))
        detail = line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            layers[layer] = (int(detail.get("current", 0)), int(detail["total"]))
        elif status in ("Download complete", "Pull complete", "Already exists"):
            done.add(layer)
            layers[layer] = (layers.get(layer, (0, 0))[1],) * 2
        elif status == "Pulling fs layer":
            layers.setdefault(layer, (0, 0))
        else:
            continue
        on_pull(
            sum(current for current, _ in layers.values()),
            sum(total for _, total in layers.values()),
            f"{len(done)} of {len(layers)} layers",
        )
