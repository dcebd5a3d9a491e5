"""What differs between the devices vLLM runs on, as data.

Sources: vLLM's vllm/platforms/, vllm/engine/arg_utils.py (batch defaults), vllm/v1/worker/; vllm_versions.py beside
this file knows the names that differ between versions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aim_engine.backends.vllm_versions import Version
from aim_engine.hardware.inventory import Gpu

GIB = 1024**3

# Options that fix the KV cache's size; and those that change neither what the engine needs besides weights and cache,
# nor what these are (the others may, so a figure that was measured counts only where they are the same).
CACHE_SIZES = frozenset({"kv-cache-memory-bytes", "num-gpu-blocks-override"})
WEIGHTLESS = frozenset({
    "max-model-len", "gpu-memory-utilization", "kv-cache-memory-bytes", "served-model-name", "host", "port", "uds",
    "root-path", "api-key", "hf-token", "middleware", "ssl-keyfile", "ssl-certfile", "ssl-ca-certs", "ssl-cert-reqs",
    "tool-call-parser", "enable-auto-tool-choice", "reasoning-parser", "chat-template", "response-role",
    "default-chat-template-kwargs", "generation-config", "override-generation-config", "trust-remote-code", "seed",
    "allowed-origins", "allowed-methods", "allowed-headers", "disable-fastapi-docs", "uvicorn-log-level",
    "disable-uvicorn-access-log", "disable-access-log-for-endpoints", "disable-log-stats", "disable-log-requests",
    "enable-log-requests", "max-log-len", "enable-request-id-headers", "enable-prompt-tokens-details",
    "enable-server-load-tracking", "shutdown-timeout", "otlp-traces-endpoint", "tensor-parallel-size",
    "pipeline-parallel-size",
})  # fmt: skip

# Whose checkpoints' own word on the type of the KV cache counts where kv-cache-dtype is "auto": ModelOpt's for every
# model (vllm/utils/torch_utils.py, resolve_kv_cache_dtype_string), compressed-tensors' where attention is not latent
# (model_executor/layers/attention/attention.py; mla_attention.py does not ask). Quark's never does: with "auto" its
# FP8-KV checkpoints are served with 16 bits.
FOLLOWED_IF_LATENT = frozenset({"modelopt", "modelopt_mxfp8", "modelopt_mixed", "nvfp4"})
FOLLOWED = FOLLOWED_IF_LATENT | {"compressed-tensors"}
FOLLOWED_SINCE = (0, 15)  # by the wheels of 0.14.1 (ModelOpt's alone) and 0.15.1


@dataclass(frozen=True, kw_only=True)
class Platform:
    """One build of vLLM. `runs_on` are vendors of accelerators; `batch_tokens` pairs a device's least memory with the
    default tokens of one step, largest first; `explicit_cache` that the KV cache's size must be given, because the
    engine's own measure of a shared host's memory is not to be relied on; `visible_variables` pick devices: the
    first is the one to set, and any of them in the user's environment is a choice already made; `eager_env` is set
    beside `env` where the model is not to be compiled; `caches` are variables and the folder below the cache that
    each shall name; `compiles_kernels` that AITER may be beside it.
    `kernel_block_tokens`, `latent_block_tokens`, `in_flight_batches`, `recurrent_element_bytes` and `mxfp4_step` are
    what catalog/terms.py says they are.
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
    mxfp4_step: int = 0
    explicit_cache: bool = False
    visible_variables: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    eager_env: Mapping[str, str] = field(default_factory=dict)
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
        mxfp4_step=256,  # of gpt-oss (fused_moe/oracle/mxfp4.py, mxfp4_round_up_hidden_size_and_intermediate_size)
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
        # `enforce-eager` leaves the sampler: the first request for log-probabilities compiles a function of it
        # (v1/sample/ops/logprobs.py), which on a CPU needs g++, and where there is none the whole engine dies of it.
        eager_env={"TORCHDYNAMO_DISABLE": "1"},
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


def default_memory_fraction(version: Version | None) -> float:
    """vLLM's gpu-memory-utilization when nobody sets it: 0.92 since 0.20, 0.9 before."""
    return 0.9 if version is not None and version < (0, 20) else 0.92
