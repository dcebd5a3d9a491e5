"""An image of one model, asked as AMD's inference operator asks it: its labels, the discovery job of its v1alpha1 API
(`dry-run` as a user without capabilities, home or GPU) and that of v1alpha2 (a walk through a folder).

The contracts: github.com/amd-enterprise-ai/aim-engine, internal/aimmodel/inspector.go,
internal/aimservicetemplate/discovery.go, internal/v1alpha2/aimmodel/discovery_job.go and .../aimprofile/catalog.go.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from scripts import model_image
from tests.image.containers import LABEL, docker

pytestmark = pytest.mark.image

MODEL = "Qwen/Qwen3-32B"
# As the Job has it: UID 65532, no privilege, RuntimeDefault's seccomp, no device. No network either: it needs none.
AS_THE_JOB = ("--rm", "--user", "65532", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network",
              "none", "--label", LABEL)  # fmt: skip
SILENT = {"AIM_LOG_LEVEL_ROOT": "CRITICAL", "AIM_LOG_LEVEL": "CRITICAL"}


@pytest.fixture(scope="module")
def model_tag(image: str) -> Iterator[str]:
    tag = f"{LABEL}-model"
    model_image.build(MODEL, image, tag)
    yield tag
    docker("rmi", "--force", tag)


@pytest.fixture(scope="module")
def recommended(model_tag: str) -> list[dict[str, Any]]:
    """The label as the operator reads it."""
    label = '{{index .Config.Labels "com.amd.aim.model.recommendedDeployments"}}'
    text = docker("inspect", "--format", label, model_tag).stdout
    found: list[dict[str, Any]] = json.loads(text.strip().replace("'", '"'))
    return found


def discover(image: str, **hints: str) -> Any:
    """The discovery job; its log is both streams, as a pod's is."""
    given = [word for name, text in {**SILENT, **hints}.items() for word in ("--env", f"{name}={text}")]
    done = subprocess.run(
        ["docker", "run", *AS_THE_JOB, *given, image, "dry-run", "--format=json"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


def test_its_labels_name_the_model(model_tag: str) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", model_tag).stdout)
    assert labels["com.amd.aim.model.canonicalName"] == MODEL
    assert labels["com.amd.aim.title"] == "Qwen3-32B"
    assert labels["com.amd.aim.hfToken.required"] == "False"
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-changed")) == 40  # the general image's


def test_every_recommended_deployment_is_discovered(model_tag: str, recommended: list[dict[str, Any]]) -> None:
    chosen = [one for one in recommended if one["gpuModel"] in ("MI300X", "MI355X")]
    assert len(chosen) == 4
    for one in chosen:
        (found,) = discover(model_tag, AIM_METRIC=one["metric"], AIM_PRECISION=one["precision"],
                            AIM_GPU_MODEL=one["gpuModel"], AIM_GPU_COUNT=str(one["gpuCount"]))  # fmt: skip
        profile, (model,) = found["profile"], found["models"]
        metadata = profile["metadata"]
        assert (metadata["gpu"], metadata["gpu_count"]) == (one["gpuModel"], one["gpuCount"])
        assert (metadata["metric"], metadata["precision"]) == (one["metric"], one["precision"])
        assert metadata["type"] in ("optimized", "preview", "unoptimized")
        assert isinstance(profile["engine_args"], dict)
        assert all(isinstance(text, str) for text in profile["env_vars"].values())
        assert not {"HF_HOME", "HOME", "VLLM_CACHE_ROOT"} & set(profile["env_vars"])  # the pods' own
        assert model["source"] == f"hf://{model['name']}"
        assert model["size_gb"] > 10


def test_hints_that_nothing_matches_give_an_empty_list(model_tag: str) -> None:
    assert discover(model_tag, AIM_GPU_MODEL="W7900", AIM_GPU_COUNT="1", AIM_PRECISION="bf16") == []


def test_the_general_image_is_told_the_model(image: str) -> None:
    """As the base image it is: an AIMModel with AIM_MODEL_ID in its env."""
    (found,) = discover(image, AIM_MODEL_ID=MODEL, AIM_GPU_MODEL="MI300X", AIM_GPU_COUNT="8")
    assert found["profile"]["aim_id"] == MODEL


def test_the_other_jobs_walk_finds_its_profiles(model_tag: str, recommended: list[dict[str, Any]]) -> None:
    """v1alpha2 starts no program of ours: /bin/sh, find and base64 in 256 MiB, at a path that AIM_ID completes."""
    script = (
        f'set -eu; cd {model_image.PROFILES}; for file in $(find "$AIM_ID" -type f -name "*.yaml" | sort); do '
        'echo "$file $(base64 <"$file" | tr -d "\\n")"; done; echo "$AIM_BASE_IMAGE_REF"'
    )
    done = docker("run", "--rm", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none",
                  "--memory", "256m", "--cpus", "0.5", "--label", LABEL, "--entrypoint", "/bin/sh", model_tag, "-c",
                  script)  # fmt: skip
    *records, base = done.stdout.splitlines()
    assert base
    found = {path: yaml.safe_load(base64.b64decode(text)) for path, text in (line.split() for line in records)}
    assert all(path.startswith(f"{MODEL}/") for path in found)
    assert {one["aim_id"] for one in found.values()} == {MODEL}
    primary = [one["metadata"] for one in found.values() if one["metadata"]["primary"]]
    keys = [(one["accelerator_model"], one["accelerator_count"], one["precision"], one["metric"]) for one in primary]
    assert sorted(keys) == sorted(
        (one["gpuModel"], one["gpuCount"], one["precision"], one["metric"]) for one in recommended
    )
