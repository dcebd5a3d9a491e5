"""What a recipe asks of vLLM's kernels, against what each product has."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.backends import vllm
from aim_engine.backends.vllm_kernels import kernel_complaints
from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.hardware.products import all_products
from tests.building import recipe, variant

AITER = {"VLLM_ROCM_USE_AITER": "1"}
QUICK = {"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "INT4"}


def said(gpu_type: str, precision: str = "bf16", checkpoint: str = "org/name", args: dict[str, Any] | None = None,
         env: dict[str, str] | None = None) -> dict[str, str]:  # fmt: skip
    return {one.key: one.sentence for one in kernel_complaints(gpu_type, precision, checkpoint, args or {}, env or {})}


@pytest.mark.parametrize("product", all_products(), ids=lambda product: product.name)
def test_what_the_instruction_set_decides(product: Any) -> None:
    """gfx942 and gfx950 have AITER and the all-reduces; fp8 also gfx12; NVFP4 none (vLLM's platforms/rocm.py)."""
    large = product.gfx in ("gfx942", "gfx950")
    assert bool(said(product.name, env=AITER)) is not large
    assert bool(said(product.name, env=QUICK)) is not large
    assert bool(said(product.name, precision="fp8")) is not (large or product.gfx.startswith("gfx12"))
    assert said(product.name, args={"quantization": "modelopt_fp4"})
    assert not said(product.name, "fp4", args={"quantization": "quark"})


@pytest.mark.parametrize(
    ("complaint", "words"),
    [
        (said("MI210", env=AITER),
         {"env.VLLM_ROCM_USE_AITER": "turns AITER on, which has no kernels for MI210 (gfx90a)"}),
        (said("W7900", env=QUICK), {"env.VLLM_ROCM_QUICK_REDUCE_QUANTIZATION":
                                    "turns quick all-reduce on, which has no kernels for W7900 (gfx1100)"}),
        (said("mi250x", precision="fp8"), {"precision": "is fp8, in which MI250X (gfx90a) does not compute"}),
        (said("MI210", args={"quantization": "ptpc_fp8"}),
         {"args.quantization": "is fp8, in which MI210 (gfx90a) does not compute"}),
        (said("MI355X", "fp4", "nvidia/Llama-3.3-70B-NVFP4"),
         {"huggingface_id": "cannot be served: the checkpoint is quantised to NVFP4, NVIDIA's own format, which no AMD "
                            "GPU computes in"}),
    ],
)  # fmt: skip
def test_the_sentence_names_the_product(complaint: dict[str, str], words: dict[str, str]) -> None:
    assert complaint == words


@pytest.mark.parametrize("env", [{"VLLM_ROCM_USE_AITER": "0"}, {"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "NONE"}, {}])
def test_what_is_switched_off_needs_nothing(env: dict[str, str]) -> None:
    assert said("MI210", env=env) == {}


@pytest.mark.parametrize("gpu_type", ["CPU", "H100", ""])
def test_nothing_is_said_of_a_gpu_that_nobody_knows(gpu_type: str) -> None:
    assert said(gpu_type, "fp8", "nvidia/x-nvfp4", env=AITER) == {}


def test_review_says_it_beside_the_options() -> None:
    one = variant(1, args={"no-such": 1}, env=AITER)
    keys = [complaint.key for complaint in vllm.review(recipe(one, gpu_type="MI210", precision="fp8"), one)]
    assert keys == ["args.no-such", "env.VLLM_ROCM_USE_AITER", "precision"]


def test_no_shipped_recipe_asks_for_kernels_that_are_not_there() -> None:
    recipes = load_everything(catalog_folders())[0]
    assert recipes
    complaints = [
        (one.recipe_id, complaint.key, complaint.sentence)
        for one in recipes
        for each in one.variants
        if each.backend == vllm.name
        for complaint in vllm.review(one, each)
        if not complaint.is_warning
    ]
    assert complaints == []
