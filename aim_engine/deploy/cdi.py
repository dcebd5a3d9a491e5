"""The planned GPUs by their names to the Container Device Interface: a plan and CDI's own files in, names out.

Knows no engine. A device is recognised by its device file, because every toolkit numbers GPUs in an order of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aim_engine.deploy.devices import access_of, own_files
from aim_engine.errors import DockerError, InputError
from aim_engine.plan import Plan

_RENDER = "/dev/dri/renderD"


def cdi_devices(plan: Plan, info: Mapping[str, Any]) -> tuple[str, ...]:
    """`amd.com/gpu=0`, ... for the planned GPUs. `info` is what `docker info` says.

    Raises:
        DockerError: the engine has no CDI, or no specification here names the GPUs.
        InputError: these devices have no kind in CDI.
    """
    kind = access_of(plan).cdi_kind
    if not kind:
        raise InputError("there is no kind of CDI device for these", hint="leave --device-mode out")
    folders = info.get("CDISpecDirs") or ()
    if not folders:
        raise DockerError(
            "this Docker Engine does not do CDI: docker info names no CDI spec directories",
            hint="Docker Engine 25 or newer, with features.cdi in /etc/docker/daemon.json; or --device-mode devices",
        )
    wanted = own_files(plan)
    names = names_of(specifications(Path(str(folder)) for folder in folders), kind)
    if not wanted or not set(wanted) <= names.keys():
        missing = ", ".join(node for node in wanted if node not in names) or "the planned GPUs' device files"
        raise DockerError(
            f"no CDI specification in {', '.join(map(str, folders))} has a device of kind {kind} for {missing}",
            hint="amd-ctk cdi generate --output=/etc/cdi/amd.json writes one; or --device-mode devices",
        )
    return tuple(f"{kind}={names[node]}" for node in wanted)


def specifications(folders: Iterable[Path]) -> Iterator[Mapping[str, Any]]:
    """Every specification in these folders that can be read."""
    for folder in folders:
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            with suppress(OSError, ValueError):
                value = _parsed(path)
                if isinstance(value, Mapping):
                    yield value


def _parsed(path: Path) -> Any:
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(path.read_text())
        except yaml.YAMLError:
            return None
    return None


def names_of(found: Iterable[Mapping[str, Any]], kind: str) -> dict[str, str]:
    """Render node → the name of the device that has this one and no other (`all` has several)."""
    names: dict[str, str] = {}
    for one in found:
        if one.get("kind") != kind:
            continue
        for device in one.get("devices") or ():
            nodes = (device.get("containerEdits") or {}).get("deviceNodes") or ()
            renders = {str(node.get("path", "")) for node in nodes if str(node.get("path", "")).startswith(_RENDER)}
            if len(renders) == 1 and device.get("name") is not None:
                names.setdefault(renders.pop(), str(device["name"]))
    return names
