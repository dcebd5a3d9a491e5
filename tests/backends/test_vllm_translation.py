"""A recipe's words in each version's own: what is called otherwise, what may go, what is missed."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.backends import vllm, vllm_versions
from aim_engine.backends.vllm_translation import Translated, translate
from aim_engine.catalog.recipe import Variant
from tests.building import recipe, variant

Words = dict[str, Any] | None


def words(version: str, args: Words = None, env: Words = None, *optional: str) -> Translated:
    return translate(args or {}, env or {}, optional, vllm_versions.parse_version(version))


@pytest.mark.parametrize(
    ("version", "args", "options"),
    [
        ("0.9.2", {"cudagraph-capture-sizes": [1]}, {"cuda-graph-sizes": [1]}),
        ("0.32.0", {"cuda-graph-sizes": [1]}, {"cudagraph-capture-sizes": [1]}),
        ("0.32.0", {"cuda-graph-sizes": [1], "cudagraph-capture-sizes": [2]}, {"cudagraph-capture-sizes": [2]}),
        ("0.32.0", {"eplb-window-size": 9}, {"eplb-config": {"window_size": 9}}),
        ("0.32.0", {"eplb-window-size": 9, "eplb-step-interval": 8},
         {"eplb-config": {"window_size": 9, "step_interval": 8}}),
        ("0.32.0", {"eplb-window-size": 9, "eplb-config": {"policy": "default"}},
         {"eplb-config": {"policy": "default", "window_size": 9}}),
        ("0.32.0", {"eplb-config": {"policy": "default"}, "eplb-window-size": 9},
         {"eplb-config": {"policy": "default", "window_size": 9}}),
        ("0.32.0", {"disable-mm-preprocessor-cache": True}, {"mm-processor-cache-gb": 0}),
        ("0.32.0", {"disable-mm-preprocessor-cache": False}, {}),
        ("0.32.0", {"disable-log-requests": False}, {"enable-log-requests": True}),
        ("0.9.2", {"enable-log-requests": False}, {"disable-log-requests": True}),
        ("0.9.2", {"enable-log-requests": True}, {}),
        ("0.10.2", {"compilation-config": {"mode": 3, "n": 1}}, {"compilation-config": {"n": 1, "level": 3}}),
        ("0.32.0", {"compilation-config": {"level": 3}}, {"compilation-config": {"mode": 3}}),
        ("0.32.0", {"compilation-config": {"level": 3, "mode": 2}}, {"compilation-config": {"level": 3, "mode": 2}}),
        ("0.32.0", {"compilation-config": 3}, {"compilation-config": 3}),
    ],
)  # fmt: skip
def test_an_option_in_the_versions_own_words(version: str, args: dict[str, Any], options: dict[str, Any]) -> None:
    done = words(version, args)
    assert done.options == options
    assert done.absent == done.dropped == []
    assert bool(done.renamed or done.harmless) is (options != args)


def test_what_is_an_option_in_one_version_is_a_variable_in_another() -> None:
    old = words("0.11.2", {"attention-backend": "ROCM_ATTN"})
    assert (old.options, old.env) == ({}, {"VLLM_ATTENTION_BACKEND": "ROCM_ATTN"})
    new = words("0.16.0", {}, {"VLLM_ATTENTION_BACKEND": "ROCM_ATTN"})
    assert (new.options, new.env) == ({"attention-backend": "ROCM_ATTN"}, {})
    both = words("0.13.0", {"attention-backend": "A"}, {"VLLM_ATTENTION_BACKEND": "B"})
    assert (both.options, both.env) == ({"attention-backend": "A"}, {"VLLM_ATTENTION_BACKEND": "B"})
    own = words("0.16.0", {"attention-backend": "A"}, {"VLLM_ATTENTION_BACKEND": "B"})
    assert own.options == {"attention-backend": "A"}


def test_a_renamed_variable_never_replaces_one_that_has_the_new_name_already() -> None:
    env = {"VLLM_USE_AITER_UNIFIED_ATTENTION": "1", "VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION": "0"}
    for given in (env, dict(reversed(env.items()))):
        assert words("0.32.0", {}, given).env == {"VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION": "0"}


def test_what_a_version_has_not_is_dropped_only_where_the_recipe_says_so() -> None:
    args = {"async-scheduling": True, "dtype": "auto"}
    strict, lenient = words("0.9.2", args), words("0.9.2", args, {}, "async-scheduling")
    assert [change.key for change in strict.absent] == ["args.async-scheduling"]
    assert strict.absent[0].sentence.startswith("vLLM has it since 0.10")
    assert (lenient.absent, [change.key for change in lenient.dropped]) == ([], ["args.async-scheduling"])
    assert lenient.options == strict.options == {"dtype": "auto"}


def test_a_variable_that_a_version_has_not_stays_and_is_named_unless_optional() -> None:
    env = {"VLLM_ROCM_CUSTOM_PAGED_ATTN": "1", "HSA_NO_SCRATCH_RECLAIM": "1"}
    done = words("0.32.0", {}, env)
    assert done.env == env
    assert [(change.key, "until" in change.sentence) for change in done.idle] == [
        ("env.VLLM_ROCM_CUSTOM_PAGED_ATTN", True)
    ]
    assert "attention-backend" in done.idle[0].sentence
    assert words("0.32.0", {}, env, "VLLM_ROCM_CUSTOM_PAGED_ATTN").idle == []


def test_the_tables_speak_of_names_that_are_or_were_there() -> None:
    options, variables = vllm_versions.table("options"), vllm_versions.table("variables")
    for old, new in vllm_versions.table("renamed").items():
        assert {old, new} <= options.keys()
    for old, (new, _) in vllm_versions.table("into").items():
        assert {old, new} <= options.keys()
    for old, values in vllm_versions.table("values").items():
        assert {old, *(name for meant in values.values() for name in meant)} <= options.keys()
    for option, variable in vllm_versions.table("as_variable").items():
        assert option in options
        assert variable in variables
    for old, new in vllm_versions.table("variables_renamed").items():
        assert new in variables
        assert vllm_versions.was_ever_variable(old)
    for name in [*vllm_versions.table("variables_replaced"), *vllm_versions.table("variables_without_effect")]:
        assert vllm_versions.was_ever_variable(name), name
        assert not vllm_versions.has_variable(name, None), name
    assert not set(vllm_versions.table("of_forks")) & variables.keys()


def reviewed(**changes: Any) -> list[tuple[str, bool]]:
    one: Variant = variant(1, **changes)
    return [(complaint.key, complaint.is_warning) for complaint in vllm.review(recipe(one), one)]


def test_a_variable_is_reviewed_without_an_engine() -> None:
    env = {"VLLM_ROCM_USE_AITER": "1", "VLLM_NO_SUCH": "1", "NCCL_NO_SUCH": "1", "OMP_NUM_THREADS": "1",
           "VLLM_USE_AITER_TRITON_ROPE": "1"}  # fmt: skip
    assert reviewed(env=env) == [("env.VLLM_NO_SUCH", False), ("env.NCCL_NO_SUCH", True)]
