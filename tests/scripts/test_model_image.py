"""scripts/model-image: what it recommends is what a plan chooses, its profiles and labels are as AMD's operator reads
them. An image is really made in tests/image/test_amd_operator.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.decide import decide
from aim_engine.errors import DockerError, InputError
from aim_engine.plan import Plan
from aim_engine.report import operator_profiles
from aim_engine.request import read_request
from scripts import model_image

QWEN, R1 = "Qwen/Qwen3-32B", "deepseek-ai/DeepSeek-R1-0528"
# The operator's enumerations (amd-enterprise-ai/aim-engine, api/v1alpha1).
METRICS, PRECISIONS = {"latency", "throughput"}, {"fp4", "fp8", "fp16", "fp32", "bf16", "int4", "int8"}
TYPES = {"optimized", "preview", "unoptimized"}


def models() -> list[str]:
    recipes, _, _ = load_everything(catalog_folders())
    return sorted({one.model_id for one in recipes if not one.is_family and one.gpu_type != "CPU"})


def test_one_for_each_gpu_and_metric() -> None:
    found = model_image.recommended_deployments(QWEN)
    keys = [(one["gpuModel"], one["metric"]) for one in found]
    assert len(keys) == len(set(keys)) > 4
    qwen = {one["metric"]: one for one in found if one["gpuModel"] == "MI300X"}
    assert (qwen["latency"]["gpuCount"], qwen["latency"]["precision"]) == (8, "bf16")
    assert (qwen["throughput"]["gpuCount"], qwen["throughput"]["precision"]) == (1, "bf16")


@pytest.mark.parametrize("model", [QWEN, R1])
def test_a_plan_for_those_hints_is_that_deployment(model: str) -> None:
    """The operator hands each deployment to the image as variables, and takes the profile that comes back."""
    for one in model_image.recommended_deployments(model):
        hints = {"AIM_METRIC": one["metric"], "AIM_PRECISION": one["precision"], "AIM_GPU_MODEL": one["gpuModel"],
                 "AIM_GPU_COUNT": str(one["gpuCount"])}  # fmt: skip
        plan = decide(read_request({}, {"AIM_ID": model, **{name: str(text) for name, text in hints.items()}}))
        assert isinstance(plan, Plan), one
        (profile,) = operator_profiles(plan)
        metadata = profile["profile"]["metadata"]
        said = {"gpuModel": metadata["gpu"], "gpuCount": metadata["gpu_count"], "precision": metadata["precision"],
                "metric": metadata["metric"]}  # fmt: skip
        assert said == {key: one[key] for key in said}, one


def test_the_labels_of_every_model_are_as_the_operator_reads_them() -> None:
    """It replaces ' by " first; a label is an argument of docker build, and of every container's description."""
    for model in models():
        label = model_image.labels(model)["com.amd.aim.model.recommendedDeployments"]
        read = json.loads(label.replace("'", '"'))
        assert read == model_image.recommended_deployments(model)
        assert len(label) < 16_000
        for one in read:
            assert set(one) == {"gpuModel", "gpuCount", "precision", "metric", "description"}
            assert one["metric"] in METRICS
            assert one["precision"] in PRECISIONS
            assert one["gpuCount"] > 0


def test_another_engine_recommends_what_that_engine_serves() -> None:
    assert model_image.recommended_deployments(R1, "sglang")
    assert model_image.recommended_deployments(QWEN, "sglang") == []


def test_profiles_have_ids_and_values_that_the_operator_takes() -> None:
    found = model_image.profiles(QWEN)
    assert all(re.fullmatch(r"vllm-[a-z0-9]+-[a-z0-9]+-tp\d+-(latency|throughput)", name) for name in found)
    for profile in found.values():
        metadata = profile["metadata"]
        assert profile["aim_id"] == QWEN
        assert metadata["metric"] in METRICS
        assert metadata["precision"] in PRECISIONS
        assert metadata["type"] in TYPES
        assert all(isinstance(text, str) for text in profile["env_vars"].values())
        assert yaml.safe_load(yaml.safe_dump(profile)) == profile
    assert sum(one["metadata"]["primary"] for one in found.values()) == len(model_image.recommended_deployments(QWEN))


@pytest.mark.parametrize(
    ("base", "tag"),
    [
        ("aim-engine-unified", "aim-engine-unified-qwen-qwen3-32b"),
        ("r.example:5000/a/aim:1.0", "r.example:5000/a/aim-qwen-qwen3-32b:1.0"),
    ],
)
def test_what_it_is_called(base: str, tag: str) -> None:
    assert model_image.default_tag(base, QWEN) == tag


def test_a_model_without_recipes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no recipe of a/b is for a GPU"):
        model_image.build("a/b", "base", "tag")
    assert model_image.main(["a/b"]) == 10
    assert "aim-engine models" in capsys.readouterr().err


def test_what_docker_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'pull access denied for nothing'; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DockerError, match="pull access denied for nothing"):
        model_image.build(QWEN, "nothing", "tag")
