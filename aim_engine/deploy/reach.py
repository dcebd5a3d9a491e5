"""Where an endpoint is reached from here: an endpoint as its host sees it in, the same with the address that works
from this process out.

On the host that is the published port. In a container with the host's Docker socket (an orchestrator) the host's
loopback is out of reach; there it is the endpoint's own address on a network that both are in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.host_paths import HostPaths, host_paths
from aim_engine.deploy.orchestrator import own_container

if TYPE_CHECKING:
    from docker import DockerClient

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Vantage:
    """The place that is asked from. `networks` are those of our own container, each with its gateway; None where we
    are on a host, or on its network. `host` is the Docker Engine's, where that is another machine. `own` is what
    `docker inspect` says of our own container and `paths` what its mounts are on the host; None where we are in none.
    """

    networks: Mapping[str, str] | None = None
    host: str = field(default=_LOOPBACK)
    by_socket: bool = True
    own: Mapping[str, Any] | None = None
    paths: HostPaths | None = None

    @property
    def is_here(self) -> bool:
        """Whether the Docker Engine is on this machine, so that its GPUs are those in our /sys."""
        return self.host == _LOOPBACK

    @property
    def shares_files(self) -> bool:
        """Whether the engine's files are ours."""
        return self.by_socket and self.own is None

    @property
    def shares_ports(self) -> bool:
        """Whether the engine publishes on the machine, or the network, that we are on."""
        return self.by_socket and self.networks is None

    def on_host(self, path: Path) -> Path | None:
        """What the engine's host calls one of our paths; None for what it does not see."""
        if self.paths is None:
            return path if self.shares_files else None
        found = self.paths.on_host(os.path.realpath(path))
        return Path(found) if found else None

    def folders_on_host(self, typed: str) -> frozenset[str]:
        """What the engine's host may call the folder that a typed path is, with symlinks and without; nothing where it
        is none.
        """
        path = os.path.expanduser(typed)  # noqa: PTH111 - says nothing of a user who is not known
        if not typed or not (os.path.isabs(path) or os.path.isdir(path)):  # noqa: PTH112, PTH117 - nor of odd names
            return frozenset()
        names = {os.path.abspath(path), os.path.realpath(path)}  # noqa: PTH100 - takes out ".."
        return frozenset(names if self.paths is None else (self.paths.on_host(one) or one for one in names))

    def reach(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the address and ports that lead to it from here, without ports where none does; and with
        its files as they are called here.
        """
        if self.paths is not None:
            seen = self.paths.inside
            endpoint = replace(
                endpoint,
                certificate=endpoint.certificate and seen(endpoint.certificate),
                key_file=endpoint.key_file and seen(endpoint.key_file),
            )
        return self._addressed(endpoint)

    def _addressed(self, endpoint: Endpoint) -> Endpoint:
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
    base = str(client.api.base_url)
    by_socket = base.startswith("http+docker://") and not base.startswith("http+docker://ssh")
    own = own_container(client, root)
    if own is None:
        return Vantage(host=_engine_host(client), by_socket=by_socket)
    networks = own.get("NetworkSettings", {}).get("Networks") or {}
    shared = {name: (one or {}).get("Gateway") or "" for name, one in networks.items()}
    # our engine's host is our own, whatever way leads to the engine (a socket, or a proxy before it)
    return Vantage(
        networks=None if "host" in networks else shared,
        by_socket=by_socket,
        own=own,
        paths=host_paths(client, own),
    )


def _engine_host(client: DockerClient) -> str:
    """DOCKER_HOST=tcp://other:2376 publishes ports on `other`; a socket on this host."""
    parts = urlsplit(str(client.api.base_url))
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or host in ("", "localhost", "localunixsocket", "ssh"):
        return _LOOPBACK
    return f"[{host}]" if ":" in host else host
