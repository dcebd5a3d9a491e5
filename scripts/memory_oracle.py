"""vLLM's own answer to what a model's memory is: model configs in, parameter bytes and KV cache capacity of a rank out.

Run by the interpreter that has vLLM: JSON lines on stdin, one `{config, tensor_parallel_size, ...}` each, and one on
stdout for each. The real model is built on torch's meta device, so that no weight is ever held; the cache is planned by
the engine's own functions. Knows nothing of AIM Engine's reckoning.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def main() -> None:
    """Answer each line; what goes wrong with one is its answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the engine prints; the answers shall stand alone
    _prepare()
    for line in sys.stdin:
        case = json.loads(line)
        try:
            answer = _answer(case)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:600]}
        print(json.dumps(answer), file=answers, flush=True)


def _prepare() -> None:
    logging.disable(logging.WARNING)
    os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    _widen()
    with set_current_vllm_config(VllmConfig()):
        place = tempfile.mkdtemp()
        parallel_state.init_distributed_environment(1, 0, f"file://{place}/rendezvous", 0, "gloo")
        parallel_state.ensure_model_parallel_initialized(1, 1)


def _widen() -> None:
    """Build layers that the CPU has no arithmetic for: blocks of fp8 are for processors with AMX, MXFP4's experts for
    GPUs (these are padded here as they are on ROCm). Maps of experts and BLOOM's slopes are read while a model is
    built, and the meta device has no numbers.
    """
    from vllm.model_executor.kernels.linear import CPUFp8BlockScaledMMKernel
    from vllm.model_executor.layers.fused_moe import expert_map_manager as maps
    from vllm.model_executor.layers.fused_moe.oracle import mxfp4 as choice
    from vllm.model_executor.layers.quantization import mxfp4
    from vllm.model_executor.models import bloom

    CPUFp8BlockScaledMMKernel.is_supported = classmethod(lambda cls, capability=None: (True, None))
    mxfp4.select_mxfp4_moe_backend = lambda *said: (choice.Mxfp4MoeBackend.TRITON, None)
    choice.current_platform = SimpleNamespace(is_rocm=lambda: True)
    sys.modules["vllm.platforms.rocm"] = ModuleType("vllm.platforms.rocm")
    sys.modules["vllm.platforms.rocm"].get_cdna_version = lambda: 3  # type: ignore[attr-defined]
    maps.determine_expert_map = _on_the_host(maps.determine_expert_map)
    bloom._get_alibi_slopes = _on_the_host(bloom._get_alibi_slopes)


def _on_the_host(function: Callable[..., Any]) -> Callable[..., Any]:
    def with_numbers(*said: Any, **named: Any) -> Any:
        import torch

        with torch.device("cpu"):
            return function(*said, **named)

    return with_numbers


