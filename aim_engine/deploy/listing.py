"""What is running: a Docker client in, an `Endpoint` for each of our containers out, whoever launched it.

The labels of containers and of their image are the only registry. Asks no endpoint anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.endpoints import Endpoint, endpoint_of
from aim_engine.deploy.inside import ENTRYPOINT
from aim_engine.deploy.spec import LABEL

if TYPE_CHECKING:
    from docker import DockerClient

# A container that carries one of these is ours. The other labels differ between versions.
# One that says it has GPUs is to be seen too, and to be stopped, for nobody else gets them.
_MARKS = ("model", "checkpoint", "recipe", "gpus", "gpu-count")
# Our image has this one, and so every container of it: one of a plain `docker run` too. Some of these only plan.
_OF_OUR_IMAGE = "image"


def list_endpoints(client: DockerClient, *, all: bool) -> tuple[Endpoint, ...]:
    """Our containers by name, replicas by number; with `all` those that have ended too."""
    return tuple(sorted(map(endpoint_of, inspect_ours(client, all=all)), key=_place))


def _place(one: Endpoint) -> tuple[str, int, str, str]:
    return one.replica_group or one.name, one.replica or 0, one.name, one.container_id


def inspect_ours(client: DockerClient, *, all: bool) -> Iterator[Mapping[str, Any]]:
    """What `docker inspect` says of each of ours; the containers of others are not looked at."""
    from docker.errors import NotFound

    for container in client.api.containers(all=all):
        labels = container.get("Labels") or {}
        if is_ours(labels) or LABEL + _OF_OUR_IMAGE in labels:
            with suppress(NotFound):  # removed since it was listed
                inspected = client.api.inspect_container(container["Id"])
                if is_ours(labels) or _serves(inspected):
                    yield inspected


def is_ours(labels: Mapping[str, str]) -> bool:
    return any(labels.get(LABEL + mark) for mark in _MARKS)


def _serves(inspected: Mapping[str, Any]) -> bool:
    """Whether a container of our image is an endpoint, by its command: the entrypoint serves where it is not told to do
    anything else.
    """
    words = inspected.get("Args")
    first = str(words[0]) if isinstance(words, list) and words else ""
    return inspected.get("Path") == ENTRYPOINT and (first in ("", "serve") or first.startswith("-"))
