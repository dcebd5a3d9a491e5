"""KServe: what of a pod goes where, names that it takes, and fields that its resources have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.deploy.kubernetes.kserve import CONTAINER, kserve_objects, service_name
from aim_engine.deploy.kubernetes.monitoring import monitored, service_monitored
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.pod import pod_template
from aim_engine.deploy.kubernetes.scaling import autoscaled, autoscaled_by_keda
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import without_notes, yaml_text
from aim_engine.errors import InputError
from tests.deploy.custom_resources import RUNTIME_POD_FIELDS, check_custom_resource
from tests.deploy.kubernetes.clusters import cluster
from tests.deploy.kubernetes.specs import KEY, spec
from tests.deploy.planning import planned


def by_kind(one: ClusterSpec, *pieces: Pieces) -> dict[str, Any]:
    return {each["kind"]: without_notes(each) for each in kserve_objects(one, pieces)}


def pod(one: ClusterSpec) -> dict[str, Any]:
    found: dict[str, Any] = without_notes(pod_template(one))["spec"]
    return found


@pytest.mark.parametrize(
    "one", [spec(KEY), spec(namespace="models", replicas=2), spec(tls_secret="cert", pull_secret="r")]
)
def test_they_have_the_fields_of_their_kinds(one: ClusterSpec) -> None:
    found = by_kind(one)
    check_custom_resource(found["ServingRuntime"], pod_fields=frozenset(RUNTIME_POD_FIELDS))
    check_custom_resource(found["InferenceService"], pod_fields=frozenset(pod(one)))


def test_the_runtime_runs_the_same_container() -> None:
    one = spec(KEY)
    (container,) = by_kind(one)["ServingRuntime"]["spec"]["containers"]
    (own,) = pod(one)["containers"]
    assert container == {**own, "name": CONTAINER}
    assert container["ports"][0]["name"] == "api"  # the first is where KServe routes to


def test_nothing_of_the_pod_is_lost_or_said_twice() -> None:
    one = spec(KEY, pull_secret="r")
    found = by_kind(one)
    runtime, predictor = found["ServingRuntime"]["spec"], found["InferenceService"]["spec"]["predictor"]
    assert set(pod(one)) == (set(runtime) | set(predictor)) & set(pod(one))
    assert not set(runtime) & set(predictor) & set(pod(one))
    assert set(runtime) & set(pod(one)) <= RUNTIME_POD_FIELDS
    assert predictor["securityContext"] == pod(one)["securityContext"]
    assert predictor["terminationGracePeriodSeconds"] == pod(one)["terminationGracePeriodSeconds"]


def test_the_service_names_the_runtime_that_is_there() -> None:
    found = by_kind(spec())
    model = found["InferenceService"]["spec"]["predictor"]["model"]
    assert model["runtime"] == found["ServingRuntime"]["metadata"]["name"]
    (supported,) = found["ServingRuntime"]["spec"]["supportedModelFormats"]
    assert model["modelFormat"].items() <= supported.items()
    assert "storageUri" not in model


def test_what_the_pods_need_besides_is_there_and_kserve_makes_the_rest() -> None:
    assert set(by_kind(spec())) == {
        "ServiceAccount", "PersistentVolumeClaim", "NetworkPolicy", "PodDisruptionBudget", "ServingRuntime",
        "InferenceService"}  # fmt: skip


@pytest.mark.parametrize(("replicas", "autoscaler"), [(1, "external"), (3, "none")])
def test_kserves_own_autoscaling_is_off(replicas: int, autoscaler: str) -> None:
    found = by_kind(spec(replicas=replicas))["InferenceService"]
    assert found["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == autoscaler
    predictor = found["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (replicas, replicas)


@pytest.mark.parametrize("make", [autoscaled, autoscaled_by_keda])
def test_what_scales_scales_kserves_deployment(make: Any) -> None:
    one = spec(most_replicas=3)
    found = by_kind(one, make(one))
    (scaler,) = [each for each in found.values() if "scaleTargetRef" in each.get("spec", {})]
    assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen-predictor"}
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "podAffinity" not in found["ServingRuntime"]["spec"]["affinity"]
    predictor = found["InferenceService"]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 3)


@pytest.mark.parametrize("wishes", [{}, {"replicas": 2}, {"replicas": 2, "spare_gpus": 8}])
def test_what_scales_takes_the_gpus_that_were_to_spare(wishes: Any) -> None:
    one = spec(most_replicas=3, **wishes)
    predictor = by_kind(one, autoscaled(one))["InferenceService"]["spec"]["predictor"]
    in_turn = {"maxSurge": 0, "maxUnavailable": 1}
    assert predictor["deploymentStrategy"] == {"type": "RollingUpdate", "rollingUpdate": in_turn}


@pytest.mark.parametrize("namespace", [None, "models", "a" * 40])
def test_its_own_default_name_is_one_that_it_takes(namespace: str | None) -> None:
    """Of a model whose name is long."""
    plan = planned()
    long = "deepseek-ai/DeepSeek-R1-Distill-Llama-70B-whose-name-goes-on"
    plan = replace(plan, request=replace(plan.request, model=long))
    name = service_name(plan, namespace)
    found = by_kind(cluster(plan, name=name, namespace=namespace))
    assert found["InferenceService"]["metadata"]["name"] == name
    assert len(f"{name}-predictor" + (f"-{namespace}" if namespace else "")) <= 63


def test_what_watches_finds_kserves_pods_by_their_labels() -> None:
    one = spec()
    found = by_kind(one, monitored(one))
    chosen = found["PodMonitor"]["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= found["ServingRuntime"]["spec"]["labels"].items()
    with pytest.raises(InputError, match="KServe's Services have other labels"):
        kserve_objects(one, [service_monitored(one)])


def test_a_note_stays_with_its_field() -> None:
    (runtime,) = [each for each in kserve_objects(spec()) if each["kind"] == "ServingRuntime"]
    lines = yaml_text(runtime).splitlines()
    assert lines[lines.index("  affinity:") - 1].lstrip().startswith("#")


@pytest.mark.parametrize(("name", "namespace"), [("q" * 50, "m" * 10), ("qwen", "n" * 51)])
def test_names_whose_host_would_be_too_long(name: str, namespace: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of an InferenceService"):
        kserve_objects(spec(name=name, namespace=namespace))


@pytest.mark.parametrize("length", [52, 62, 63])
def test_a_namespace_that_leaves_no_room_for_a_name(length: int) -> None:
    with pytest.raises(InputError, match=r"--namespace 'n+' leaves no room") as caught:
        kserve_objects(spec(name="q", namespace="n" * length))
    assert "--name" not in caught.value.hint
    assert "up to 51 in all" in caught.value.hint
    assert kserve_objects(spec(name="q", namespace="n" * 51))


def test_a_model_over_several_nodes_is_refused() -> None:
    with pytest.raises(InputError, match="cannot hold a model over 2 nodes"):
        kserve_objects(cluster(planned(nodes="2"), name="big"))


def test_a_cache_for_each_pod_is_refused() -> None:
    with pytest.raises(InputError, match="cannot have a cache each"):
        kserve_objects(spec(local_cache=True, replicas=2))
