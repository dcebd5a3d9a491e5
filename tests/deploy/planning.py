"""Plans for the tests of this folder, and a strict reader of the part of the compose specification that is written."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml

from aim_engine.catalog.load import Catalog, catalog_folders, load_catalog
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, make_plan
from aim_engine.request import Request, read_request
from tests.building import CARD, CPU_ENGINE, MODEL, ROCM, cpu_here, here, recipe, variant

SHIPPED = load_catalog(MODEL, catalog_folders())
CPU_RECIPE = recipe(
    variant(1, args={"dtype": "bfloat16", "max-model-len": 4096}), recipe_id="small-cpu", model_id="*", gpu_type="CPU"
)
SMALL = replace(CARD, weights_bytes={"bf16": 1_000_000_000})


def catalog(request: Request, on: Inventory) -> Catalog:
    """What is known: the shipped recipes for GPUs, one recipe and a small model for a CPU."""
    if on.gpus[0].product == "CPU":
        return Catalog(recipes=(CPU_RECIPE,), card=replace(SMALL, model_id=request.required_model))
    return SHIPPED if request.model_folder is None else replace(SHIPPED, recipes=_families())


def _families() -> tuple[Any, ...]:
    return tuple(replace(one, model_id="*") for one in SHIPPED.recipes)


def planned(environment: Any = None, on: Any = None, **flags: str) -> Plan:
    """The plan for a request; eight MI300X that were declared, unless told otherwise."""
    request = read_request({"model": MODEL, **flags}, environment or {})
    on = on or replace(here(), source="declared")
    engine = CPU_ENGINE if on.gpus[0].product == "CPU" else ROCM
    found = make_plan(request, on, catalog(request, on), engine)
    assert isinstance(found, Plan), found
    return found


def cpu_plan(environment: Any = None, **flags: str) -> Plan:
    return planned(environment, cpu_here(), **flags)


def with_nodes(wish: str = "MI300X:8") -> Inventory:
    """GPUs found here, whose render nodes are known; every package reserves eight minors, as with MI300X."""
    found = here(wish)
    gpus = tuple(
        replace(gpu, render_node=f"/dev/dri/renderD{128 + 8 * gpu.index}", pci_address=f"0000:{gpu.index:02x}:00.0")
        for gpu in found.gpus
    )
    return replace(found, gpus=gpus)


# The keys used here and their types, from the compose specification's own JSON schema (compose-spec.json).
_SERVICE: dict[str, Any] = {
    "image": str, "container_name": str, "command": [str], "user": str, "devices": [str],
    "environment": {str: (str, type(None))},
    "entrypoint": [str], "stop_signal": str,
    "group_add": [str], "runtime": str, "network_mode": re.compile("host|bridge"), "networks": [str],
    "deploy": {"resources": {"reservations": {"devices": [
        {"driver": re.compile("cdi"), "device_ids": [str], "capabilities": [str]}]}}},
    "ipc": str, "shm_size": re.compile(r"\d+[bg]"), "mem_limit": re.compile(r"\d+[bg]"),
    "memswap_limit": re.compile(r"-1|\d+[bg]"), "read_only": bool, "tmpfs": [str], "cap_drop": [str],
    "security_opt": [str],
    "ports": [re.compile(r"(\[[0-9a-f:]+\]|[\d.]+):\d+:\d+")],
    "volumes": [{"type": re.compile("bind|volume"), "source": str, "target": str, "read_only": bool}],
    "healthcheck": {"test": [str], "interval": re.compile(r"\d+s"), "timeout": re.compile(r"\d+s"), "retries": int,
                    "start_period": re.compile(r"\d+s")},
    "stop_grace_period": re.compile(r"\d+s"), "restart": str,
    "logging": {"driver": str, "options": {str: str}}, "labels": {str: str},
}  # fmt: skip
_NAMED = re.compile(r"[a-zA-Z0-9._-]+")


def check_compose(document: Any) -> None:
    """Fail unless the document has the keys and types above and no others."""
    assert document.keys() <= {"services", "volumes", "networks"}
    for name, service in document["services"].items():
        assert _NAMED.fullmatch(name)
        joined = service.get("networks")
        if isinstance(joined, dict):
            check_kind(joined, {str: {"aliases": [str]}}, name)
        plain = {**service, "networks": list(joined)} if joined else service
        check_kind(plain, _SERVICE, name)
    for name, volume in document.get("volumes", {}).items():
        assert _NAMED.fullmatch(name)
        assert volume == {"name": name}
    for name, network in document.get("networks", {}).items():
        assert network == {"external": True, "name": name}


def check_kind(value: Any, kind: Any, where: str) -> None:
    """Fail unless the value is of that kind: a pattern, a list of a kind, keys with kinds (str: any key), a type, or
    one of several.
    """
    if isinstance(kind, re.Pattern):
        assert isinstance(value, str) or value == -1, where
        assert kind.fullmatch(str(value)), (where, value)
    elif isinstance(kind, list):
        assert isinstance(value, list), where
        for one in value:
            check_kind(one, kind[0], where)
    elif isinstance(kind, dict):
        for key, one in value.items():
            assert isinstance(key, str), (where, key)
            assert key in kind or str in kind, (where, key)
            check_kind(one, kind.get(key, kind.get(str, str)), f"{where}.{key}")
    elif isinstance(kind, tuple):
        assert type(value) in kind, (where, value)
    else:
        assert type(value) is kind, (where, value)


def service_of(text: str) -> dict[str, Any]:
    """The one service of a compose file, read and checked; every `$` is still doubled."""
    document = yaml.safe_load(text)
    check_compose(document)
    (service,) = document["services"].values()
    read: dict[str, Any] = service
    return read


def interpolated(value: str) -> str:
    """A value as compose hands it on when no variable is set; fails on a `$` that is neither doubled nor ours."""

    def replace_one(found: re.Match[str]) -> str:
        assert found[0] == "$$" or found[1] is not None, value
        return "$" if found[0] == "$$" else ""

    return re.sub(r"\$\$|\$\{[A-Z_]+(:-|:\?)[^}$]*\}|\$", replace_one, value)
