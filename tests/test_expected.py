"""A plan is what it was expected to be, or every difference is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from aim_engine.errors import InputError
from aim_engine.expected import check_expected, differences, expectation
from tests.deploy.planning import cpu_plan, planned


def expecting(expected: Mapping[str, Any], **flags: str) -> None:
    check_expected(planned({"AIM_EXPECT_PLAN": json.dumps(expected)}, **flags))


def test_the_same_plan_is_as_expected() -> None:
    expecting(expectation(planned()))
    expecting({})


def test_another_placement_is_told() -> None:
    with pytest.raises(InputError) as caught:
        expecting(expectation(planned()), gpu_count="4")
    assert caught.value.code == 10
    assert "gpu_count is 4, and 8 was expected" in caught.value.message
    assert "tensor_parallel_size is 4, and 8 was expected" in caught.value.message
    assert "args.tensor-parallel-size is 4, and 8 was expected" in "; ".join(
        [caught.value.message, *caught.value.details]
    )


def test_a_recipe_of_the_same_id_with_other_words_is_told() -> None:
    before = expectation(planned())
    before["args"] = {**before["args"], "max-num-seqs": 64, "max-model-len": 1024}
    del before["args"]["gpu-memory-utilization"]
    before["env"] = {}
    with pytest.raises(InputError) as caught:
        expecting(before)
    said = "; ".join([caught.value.message, *caught.value.details])
    assert "args.max-num-seqs is 512, and 64 was expected" in said
    assert "args.max-model-len is 32768, and 1024 was expected" in said
    assert "args.gpu-memory-utilization is 0.9, and absent was expected" in said
    assert "env.VLLM_ROCM_USE_AITER" in said


def test_what_nobody_expects_does_not_count() -> None:
    assert list(differences({"a": 1, "b": 2}, {"a": 1})) == []


def test_a_folder_is_another_path_elsewhere() -> None:
    assert "huggingface_id" not in expectation(cpu_plan(model="/models/mine"))


def test_memory_that_is_free_is_no_part_of_it() -> None:
    assert expectation(planned(max_model_len="auto")) == expectation(planned())
