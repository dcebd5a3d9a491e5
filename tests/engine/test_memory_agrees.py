"""The real engine says what the ledger predicts: asked in one process for many architectures, and by two servers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.model_shape import architecture
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.kv_cache import Capacity, cache_pool
from scripts.memory_agrees import MODELS, TOLERANCE, ask, cases, compare, every_model
from tests.engine.conftest import PlanFor
from tests.runtime.server import Server

pytestmark = pytest.mark.engine

KNOWN = {model["name"]: model for model in json.loads(MODELS.read_text())}
# One of each way to keep what was read; scripts/memory-agrees asks for all of them.
SAMPLED = ("Llama", "Llama, tied embeddings", "Qwen3", "Mistral, window", "Gemma 2", "Gemma 3", "gpt-oss",
           "Qwen3-MoE", "DeepSeek V3", "Mamba 2", "Jamba", "Granite hybrid", "Qwen3-Next", "Cohere 2", "Llama 4",
           "LFM2")  # fmt: skip
# One of each format whose layers the CPU's build can make, and of each word on the type of the KV cache.
QUANTIZED = ("Llama, fp8, static", "Llama, AWQ", "Llama, GPTQ", "Llama, compressed-tensors int4",
             "Llama, compressed-tensors int8", "Llama, compressed-tensors fp8, static, KV cache fp8",
             "Llama, ModelOpt fp8, KV cache fp8", "Llama, ModelOpt's older file, KV cache fp8",
             "Llama, Quark fp8, KV cache fp8", "DeepSeek V3, compressed-tensors fp8, static, KV cache fp8",
             "DeepSeek V3, ModelOpt fp8, KV cache fp8", "Qwen3-MoE, compressed-tensors fp8", "gpt-oss, mxfp4",
             "DeepSeek V3, whole experts, fp8, dynamic")  # fmt: skip
CACHE_BYTES = 64 * 1024**2


def test_it_says_so_for_each_architecture(whole_distribution: Path) -> None:
    models = [KNOWN[name] for name in SAMPLED]
    rows = [
        compare(model, question, answer) for (model, question), answer in zip(cases(models), ask(models), strict=True)
    ]
    assert [row for row in rows if not row.agrees] == []
    assert [(row.name, row.unheard) for row in rows if row.unheard] == []
    assert [row for row in rows if row.weights_off is None or abs(row.weights_off) > TOLERANCE] == []


def test_it_says_so_for_quantised_checkpoints(whole_distribution: Path) -> None:
    known = {model["name"]: model for model in every_model()}
    models = [known[name] for name in QUANTIZED]
    rows = [
        compare(model, question, answer) for (model, question), answer in zip(cases(models), ask(models), strict=True)
    ]
    assert len(rows) == 2 * len(QUANTIZED)
    assert [row for row in rows if not row.agrees or row.unheard] == []
    assert [row for row in rows if row.weights_off is None or abs(row.weights_off) > TOLERANCE] == []
    asked = {row.name: row.answered for row in rows if row.width == 1}
    plain = asked["Llama, AWQ"]
    assert plain is not None
    assert asked["Llama, Quark fp8, KV cache fp8"] == plain  # vLLM does not heed Quark's word
    halved = asked["Llama, ModelOpt fp8, KV cache fp8"]
    assert halved is not None
    assert halved[0] == 2 * plain[0]


@pytest.mark.parametrize("name", ["Gemma 3", "Qwen3-Next"])
def test_a_server_says_so_of_itself(name: str, tiny_model: Path, plan_for: PlanFor, tmp_path: Path) -> None:
    # the tokenizer's vocabulary, and heads that the CPU's delta-net kernel takes
    config = {**KNOWN[name]["config"], "vocab_size": 384, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "config.json").write_text(json.dumps(config))
    server = Server(plan_for(tmp_path, "--load-format", "dummy", model=str(folder)), tmp_path)
    try:
        server.until_ready(180)
        logged = re.search(r"KV cache size: ([\d,]+) tokens.*: ([\d.]+)x", server.out + server.err)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', _line(server, "vllm:cache_config_info")))
    finally:
        server.stop()
    predicted = _predicted(config, recurrent=labels["mamba_ssm_cache_dtype"])
    assert labels["num_gpu_blocks"] == str(predicted.blocks)
    assert labels["kv_cache_size_tokens"] == str(predicted.tokens)
    assert logged is not None
    assert (logged[1], logged[2]) == (f"{predicted.tokens:,}", f"{predicted.concurrency:.2f}")


def _predicted(config: dict[str, Any], *, recurrent: str) -> Capacity:
    shape = architecture(config)
    assert shape is not None
    terms = ServingTerms(context_tokens=1024, memory_fraction=0.9, block_tokens=128, batch_tokens=2048,
                         kv_element_bytes=2, eager=True, host_memory=True, kernel_block_tokens=32,
                         recurrent_element_bytes=4 if recurrent == "float32" else 0)  # fmt: skip
    pool = cache_pool(shape, terms, 1)
    assert pool is not None
    return pool.capacity(CACHE_BYTES, 1024)


def _line(server: Server, metric: str) -> str:
    return next(line for line in server.get("/metrics", engine=True)[1].splitlines() if line.startswith(metric))
