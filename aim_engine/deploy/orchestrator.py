"""Our own container, where we are in one that the same Docker Engine runs: its image and its network, which endpoints
get unless others are named. A client, and what `docker inspect` says, in; names out.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.plan import Plan

if TYPE_CHECKING:
    from docker import DockerClient

_TITLE = ("org.opencontainers.image.title", "AIM Engine")  # the label that Dockerfile.unified gives its images
_ENGINE_S_OWN = ("bridge", "host", "none")
# Docker mounts these files of its own into every container: the way to one's own id, whatever the hostname is.
_OWN_ID = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


def own_container(client: DockerClient, root: Path = Path("/")) -> Mapping[str, Any] | None:
    """What `docker inspect` says of the container that we are in, if this engine runs it."""
    from docker.errors import APIError

    if not (root / ".dockerenv").exists() and not (root / "run/.containerenv").exists():
        return None
    for name in _own_names(root):
        with suppress(APIError):
            found: Mapping[str, Any] = client.api.inspect_container(name)
            # a stranger may bear our host name as its name
            if name == found.get("Id") or found.get("Config", {}).get("Hostname") == socket.gethostname():
                return found
    return None


def _own_names(root: Path) -> list[str]:
    mounts = ""
    with suppress(OSError):
        mounts = (root / "proc/self/mountinfo").read_text(errors="replace")
    return list(dict.fromkeys([*_OWN_ID.findall(mounts), socket.gethostname()]))


def own_image(client: DockerClient, own: Mapping[str, Any] | None, plan: Plan) -> str | None:
    """The image that we run from, if it is one of ours and its engine runs on the planned devices: then an endpoint
    is of our own version. By its name as long as that means the same image, else by its id.
    """
    from docker.errors import APIError

    from aim_engine.backends.registry import backend  # here: those who only look at endpoints need none

    if own is None or not own.get("Image"):
        return None
    engine = backend(plan.request.backend).find(tuple(sys.path), sys.executable)
    if engine is None or plan.winner.gpus[0].vendor not in engine.runs_on:
        return None
    image, name = str(own["Image"]), str((own.get("Config") or {}).get("Image") or "")
    with suppress(APIError):
        labels = (client.api.inspect_image(image).get("Config") or {}).get("Labels") or {}
        if labels.get(_TITLE[0]) != _TITLE[1]:
            return None
        with suppress(APIError):
            if name and client.api.inspect_image(name).get("Id") == image:
                return name
        return image
    return None


def own_network(client: DockerClient, networks: Mapping[str, str] | None) -> str | None:
    """The network that an endpoint should be in to be reached from here by all of its ports: one of ours that somebody
    made (compose, say) and that leads outside; none where we are in the engine's own, as an endpoint is.
    """
    from docker.errors import APIError

    if any(name in _ENGINE_S_OWN for name in networks or ()):
        return None
    for name in sorted(networks or ()):
        with suppress(APIError):
            if not client.api.inspect_network(name).get("Internal"):
                return name
    return None
