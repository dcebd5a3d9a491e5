"""ContainerSpecs → the text of a compose file (compose-spec.io), the same for the same specs.

Every text is quoted, and every `$` that is not ours is doubled, so that nothing in it is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.deploy.balancer import DEFAULT_IMAGE, OWN_PORT, Balancer
from aim_engine.deploy.inside import Mount, PassedVariable
from aim_engine.deploy.names import checked_text
from aim_engine.deploy.spec import GIB, ContainerSpec
from aim_engine.deploy.yaml_text import Block, comment_lines, yaml_text

_HOW = (
    "docker compose -f FILE up -d --wait",
    "    (Compose 2; docker-compose 1.29 has no --wait: leave it out, and look at the health with docker ps)",
)
_GROUP_HINT = (
    "RENDER_GID: the group of the GPUs' device files, which differs between hosts. Set it before `up`:",
    "  export RENDER_GID=$(stat -c %g /dev/dri/renderD128)",
    "Root needs none; 0 adds nothing.",
)


class _Raw(str):
    """A text of ours whose `$` compose shall read."""


def compose_text(*specs: ContainerSpec, balancer: Balancer | None = None) -> str:
    """The file: a service for each, and the balancer before them.

    Raises:
        InputError: a text of a spec cannot be written in a file that is UTF-8.
    """
    document = compose_document(*specs, balancer=balancer)
    return "\n".join([*_header(specs[0], balancer), "", yaml_text(document), ""])


def compose_document(*specs: ContainerSpec, balancer: Balancer | None = None) -> dict[str, Any]:
    """The file's content; `$` is doubled already, so as JSON it is a compose file too."""
    alias = balancer.alias if balancer else None
    services = {spec.name: _service(spec, alias) for spec in specs}
    if balancer is not None:
        services[_BALANCER] = _balancer_service(balancer)
    document: dict[str, Any] = {"services": services}
    named = {mount.source: {"name": mount.source} for spec in specs for mount in spec.mounts if mount.is_volume}
    if named:
        # a name of its own: without it every project would download the weights again
        document["volumes"] = named
    network = specs[0].network
    if _is_named(network):
        document["networks"] = {network: {"external": True, "name": network}}
    escaped: dict[str, Any] = _escaped(document)
    return escaped


def _service(spec: ContainerSpec, alias: str | None = None) -> dict[str, Any]:
    words: dict[str, Any] = {
        "image": spec.image,
        "container_name": spec.name,
        "command": list(spec.arguments),
        "network_mode": None if _is_named(spec.network) else _MODES.get(spec.network or "", spec.network),
        "networks": _networks(spec.network, alias),
        "user": spec.user,
        "environment": {**spec.environment, **{one.name: _reference(one) for one in spec.passed}},
        "devices": [f"{path}:{path}" for path in spec.devices],
        "deploy": _reservations(spec) if spec.cdi_devices else None,
        "runtime": spec.runtime,
        "group_add": _groups(spec),
        "ipc": spec.ipc,
        "shm_size": _size(spec.shm_bytes),
        "mem_limit": _size(spec.memory_bytes) if spec.memory_bytes else None,
        "memswap_limit": _swap(spec.memory_swap_bytes) if spec.memory_swap_bytes else None,
        "read_only": spec.read_only,
        "tmpfs": list(spec.tmpfs),
        "cap_drop": list(spec.capabilities_dropped),
        "security_opt": list(spec.security_options),
        # the short form: the long one's host_ip is unknown to docker-compose 1.29
        "ports": [f"{port.address}:{port.published}:{port.target}" for port in spec.ports],
        "volumes": [_volume(mount) for mount in spec.mounts],
        "healthcheck": _health(spec),
        "stop_grace_period": f"{spec.stop_seconds}s",
        "restart": spec.restart,
        "logging": {"driver": spec.log_driver, "options": dict(spec.log_options)},
        "labels": dict(spec.labels),
    }
    return {key: value for key, value in words.items() if value is not None and value != []}


# Networks of the engine's own, which no service can be attached to by name; `default` is another name of the bridge.
_MODES = {"host": "host", "bridge": "bridge", "default": "bridge"}


def _is_named(network: str | None) -> bool:
    """Whether it is a network that somebody made, and no file makes again."""
    return network is not None and network not in _MODES


def _networks(network: str | None, alias: str | None) -> Any:
    """The network that is joined, by one more name where there is an alias."""
    if alias is not None:
        return {network or "default": {"aliases": [alias]}}
    return [network] if _is_named(network) else None


