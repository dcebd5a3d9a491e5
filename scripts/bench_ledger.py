"""Measure how long the memory ledger takes once a checkpoint's headers are known, for models of full size."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping

from aim_engine.backends.registry import backend
from aim_engine.catalog.checkpoint import Checkpoint, Tensor
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.model_shape import architecture
from aim_engine.hardware.declared import declared_inventory
from aim_engine.selection.memory import Load, ledger
from scripts.bench_numbers import BenchError, Result, result
from scripts.memory_agrees import MODELS

WIDTHS = (1, 2, 4, 8)
LARGEST = "deepseek-ai/DeepSeek-V3"  # nearly all of its tensors are experts': 3 matrices with a scale each
_EXPERT = {"gate_proj": (2048, 7168), "up_proj": (2048, 7168), "down_proj": (7168, 2048)}
USUAL = "meta-llama/Llama-3.1-70B"
_LAYER = {"self_attn.q_proj": (8192, 8192), "self_attn.k_proj": (1024, 8192), "self_attn.v_proj": (1024, 8192),
          "self_attn.o_proj": (8192, 8192), "mlp.gate_proj": (28672, 8192), "mlp.up_proj": (28672, 8192),
          "mlp.down_proj": (8192, 28672), "input_layernorm": (8192,), "post_attention_layernorm": (8192,)}  # fmt: skip


def bench_ledger(runs: int | None) -> list[Result]:
    """The ledger of every known model of full size on 1 to 8 GPUs, with the longest context that fits."""
    configs = {model["name"]: model["config"] for model in json.loads(MODELS.read_text()) if not model["tiny"]}
    cards = {name: card_of(Checkpoint(model_id=name, source="it", config=config, tensors=_a_few(config)))
             for name, config in configs.items()}  # fmt: skip
    turns = [{name: _milliseconds(card) for name, card in cards.items()} for _ in range(runs or 21)]
    usual = Checkpoint(model_id=USUAL, source="it", config=configs[USUAL], tensors=_dense(configs[USUAL]))
    largest = Checkpoint(model_id=LARGEST, source="it", config=configs[LARGEST], tensors=_experts(configs[LARGEST]))
    of_usual = [sum(_from_headers(usual)) for _ in range(runs or 21)]
    reading, of_largest = zip(*(_from_headers(largest) for _ in range(runs or 5)), strict=True)
    every = [value for turn in turns for value in turn.values()]
    return [
        result(f"ledger of {len(cards)} models on {len(WIDTHS)} widths: time of one", "ms", 10, every),
        result("the slowest model of each round", "ms", 10, [max(turn.values()) for turn in turns]),
        result(f"{USUAL}: its {len(usual.tensors):,} headers summed up, and the ledger", "ms", 10, of_usual),
        result(f"{LARGEST}: the ledger", "ms", 10, of_largest),
        result(f"{LARGEST}: its {len(largest.tensors):,} headers summed up, once when it is read", "ms", None, reading),
    ]


def _from_headers(checkpoint: Checkpoint) -> tuple[float, float]:
    """Milliseconds to sum the headers up into a card, and of the ledger."""
    started = time.perf_counter()
    card = card_of(checkpoint)
    return (time.perf_counter() - started) * 1e3, _milliseconds(card)


def _milliseconds(card: ModelCard) -> float:
    """Of one ledger, the mean over the widths."""
    gpu = declared_inventory("MI300X:8").gpus[0]
    started = time.perf_counter()
    for width in WIDTHS:
        terms = backend("vllm").read_terms({"tensor-parallel-size": width}, {}, gpu, None)
        found = ledger(Load(card=card, precision=card.precision or "bf16", tensor_parallel_size=width,
                            budget_bytes=int(gpu.memory_bytes * 0.9), context_tokens=None, concurrency=1,
                            terms=terms))  # fmt: skip
        if found is None:
            raise BenchError(f"{card.model_id}: no ledger")
    return (time.perf_counter() - started) * 1e3 / len(WIDTHS)


def _a_few(config: Mapping[str, object]) -> dict[str, Tensor]:
    """One matrix for each layer: a card sums the tensors up by layer, and so the ledger sees no more of them."""
    shape = architecture(text_part(dict(config)))
    if shape is None:
        raise BenchError(f"{config.get('architectures')}: no shape")
    rows, columns = shape.intermediate_size, shape.hidden_size
    tensor = Tensor(dtype="BF16", shape=(rows, columns), bytes=2 * rows * columns)
    return {f"model.layers.{number}.mlp.up_proj.weight": tensor for number in range(shape.layers)}


def _dense(config: Mapping[str, int]) -> dict[str, Tensor]:
    table = (config["vocab_size"], config["hidden_size"])
    shapes = {"model.embed_tokens.weight": table, "lm_head.weight": table, "model.norm.weight": table[1:]}
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in _LAYER.items()}
    return {name: Tensor(dtype="BF16", shape=shape, bytes=2 * math.prod(shape)) for name, shape in shapes.items()}


def _experts(config: Mapping[str, int]) -> dict[str, Tensor]:
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for expert in range(config["n_routed_experts"]):
            for name, (rows, columns) in _EXPERT.items():
                start = f"model.layers.{layer}.mlp.experts.{expert}.{name}.weight"
                scales = (rows // 128, columns // 128)
                tensors[start] = Tensor(dtype="F8_E4M3", shape=(rows, columns), bytes=rows * columns)
                tensors[f"{start}_scale_inv"] = Tensor(dtype="F32", shape=scales, bytes=4 * scales[0] * scales[1])
    return tensors
