"""What a plan needs of the machine: the plan's JSON and the environment in, the `Needs` of the pre-flight checks out.

Looks into the Hugging Face cache for what is there already; asks no network. Judges nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from aim_engine.hardware.inventory import Firmware, Gpu, Holder
from aim_engine.hardware.preflight.check import Checkpoint, Needs, Presence
from aim_engine.runtime.fetched import bytes_here, hub_folder, whole_bytes

_GPU_FIELDS = frozenset(field.name for field in fields(Gpu))


def needs_of(plan: Mapping[str, Any], environment: Mapping[str, str]) -> Needs:
    """What that plan needs. A key that is missing means that nothing is known about it."""
    runtime, memory = plan["runtime"], plan.get("memory") or {}
    home = Path(environment.get("HF_HOME") or runtime["cache_dir"])
    return Needs(
        planned=True,
        cache_dir=Path(runtime["cache_dir"]),
        host=runtime["host"],
        port=runtime["port"],
        health_port=runtime["health_port"],
        gpus=tuple(_gpu(words) for words in plan.get("gpus", ())),
        # a layer's parts may lie on other nodes too
        tensor_parallel_size=min(plan.get("tensor_parallel_size", 1), max(1, len(plan.get("gpus", ())))),
        budget_bytes=memory.get("budget_bytes"),
        checkpoint=_checkpoint(plan, hub_folder(environment, runtime["cache_dir"])),
        has_token=has_token(environment, home),
        offline=_switched_on({**environment, **plan["command"]["env"]}.get("HF_HUB_OFFLINE", "")),
        engine_version=(plan.get("engine") or {}).get("version"),
    )


def has_token(environment: Mapping[str, str], home: Path) -> bool:
    """Where the hub's client will look for a token (huggingface_hub, get_token): variables first, then a file."""
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    try:
        return Path(environment.get("HF_TOKEN_PATH") or home / "token").stat().st_size > 0
    except OSError:
        return False


def _switched_on(text: str) -> bool:
    return text.upper() in ("1", "ON", "YES", "TRUE")  # as the hub's client reads it (huggingface_hub/constants.py)


def _gpu(words: Mapping[str, Any]) -> Gpu:
    known = {name: value for name, value in words.items() if name in _GPU_FIELDS}
    for name, kind in (("holders", Holder), ("firmware", Firmware)):
        known[name] = tuple(kind(**one) for one in words.get(name, ()))
    return Gpu(**known)


def _checkpoint(plan: Mapping[str, Any], hub_cache: Path) -> Checkpoint:
    name = plan["huggingface_id"]
    size, reckoned = whole_bytes(plan)
    if name.startswith("/"):
        return Checkpoint(name=name, folder=Path(name), presence="whole", size_bytes=size, missing_bytes=0)
    here = _presence(plan, hub_cache)
    missing = 0 if here == "whole" else None
    if size is not None and here in ("part", "absent"):
        missing = max(0, size - bytes_here(name, hub_cache, plan.get("revision") or "main"))
    return Checkpoint(
        name=name,
        folder=hub_cache,
        presence=here,
        size_bytes=size,
        missing_bytes=missing,
        reckoned=reckoned,
        gated=plan.get("gated"),
    )


def _presence(plan: Mapping[str, Any], hub_cache: Path) -> Presence:
    """How much of a hub model the cache holds; nothing is said of another kind of store."""
    from aim_engine.catalog.hub_cache import cached_folder, home_of  # here: whoever made a plan has it loaded already

    name = plan["huggingface_id"]
    if "://" in name:
        return "unknown"
    if cached_folder(name, hub_cache, plan.get("revision") or "main") is not None:
        return "whole"
    there = os.path.exists(home_of(name, hub_cache))  # noqa: PTH110 - says no where Path.exists raises
    return "part" if there else "absent"