def _answer(case: dict[str, Any]) -> dict[str, Any]:
    config = json.dumps(case["config"])
    plain = {key: value for key, value in case["config"].items() if key != "quantization_config"}
    # first, because what the engine builds changes transformers' own classes
    tensors = _tensors(json.dumps(plain), saved=case["saved"]) if "saved" in case else {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(config)
        return tensors | _measured(Path(folder), case)


@cache
def _tensors(config_text: str, *, saved: bool) -> dict[str, Any]:
    """Names and shapes of the checkpoint's tensors: as transformers saves a model of this config with random weights,
    or (what takes no memory) as it calls them itself.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(config_text)
        try:
            with torch.device("cpu" if saved else "meta"):
                config = AutoConfig.from_pretrained(folder)
                model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        except (ValueError, AssertionError):  # transformers has no such model; nothing is said of its tensors
            return {}
        if not saved:
            return {"tensors": {name: list(tensor.shape) for name, tensor in model.state_dict().items()}}
        model.save_pretrained(folder)
        with safe_open(Path(folder, "model.safetensors"), framework="pt") as file:
            return {"tensors": {name: file.get_slice(name).get_shape() for name in list(file.keys())}}


def _measured(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import parallel_state
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model

    width = case.get("tensor_parallel_size", 1)
    arguments = EngineArgs(
        model=str(folder),
        tokenizer=str(folder),
        skip_tokenizer_init=True,
        load_format="dummy",
        enforce_eager=True,
        tensor_parallel_size=width,
        distributed_executor_backend="mp" if width > 1 else None,
        dtype=case.get("dtype", "bfloat16"),
        **case.get("arguments", {}),
    )
    engine = arguments.create_engine_config()
    with set_current_vllm_config(engine):
        parallel_state._TP.world_size = width
        try:
            torch.set_default_dtype(engine.model_config.dtype)
            with torch.device("meta"):
                model = initialize_model(vllm_config=engine)
            return (
                _weights(model, listed=case.get("listed", False))
                | _cache(engine, case["kv_bytes"])
                | {"max_model_len": engine.model_config.max_model_len}
            )
        finally:
            parallel_state._TP.world_size = 1
            torch.set_default_dtype(torch.float32)


def _weights(model: Any, *, listed: bool) -> dict[str, Any]:
    each = {name: [str(p.dtype), *p.shape] for name, p in model.named_parameters()}
    return {
        **({"parameters": each} if listed else {}),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "buffer_bytes": sum(b.numel() * b.element_size() for b in model.buffers()),
    }


def _cache(engine: Any, kv_bytes: int) -> dict[str, Any]:
    import torch
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.platforms import current_platform
    from vllm.v1.core import kv_cache_utils
    from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs

    current_platform.update_block_size_for_backend(engine)
    layers = get_layers_from_vllm_config(engine, AttentionLayerBase)
    specs = {}
    for name, layer in layers.items():
        if getattr(layer, "kv_sharing_target_layer_name", None):
            continue  # it reads another layer's cache (vllm/v1/worker/gpu_model_runner.py, get_kv_cache_spec)
        spec = layer.get_kv_cache_spec(engine)
        if spec is not None:
            specs[name] = spec
    engine.cache_config.kv_cache_layout = "LBHNC"
    register_all_kvcache_specs(engine)
    found = {
        "block_tokens": engine.cache_config.block_size,
        "in_flight_tokens": engine.max_in_flight_tokens,
        "prefix_caching": bool(engine.cache_config.enable_prefix_caching),
        # these two depend on the CPU (vllm/platforms/cpu.py)
        "latent_block_tokens": 0 if torch.cpu._is_amx_tile_supported() else 16,
        "recurrent_element_bytes": 4 if engine.cache_config.mamba_ssm_cache_dtype == "float32" else 0,
        "specs": _shown(specs),
    }
    if not specs:
        return {**found, "blocks": 0, "tokens": 0, "concurrency": 0.0}
    try:
        configs = kv_cache_utils.get_kv_cache_configs(engine, [specs], [kv_bytes])
    except ValueError as error:
        return {**found, "refused": str(error)[:300]}
    tokens, concurrency = kv_cache_utils.get_kv_cache_capacity(engine, configs[0])
    return {**found, "blocks": configs[0].num_blocks, "tokens": tokens, "concurrency": concurrency}


def _shown(specs: dict[str, Any]) -> list[str]:
    counts: dict[str, int] = {}
    for spec in specs.values():
        fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
        keep = ("block_size", "num_kv_heads", "head_size", "head_size_v", "dtype", "sliding_window",
                "attention_chunk_size", "shapes", "dtypes", "page_size_padded")  # fmt: skip
        text = ", ".join(f"{k}={fields[k]}" for k in keep if fields.get(k) is not None)
        shown = f"{type(spec).__name__}({text})"
        counts[shown] = counts.get(shown, 0) + 1
    return [f"{count} x {shown}" for shown, count in counts.items()]


if __name__ == "__main__":
    main()
