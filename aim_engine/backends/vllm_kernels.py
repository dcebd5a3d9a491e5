"""What a recipe asks of vLLM's kernels against what its GPU has: a recipe's type, precision and switches in, complaints
out. Which switch needs which is here (vLLM's vllm/platforms/rocm.py, vllm/envs.py, and AMD's guide "vLLM V1 performance
optimization"); the rest is in kernels.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aim_engine.backends.base import Complaint
from aim_engine.backends.kernels import Need, complaints, no_aiter, no_quick_reduce, precision_needs
from aim_engine.catalog.recipe import ArgumentValue


def kernel_complaints(
    gpu_type: str, precision: str, checkpoint: str, args: Mapping[str, ArgumentValue], env: Mapping[str, str]
) -> Iterator[Complaint]:
    """What the GPU of that type has no kernels for; nothing for a type that nobody knows."""
    quantization = str(args.get("quantization") or "").lower()
    return complaints(
        gpu_type, [*_needs(env), *_aiter_by_name(args, env), *precision_needs(precision, checkpoint, quantization)]
    )


def _aiter_by_name(args: Mapping[str, ArgumentValue], env: Mapping[str, str]) -> Iterator[Need]:
    """Backends of AITER's that are asked for without its switch: attention (ROCM_AITER_FA and its like, as an option,
    inside attention-config, or as the variable of vLLM before 0.12), and that of the experts.
    """
    named = {f"args.{name}": args[name] for name in ("attention-backend", "attention-config", "moe-backend")
             if name in args}  # fmt: skip
    if "VLLM_ATTENTION_BACKEND" in env:
        named["env.VLLM_ATTENTION_BACKEND"] = env["VLLM_ATTENTION_BACKEND"]
    for key, value in named.items():
        backend = value.get("backend") if isinstance(value, dict) else value
        if "AITER" in str(backend).upper():
            yield Need(key=key, kind="aiter", lacks=no_aiter)


def _needs(env: Mapping[str, str]) -> Iterator[Need]:
    if env.get("VLLM_ROCM_USE_AITER", "").lower() in ("1", "true"):
        yield Need(key="env.VLLM_ROCM_USE_AITER", kind="aiter", lacks=no_aiter)
    if env.get("VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", "NONE").upper() not in ("", "NONE"):
        yield Need(key="env.VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", kind="quick-reduce", lacks=no_quick_reduce)
