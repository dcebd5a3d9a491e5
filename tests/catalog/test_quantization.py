"""What a config says of how its weights are stored; the configs are those that the methods' own tools write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.quantization import METHODS, cache_of, method_of, precision_of
from aim_engine.values import PRECISIONS
from tests.building import examples

W4 = {"num_bits": 4, "type": "int", "group_size": 128}
F8 = {"num_bits": 8, "type": "float"}


def groups(weights: dict[str, Any], inputs: Any = None) -> dict[str, Any]:
    return {"quant_method": "compressed-tensors", "kv_cache_scheme": F8,
            "config_groups": {"group_0": {"weights": weights, "input_activations": inputs}}}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "method", "precision"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", "fp8"),
        ({"quant_method": "awq", "bits": 4}, "awq", "int4"),
        ({"quant_method": "gptq", "bits": 4}, "gptq", "int4"),
        ({"quant_method": "gptq", "bits": 8}, "gptq", "int8"),
        ({"quant_method": "gptq"}, "gptq", "int4"),
        ({"quant_method": "auto-round", "bits": 4}, "inc", "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, "bitsandbytes", "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}, "bitsandbytes", "int8"),
        (groups(W4), "compressed-tensors", "int4"),
        (groups({"num_bits": 8, "type": "int"}, F8), "compressed-tensors", "int8"),
        (groups(F8, F8), "compressed-tensors", "fp8"),
        (groups({"num_bits": 4, "type": "float"}), "compressed-tensors", "fp4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}}, "quark", "fp8"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"},
                                                           "input_tensors": {"dtype": "fp8_e4m3"}}}, "quark", "fp4"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4"}}}, "quark", "int4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "modelopt", "fp8"),
        ({"quant_algo": "FP8"}, "modelopt", "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "modelopt", "int4"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, "torchao", "int4"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}}, "torchao", "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4", "fp4"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8", "fp8"),
        ({"quant_method": "something new"}, "something new", None),
        ({"quant_method": "gptq", "bits": 99}, "gptq", "int4"),
        ({}, "", None),
        (None, "", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nested", [True, False])
def test_methods_and_precisions(said: Any, method: str, precision: str | None, nested: bool) -> None:
    config = {"quantization_config": said}
    config = {"text_config": config} if nested else config
    assert (method_of(config), precision_of(config)) == (method, precision)
    assert method in (*METHODS, "", "something new")


keys = st.sampled_from(["weights", "num_bits", "type", "dtype", "a"])
leaf = st.none() | st.booleans() | st.integers(-9, 99) | st.sampled_from(["fp4", "int8", "x"])
odd = st.recursive(leaf, lambda inner: st.dictionaries(keys, inner))
names = ["quant_method", "quant_algo", "bits", "config_groups", "load_in_4bit", "global_quant_config", "quant_type"]


@examples(200)
@given(said=st.dictionaries(st.sampled_from(names), odd))
def test_odd_ones_do_no_harm(said: dict[str, Any]) -> None:
    assert precision_of({"quantization_config": said}) in (*PRECISIONS, None)


OUTPUTS = {"weight": {"dtype": "fp8_e4m3"}, "output_tensors": {"dtype": "fp8_e4m3"}}


@pytest.mark.parametrize(
    ("said", "cache"),
    [
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": F8}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, ""),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "int"}}, ""),
        ({"quant_method": "modelopt", "kv_cache_scheme": {**F8, "dynamic": False}}, "fp8"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": None}, ""),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}, ""),
        ({"quant_method": "quark", "export": {"kv_cache_group": ["*k_proj"]},
          "layer_quant_config": {"*k_proj": OUTPUTS}}, "fp8"),
        ({"quant_method": "quark", "export": {"kv_cache_group": []}, "layer_quant_config": {"*k_proj": OUTPUTS}}, ""),
        ({"quant_method": "quark", "export": {"kv_cache_group": ["*k_proj"]}, "layer_quant_config": {"a": None}}, ""),
        ({"quant_method": "fp8"}, ""),
        (None, ""),
    ],
)  # fmt: skip
def test_what_the_cache_shall_be_kept_in(said: Any, cache: str) -> None:
    assert cache_of({"quantization_config": said}) == cache