_BALANCER = "balancer"
_START = """printf "%s" "$NGINX_CONFIGURATION" > /tmp/nginx.conf; exec nginx -e /dev/stderr -c /tmp/nginx.conf"""
# Which of both an image has differs: Alpine's has wget, Debian's curl.
_ALIVE = "wget -q -O /dev/null http://127.0.0.1:{port}/ || curl -fs -o /dev/null http://127.0.0.1:{port}/"


def _balancer_service(balancer: Balancer) -> dict[str, Any]:
    port = balancer.port
    words: dict[str, Any] = {
        "image": balancer.image or _Raw(f"${{BALANCER_IMAGE:-{DEFAULT_IMAGE}}}"),
        "container_name": balancer.name,
        # the configuration as a variable, because a compose file can hold a file since Compose 2.23 only
        "entrypoint": ["sh", "-ec", _START],
        "user": balancer.user,
        "environment": {"NGINX_CONFIGURATION": Block(balancer.configuration)},
        "networks": [balancer.network or "default"],
        "read_only": True,
        "tmpfs": ["/tmp:rw,noexec,nosuid,nodev,size=1g,mode=1777"],  # noqa: S108
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "ports": [f"{port.address}:{port.published}:{port.target}"],
        "volumes": [_volume(mount) for mount in balancer.mounts],
        "healthcheck": {"test": ["CMD-SHELL", _ALIVE.format(port=OWN_PORT)], "interval": "5s", "timeout": "3s",
                        "retries": 3},
        "stop_signal": "SIGQUIT",  # which lets answers that are being sent be finished
        "stop_grace_period": f"{balancer.stop_seconds}s",
        "restart": balancer.restart,
        "logging": {"driver": "json-file", "options": dict(balancer.log_options)},
        "labels": dict(balancer.labels),
    }  # fmt: skip
    return {key: value for key, value in words.items() if value != []}


def _reservations(spec: ContainerSpec) -> dict[str, Any]:
    """CDI devices as Compose 1.28 and newer say them. The capability is there for Compose 2's schema; the engine does
    not look at it where the driver is cdi (moby/moby, daemon/devices.go).
    """
    wanted = {"driver": "cdi", "device_ids": list(spec.cdi_devices), "capabilities": ["gpu"]}
    return {"resources": {"reservations": {"devices": [wanted]}}}


def _swap(size_bytes: int) -> str | int:
    # a number: as a text Compose 2 would take -1 for a size with a unit
    return size_bytes if size_bytes < 0 else _size(size_bytes)


def _reference(variable: PassedVariable) -> _Raw | None:
    """The variable's value of whoever starts the container; never a value of ours. None hands it on where it is set,
    and else leaves it unset: an empty key is refused.
    """
    if not variable.required:
        return None
    return _Raw(f"${{{variable.name}:?set it: it was set when this file was made}}")


def _groups(spec: ContainerSpec) -> list[str]:
    if spec.groups is not None:
        return [str(group) for group in spec.groups]
    fallback = ":?see the top of this file" if spec.user else ":-0"
    return [_Raw(f"${{RENDER_GID{fallback}}}")]


def _volume(mount: Mount) -> dict[str, Any]:
    # the long form: in the short one a colon in a path would end it
    words = {"type": "volume" if mount.is_volume else "bind", "source": mount.source, "target": mount.target}
    return {**words, "read_only": True} if mount.read_only else words


def _health(spec: ContainerSpec) -> dict[str, Any]:
    health = spec.health
    return {
        "interval": f"{health.interval_seconds}s",
        "timeout": f"{health.timeout_seconds}s",
        "retries": health.retries,
        "start_period": f"{health.start_seconds}s",
    }


def _size(size_bytes: int) -> str:
    return f"{size_bytes // GIB}g" if size_bytes % GIB == 0 else f"{size_bytes}b"


def _header(spec: ContainerSpec, balancer: Balancer | None) -> list[str]:
    lines = [*spec.about, "", *_HOW, "", *spec.remarks, *(balancer.remarks if balancer else ())]
    if spec.groups is None:
        lines += _GROUP_HINT
    passed = ", ".join(one.name for one in spec.passed)
    lines.append(f"{passed}: taken from the environment of `docker compose`; no value of theirs is in this file")
    return comment_lines(lines)


def _escaped(value: Any) -> Any:
    """The same with every `$` doubled, but for ours."""
    if isinstance(value, Mapping):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if isinstance(value, _Raw) or not isinstance(value, str):
        return str(value) if isinstance(value, str) else value
    kind = Block if isinstance(value, Block) else str
    return kind(
        checked_text(value, "a compose file is", "rename the file or folder, or mount it by hand").replace("$", "$$")
    )
