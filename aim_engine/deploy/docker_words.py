"""ContainerSpec → what the Docker Engine is told: the SDK's words, and the same as a `docker run` line.

Pure. Every value is data in both: the line's words are separate, and quoted only where they are written as a line.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from aim_engine.deploy.inside import Mount
from aim_engine.deploy.names import checked_text
from aim_engine.deploy.spec import ContainerSpec, Port
from aim_engine.errors import InputError

_NANOSECONDS = 1_000_000_000
_CDI = "cdi"  # the name of the engine's driver for such devices (moby/moby, daemon/cdi.go)


def create_words(spec: ContainerSpec, values: Mapping[str, str]) -> dict[str, Any]:
    """What `APIClient.create_container` takes, but for `host_config`, which stays words for `create_host_config`.

    `values` are those of the variables that the spec only names; one that has none is left out.

    Raises:
        InputError: a value that must be there is not, or a text is not UTF-8.
    """
    passed = {one.name: values[one.name] for one in spec.passed if values.get(one.name)}
    missing = [one.name for one in spec.passed if one.required and one.name not in passed]
    if missing:
        raise InputError(f"{missing[0]} was set when the plan was made, and now is not", hint=f"set {missing[0]}")
    words = {
        "image": spec.image,
        "name": spec.name,
        "command": list(spec.arguments),
        "environment": {**spec.environment, **passed},
        "labels": dict(spec.labels),
        "user": spec.user,
        "ports": [(port.target, "tcp") for port in spec.ports],
        "stop_timeout": spec.stop_seconds,
        "healthcheck": _health(spec),
        "runtime": spec.runtime,
        "host_config": _host_words(spec),
    }
    _check_encodable(asdict(spec))
    return words


def _host_words(spec: ContainerSpec) -> dict[str, Any]:
    words: dict[str, Any] = {
        "devices": [f"{path}:{path}:rwm" for path in spec.devices],
        "device_requests": [{"Driver": _CDI, "DeviceIDs": list(spec.cdi_devices)}] if spec.cdi_devices else None,
        "group_add": [str(group) for group in spec.groups or ()],
        "ipc_mode": spec.ipc,
        "shm_size": spec.shm_bytes,
        "mem_limit": spec.memory_bytes,
        "memswap_limit": spec.memory_swap_bytes,
        "read_only": spec.read_only,
        "tmpfs": dict(entry.split(":", 1) for entry in spec.tmpfs),
        "cap_drop": list(spec.capabilities_dropped),
        "security_opt": list(spec.security_options),
        "mounts": [_mount(mount) for mount in spec.mounts],
        "port_bindings": {port.target: (_plain(port), port.published) for port in spec.ports},
        "network_mode": spec.network,
        "restart_policy": restart_policy(spec.restart),
        "log_config": {"Type": spec.log_driver, "Config": dict(spec.log_options)},
    }
    return {key: value for key, value in words.items() if value not in (None, [], {})}


def _health(spec: ContainerSpec) -> dict[str, int]:
    health = spec.health
    return {
        "interval": health.interval_seconds * _NANOSECONDS,
        "timeout": health.timeout_seconds * _NANOSECONDS,
        "retries": health.retries,
        "start_period": health.start_seconds * _NANOSECONDS,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    kind = "volume" if mount.is_volume else "bind"
    return {"Type": kind, "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}


def _plain(port: Port) -> str:
    return port.address.strip("[]")


def restart_policy(text: str) -> dict[str, Any]:
    """`no`, `always`, `unless-stopped` or `on-failure[:N]`, as the engine takes it.

    Raises:
        InputError: it is none of them.
    """
    name, colon, count = text.partition(":")
    counted = name == "on-failure" and count.isascii() and count.isdigit() and len(count) < 6
    if name not in ("no", "always", "unless-stopped", "on-failure") or (colon and not counted):
        raise InputError(f"{text[:80]!r} is no restart policy", hint="use no, on-failure, on-failure:3, always or "
                         "unless-stopped")  # fmt: skip
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def run_words(spec: ContainerSpec) -> list[str]:
    """The argv of a `docker run` that makes the same container; the variables that the spec only names are taken from
    the environment of whoever runs it.

    Raises:
        InputError: a text is not UTF-8.
    """
    _check_encodable(asdict(spec))
    return ["docker", "run", "--detach", *_options(spec), spec.image, *spec.arguments]


def run_line(spec: ContainerSpec) -> str:
    """The same as a line for a shell, one option a line."""
    words = run_words(spec)
    split = len(words) - len(spec.arguments) - 1
    lines, options = [" ".join(words[:3])], iter(words[3:split])
    for option in options:
        lines.append(option if option in _BARE else f"{option} {shlex.quote(next(options))}")
    lines.append(shlex.join(words[split:]))
    return " \\\n  ".join(lines)


_BARE = frozenset({"--read-only"})


def _options(spec: ContainerSpec) -> Iterator[str]:
    for flag, values in _flags(spec):
        if flag in _BARE:
            yield flag
            continue
        for value in values:
            yield from (flag, value)


def _flags(spec: ContainerSpec) -> Iterator[tuple[str, list[str]]]:
    """Every option and its values; an option without one is not said."""
    health = spec.health
    yield "--name", [spec.name]
    yield "--network", [spec.network] if spec.network else []
    yield "--publish", [f"{port.address}:{port.published}:{port.target}" for port in spec.ports]
    yield "--device", [*spec.devices, *spec.cdi_devices]
    yield "--runtime", [spec.runtime] if spec.runtime else []
    yield "--group-add", [str(group) for group in spec.groups or ()]
    yield "--user", [spec.user] if spec.user else []
    yield "--ipc", [spec.ipc]
    yield "--shm-size", [str(spec.shm_bytes)]
    yield "--memory", [str(spec.memory_bytes)] if spec.memory_bytes else []
    yield "--memory-swap", [str(spec.memory_swap_bytes)] if spec.memory_swap_bytes else []
    if spec.read_only:
        yield "--read-only", []
    yield "--tmpfs", list(spec.tmpfs)
    yield "--cap-drop", list(spec.capabilities_dropped)
    yield "--security-opt", list(spec.security_options)
    yield "--env", [f"{name}={value}" for name, value in spec.environment.items()]
    yield "--env", [one.name for one in spec.passed]
    yield "--mount", [_mount_text(mount) for mount in spec.mounts]
    yield "--health-interval", [f"{health.interval_seconds}s"]
    yield "--health-timeout", [f"{health.timeout_seconds}s"]
    yield "--health-retries", [str(health.retries)]
    yield "--health-start-period", [f"{health.start_seconds}s"]
    yield "--stop-timeout", [str(spec.stop_seconds)]
    yield "--restart", [spec.restart]
    yield "--log-driver", [spec.log_driver]
    yield "--log-opt", [f"{name}={value}" for name, value in spec.log_options.items()]
    yield "--label", [f"{name}={value}" for name, value in spec.labels.items()]


def _mount_text(mount: Mount) -> str:
    """The fields of --mount are a line of CSV (docker/cli, opts/mount.go): quotes keep commas and quotes in a path."""
    kind = "volume" if mount.is_volume else "bind"
    fields = [f"type={kind}", f"source={mount.source}", f"target={mount.target}"]
    fields += ["readonly"] if mount.read_only else []
    return ",".join('"' + one.replace('"', '""') + '"' if set(one) & set(_CSV_SIGNS) else one for one in fields)


_CSV_SIGNS = '",\r\n'


def _check_encodable(value: Any) -> None:
    """The engine's API is JSON, and a text that is not UTF-8 would arrive as another one."""
    if isinstance(value, Mapping):
        for pair in value.items():
            _check_encodable(pair)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_encodable(one)
    elif isinstance(value, str):
        checked_text(value, "the Docker Engine takes nothing else", "rename the file or folder")
