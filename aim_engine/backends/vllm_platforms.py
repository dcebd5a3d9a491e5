"""What differs between the devices vLLM runs on, and between its versions, as data.

Sources: vLLM's vllm/platforms/, vllm/engine/arg_utils.py (batch defaults), vllm/v1/worker/; vllm_options.json beside
this file lists the command line's options by version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.hardware.inventory import Gpu

GIB = 1024**3
Version = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One build of vLLM. `runs_on` are vendors of accelerators; `batch_tokens` pairs a device's least memory with the
    default tokens of one step, largest first; `explicit_cache` that the KV cache's size must be given, because the
    engine's own measure of a shared host's memory is not to be relied on; `visible_variables` pick devices: the
    first is the one to set, and any of them in the user's environment is a choice already made; `caches` are variables
    and the folder below the cache that each shall name; `compiles_kernels` that AITER may be beside it.
    `kernel_block_tokens`, `latent_block_tokens`, `in_flight_batches` and `recurrent_element_bytes` are what
    catalog/terms.py says they are.
    """

    name: str
    runs_on: tuple[str, ...]
    version_mark: str
    block_tokens: int
    batch_tokens: tuple[tuple[int, int], ...]
    kernel_block_tokens: int = 16
    latent_block_tokens: int = 0
    in_flight_batches: int = 2  # one is scheduled while another runs: async scheduling, the default on GPUs
    recurrent_element_bytes: int = 0
    explicit_cache: bool = False
    visible_variables: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    caches: Mapping[str, str] = field(default_factory=dict)
    compiles_kernels: bool = False


_GPU_BATCH = ((160 * GIB, 16384), (70 * GIB, 8192), (0, 2048))

PLATFORMS = (
    Platform(
        name="rocm",
        runs_on=("amd",),
        version_mark="rocm",
        block_tokens=16,
        batch_tokens=_GPU_BATCH,
        visible_variables=("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        # kernels that HIP and MIOpen compile while they run (llvm-project, amd/comgr; MIOpen, "Kernel cache")
        caches={"AMD_COMGR_CACHE_DIR": "comgr", "MIOPEN_CUSTOM_CACHE_DIR": "miopen", "MIOPEN_USER_DB_PATH": "miopen"},
        compiles_kernels=True,
    ),
    Platform(
        name="cpu",
        runs_on=("cpu",),
        version_mark="cpu",
        block_tokens=128,
        batch_tokens=((0, 2048),),
        # vllm/platforms/cpu.py: one step at a time, latent attention in blocks of 16 (but for processors with AMX),
        # recurrent states in float32 (on those with AVX512-BF16; fewer bytes elsewhere)
        kernel_block_tokens=32,
        latent_block_tokens=16,
        in_flight_batches=1,
        recurrent_element_bytes=4,
        explicit_cache=True,
        # Without a separate worker process the engine core runs the model itself: one import of vLLM less, which is
        # a third of a small model's start (23 s against 16 s with vLLM 0.32 on two cores).
        env={"VLLM_ENABLE_V1_MULTIPROCESSING": "0"},
    ),
    Platform(
        name="cuda",
        runs_on=("nvidia",),
        version_mark="cu",
        block_tokens=16,
        batch_tokens=_GPU_BATCH,
        visible_variables=("CUDA_VISIBLE_DEVICES",),
    ),
)


def platform_for(gpu: Gpu) -> Platform:
    """The build that runs on this accelerator; the first (rocm) for a vendor nobody lists."""
    return next((platform for platform in PLATFORMS if gpu.vendor in platform.runs_on), PLATFORMS[0])


def platform_of_version(distribution: str, version: str) -> Platform | None:
    """Which build an installed distribution is: by its name, or by the local part of its version ("+rocm700")."""
    local = version.partition("+")[2]
    for platform in PLATFORMS:
        if distribution.endswith(f"-{platform.name}") or re.search(rf"(^|[.]){platform.version_mark}\d*($|[.])", local):
            return platform
    return None


def parse_version(version: str | None) -> Version | None:
    """The release numbers at the front: "0.11.1rc2.dev141+g38f.rocm700" is (0, 11, 1). None stays None."""
    match = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(int(part) for part in match.group().split(".")) if match else None


def default_memory_fraction(version: Version | None) -> float:
    """vLLM's gpu-memory-utilization when nobody sets it: 0.92 since 0.20, 0.9 before."""
    return 0.9 if version is not None and version < (0, 20) else 0.92


@cache
def _options() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("vllm_options.json").read_bytes())
    return data


def has_option(name: str, version: Version | None) -> bool:
    """Whether `vllm serve --name` exists in that version; an unknown version counts as the newest listed one."""
    span = _options()["options"].get(name) or _options()["options"].get(name.removeprefix("no-"))
    if span is None:
        return False
    newest = parse_version(_options()["grid"][-1])
    first, last = (parse_version(text) for text in span)
    asked = version or newest
    return bool(first <= asked and (asked <= last or last == newest))  # type: ignore[operator]


def was_ever_option(name: str) -> bool:
    """Whether any listed version has, or had, that option."""
    return name in _options()["options"]


def option_names(version: Version | None) -> tuple[str, ...]:
    """Every long option of that version."""
    return tuple(name for name in _options()["options"] if has_option(name, version))


def new_name(option: str) -> str | None:
    """What a removed option is called now, where nothing else about it changed."""
    name: str | None = _options()["renamed"].get(option)
    return name


def is_without_effect(option: str) -> bool:
    """True for a removed option whose absence changes nothing a user would notice."""
    return option in _options()["without_effect"]


def advice(option: str) -> str:
    """What to use instead of a removed option, or ""."""
    text: str = _options()["replaced"].get(option, "")
    return text
