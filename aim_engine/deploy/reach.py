"""Where an endpoint is reached from here: an endpoint as its host sees it in, the same with the address that works
from this process out.

On the host that is the published port. In a container with the host's Docker socket (an orchestrator) the host's
loopback is out of reach; there it is the endpoint's own address on a network that both are in.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aim_engine.deploy.endpoints import Endpoint

if TYPE_CHECKING:
    from docker import DockerClient

_LOOPBACK = "127.0.0.1"
# Docker mounts these files of its own into every container: the way to one's own id, whatever the hostname is.
_OWN_ID = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


@dataclass(frozen=True, kw_only=True)
class Vantage:
    """The place that is asked from. `networks` are those of our own container, each with its gateway; None where we
    are on a host. `host` is the Docker Engine's, where that is another machine.
    """

    networks: Mapping[str, str] | None = None
    host: str = field(default=_LOOPBACK)

    @property
    def is_here(self) -> bool:
        """Whether the Docker Engine is on this machine, so that its GPUs are those in our /sys."""
        return self.host == _LOOPBACK

    def reach(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the address and ports that lead to it from here; without ports where none does."""
        if self.networks is None:
            return replace(endpoint, address=self.host) if endpoint.address == _LOOPBACK else endpoint
        for network in self.networks:
            if network in endpoint.networks:
                return replace(
                    endpoint,
                    address=endpoint.networks[network],
                    port=endpoint.inner_port,
                    health_port=endpoint.inner_health_port,
                )
        gateway = next((address for address in self.networks.values() if address), None)
        if gateway and endpoint.every_address:
            return replace(endpoint, address=gateway)
        return replace(endpoint, port=None, health_port=None)


def vantage(client: DockerClient, root: Path = Path("/")) -> Vantage:
    """Where this process stands."""
    own = _own_container(client, root)
    if own is not None:
        networks = own.get("NetworkSettings", {}).get("Networks") or {}
        if "host" not in networks:
            return Vantage(networks={name: (one or {}).get("Gateway") or "" for name, one in networks.items()})
    return Vantage(host=_engine_host(client))


def is_this_host(client: DockerClient) -> bool:
    """Whether the engine's files and ports are those of this process: we reach it by a socket, and it does not run us
    as one of its containers.
    """
    base = str(client.api.base_url)
    by_socket = base.startswith("http+docker://") and not base.startswith("http+docker://ssh")
    return by_socket and vantage(client).networks is None


def _own_container(client: DockerClient, root: Path) -> Mapping[str, Any] | None:
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


def _engine_host(client: DockerClient) -> str:
    """DOCKER_HOST=tcp://other:2376 publishes ports on `other`; a socket on this host."""
    parts = urlsplit(str(client.api.base_url))
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or host in ("", "localhost", "localunixsocket", "ssh"):
        return _LOOPBACK
    return f"[{host}]" if ":" in host else host
