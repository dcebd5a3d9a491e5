"""What components and KServe make, of several models: by Kubernetes' own schemas where it has some, by the CRDs' fields
where not, and laid over the base by kubectl as by us.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from aim_engine.cli.main import main
from tests.deploy.custom_resources import KINDS, RUNTIME_POD_FIELDS, check_custom_resource
from tests.deploy.kubernetes.examples import EXAMPLES
from tests.deploy.kubernetes.test_golden import VERSIONS, for_an_old_kubectl, kubectl, needs_kubectl, old_kubectl

# Whole GPUs and the CPU, one pod and several, a cache for all and one each, TLS, a claim that is there.
NAMES = (
    "qwen3-32b",
    "qwen3-8b-surge",
    "llama-3.1-8b-local-caches",
    "qwen3-235b-offline",
    "qwen2.5-7b-mi250x",
    "small-on-cpu",
)
ADDED = ("--with", "monitored", "--with", "autoscaled")
INSTEAD = ("--with", "service-monitored", "--with", "autoscaled-keda")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIM_API_KEY", "s3cret-of-the-tests")


def stream(capsys: pytest.CaptureFixture[str], target: str, name: str, *more: str) -> list[Any]:
    assert main(["render", target, *EXAMPLES[name], *more]) == 0
    text = capsys.readouterr().out
    assert "s3cret" not in text
    return list(yaml.safe_load_all(text))


def check(one: dict[str, Any]) -> None:
    if (one["apiVersion"], one["kind"]) in KINDS:
        check_custom_resource(one)
    if not one["apiVersion"].startswith(("monitoring.", "keda.")):
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("added", [ADDED, INSTEAD], ids=["monitored", "instead"])
def test_every_object_is_as_its_schema_wants_it(
    name: str, added: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    found = stream(capsys, "kubernetes", name, *added)
    assert len({(one["kind"], one["metadata"]["name"]) for one in found}) == len(found)
    for one in found:
        check(one)


@pytest.mark.parametrize("name", [name for name in NAMES if "local" not in name])
def test_the_pods_of_kserve_are_pods(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Put together again as KServe does it, from the runtime and the service."""
    found = {one["kind"]: one for one in stream(capsys, "kserve", name, *ADDED)}
    runtime, service = found.pop("ServingRuntime"), found.pop("InferenceService")
    for one in found.values():
        check(one)
    predictor = service["spec"]["predictor"]
    own = {"minReplicas", "maxReplicas", "deploymentStrategy", "model"}
    pod = {k: v for k, v in predictor.items() if k not in own}
    check_custom_resource(service, pod_fields=frozenset(pod))
    check_custom_resource(runtime, pod_fields=frozenset(RUNTIME_POD_FIELDS))
    pod |= {k: v for k, v in runtime["spec"].items() if k in RUNTIME_POD_FIELDS}
    made = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "labels": runtime["spec"]["labels"]},
        "spec": pod,
    }
    for version in VERSIONS:
        kubernetes_validate.validate(made, version, strict=True)


@needs_kubectl
@pytest.mark.parametrize("name", NAMES)
def test_kubectl_lays_it_over_the_base_as_we_do(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "kubernetes", *EXAMPLES[name], "-o", str(tmp_path / "k")]) == 0
    capsys.readouterr()
    if old_kubectl():
        for_an_old_kubectl(tmp_path / "k")
    ours = {(one["kind"], one["metadata"]["name"]): one for one in stream(capsys, "kubernetes", name, *ADDED)}
    theirs = yaml.safe_load_all(kubectl("kustomize", str(tmp_path / "k/overlays/complete")))
    laid = {(one["kind"], one["metadata"]["name"]): one for one in theirs}
    assert set(laid) == set(ours)
    for key, one in ours.items():
        assert json.dumps(laid[key], sort_keys=True) == json.dumps(one, sort_keys=True), key
