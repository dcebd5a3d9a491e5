"""Autoscaling: fields that the kinds have, metrics that are served, queries that Prometheus answers, limits kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.deploy.alerts import ALERTS
from aim_engine.deploy.kubernetes.components import with_pieces
from aim_engine.deploy.kubernetes.monitoring import monitored
from aim_engine.deploy.kubernetes.objects import base_objects
from aim_engine.deploy.kubernetes.scaling import KV_CACHE, WAITING, adapter_rules, autoscaled, autoscaled_by_keda
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import without_notes, yaml_text
from aim_engine.errors import InputError
from tests.deploy.custom_resources import check_custom_resource
from tests.deploy.kubernetes.clusters import cluster
from tests.deploy.kubernetes.specs import spec
from tests.deploy.planning import cpu_plan, planned
from tests.deploy.promql import check_expressions, names_in, needs_promtool, promtool
from tests.deploy.test_alerts import served_names

PAGE = Path(__file__).parents[3] / "docs" / "kubernetes.md"


def made(make: Any, one: ClusterSpec) -> Any:
    (found,) = make(one).objects
    return without_notes(found)


def triggers(one: ClusterSpec) -> list[Any]:
    found: list[Any] = made(autoscaled_by_keda, one)["spec"]["triggers"]
    return found


@pytest.mark.parametrize("make", [autoscaled, autoscaled_by_keda])
def test_they_have_the_fields_of_their_kinds(make: Any) -> None:
    found = made(make, spec(namespace="models"))
    check_custom_resource(found)
    assert found["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}
    with_caches = made(make, spec(replicas=2, local_cache=True))
    assert with_caches["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


def test_they_go_by_what_the_sidecar_serves_without_a_key() -> None:
    assert {WAITING, KV_CACHE} <= served_names()
    metrics = made(autoscaled, spec())["spec"]["metrics"]
    assert [one["pods"]["metric"]["name"] for one in metrics] == [WAITING, KV_CACHE]
    assert [one["pods"]["target"]["averageValue"] for one in metrics] == ["5", "800m"]
    queries = [one["metadata"]["query"] for one in triggers(spec())]
    assert [names_in(query) for query in queries] == [{WAITING}, {KV_CACHE}]
    assert all('app_kubernetes_io_instance="qwen"' in query for query in queries)


def test_the_adapter_serves_exactly_what_the_autoscaler_asks_for() -> None:
    metrics = made(autoscaled, spec())["spec"]["metrics"]
    assert [one["name"]["as"] for one in adapter_rules()] == [one["pods"]["metric"]["name"] for one in metrics]


def test_the_page_has_the_adapters_rules() -> None:
    blocks = [block.partition("```")[0] for block in PAGE.read_text().split("```yaml\n")[1:]]
    assert {"rules": adapter_rules()} in [yaml.safe_load(block) for block in blocks if block.startswith("rules:")]


def test_no_data_is_not_no_load() -> None:
    for trigger in triggers(spec()):
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert trigger["metricType"] == "AverageValue"


def test_a_prometheus_of_ones_own() -> None:
    found = triggers(spec(prometheus="http://prometheus.mine:9090"))
    assert {one["metadata"]["serverAddress"] for one in found} == {"http://prometheus.mine:9090"}


@pytest.mark.parametrize(
    ("start", "window", "period"),
    [(20, 300, 300), (1550, 1550, 1550), (2500, 2500, 1800), (90_000, 3600, 1800)],
)
@pytest.mark.parametrize("make", [autoscaled, autoscaled_by_keda])
def test_pods_go_as_slowly_as_they_come(make: Any, start: int, window: int, period: int) -> None:
    """The most that the API server takes is an hour, and half an hour for a policy."""
    one = spec()
    found = made(make, replace(one, startup=replace(one.startup, warm_seconds=start)))["spec"]
    behaviour = found.get("behavior") or found["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == window
    assert behaviour["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": period}]


@pytest.mark.parametrize(
    ("replicas", "most", "limits"), [(1, None, (1, 4)), (3, None, (3, 6)), (2, 2, (2, 2)), (1, 9, (1, 9))]
)
def test_limits(replicas: int, most: int | None, limits: tuple[int, int]) -> None:
    found = made(autoscaled, spec(replicas=replicas, most_replicas=most))["spec"]
    assert (found["minReplicas"], found["maxReplicas"]) == limits
    asked = made(autoscaled_by_keda, spec(replicas=replicas, most_replicas=most))["spec"]
    assert (asked["minReplicaCount"], asked["maxReplicaCount"]) == limits


def test_limits_that_cannot_be() -> None:
    with pytest.raises(InputError, match="--max-replicas 2 is fewer than the 3"):
        autoscaled(spec(replicas=3, most_replicas=2))


def changed(one: ClusterSpec) -> dict[str, Any]:
    """The base with what autoscaling changes, by kind."""
    return {each["kind"]: without_notes(each) for each in with_pieces(base_objects(one), [autoscaled(one)])}


def test_the_number_of_pods_is_the_autoscalers() -> None:
    """Or every kubectl apply would set it back."""
    for one in (spec(), spec(replicas=2), spec(replicas=2, local_cache=True), spec(spare_gpus=8)):
        base = {each["kind"] for each in base_objects(one)}
        found = changed(one)
        assert base <= set(found)
        assert "replicas" not in found["StatefulSet" if one.local_cache else "Deployment"]["spec"]


def test_pods_on_several_nodes_can_all_mount_the_cache() -> None:
    alone = spec()
    assert {each["kind"]: each for each in base_objects(alone)}["PersistentVolumeClaim"]["spec"]["accessModes"] == [
        "ReadWriteOnce"
    ]
    found = changed(alone)
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "podAffinity" not in found["Deployment"]["spec"]["template"]["spec"].get("affinity", {})


IN_TURN = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@pytest.mark.parametrize("wishes", [{"flags": {"gpu_count": "8"}}, {}, {"replicas": 2}, {"spare_gpus": 8}])
def test_no_gpu_is_to_spare_for_long_and_not_all_pods_go_at_once(wishes: Any) -> None:
    """Where there are GPUs for one pod more, autoscaling may have taken them already."""
    assert changed(spec(**wishes))["Deployment"]["spec"]["strategy"] == IN_TURN


def test_without_gpus_there_is_always_room_for_one_more() -> None:
    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert changed(cluster(cpu_plan()))["Deployment"]["spec"]["strategy"] == surge


def test_groups_are_replaced_one_by_one() -> None:
    over_two = cluster(planned(nodes="2"), spare_gpus=16)
    (base,) = [one for one in base_objects(over_two) if one["kind"] == "LeaderWorkerSet"]
    assert base["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"] == {"maxUnavailable": 0, "maxSurge": 1}
    then = changed(over_two)["LeaderWorkerSet"]["spec"]["rolloutStrategy"]
    assert then["rollingUpdateConfiguration"] == {"maxUnavailable": 1, "maxSurge": 0}


@pytest.mark.parametrize("wishes", [{"flags": {"gpu_count": "8"}}, {}])
def test_what_is_changed_is_not_explained_as_it_was(wishes: Any) -> None:
    one = spec(**wishes)
    text = yaml_text(list(with_pieces(base_objects(one), [autoscaled(one)])))
    before = yaml_text(list(base_objects(one)))
    gone = ("Recreate: a pod more", "a new pod is ready before", "beside the pod that it takes", "one node mounts it")
    assert any(words in before for words in gone)
    assert not [words for words in gone if words in text]
    lines = text.splitlines()
    for key in ("strategy:", "accessModes:"):
        (at,) = [number for number, line in enumerate(lines) if line.strip() == key]
        comment = lines[at - 1]
        assert comment.strip().startswith("# "), key
    said = " ".join(line.strip().removeprefix("# ") for line in lines)
    assert "autoscaling may have taken" in said
    assert "a claim that is there already cannot be changed" in said


def test_a_claim_that_is_there_already_is_not_changed() -> None:
    assert [one["kind"] for one in autoscaled(spec(claim="mine")).patches] == ["Deployment"]


def test_groups_of_several_nodes_are_scaled_as_groups() -> None:
    over_two = cluster(planned(nodes="2"), name="big")
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "big"}
    for make in (autoscaled, autoscaled_by_keda):
        check_custom_resource(made(make, over_two))
        assert made(make, over_two)["spec"]["scaleTargetRef"] == target
    found = changed(over_two)
    assert "replicas" not in found["LeaderWorkerSet"]["spec"]
    assert found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]["size"] == 2
    (rule,) = [one for one in monitored(over_two).objects if one["kind"] == "PrometheusRule"]
    names = {each["alert"] for group in rule["spec"]["groups"] for each in group["rules"]}
    assert {alert.name for alert in ALERTS} - names == {"AimEngineNotCounted"}  # workers have no counters


@needs_promtool
def test_prometheus_can_parse_the_queries(tmp_path: Path) -> None:
    filled = {"<<.Series>>": WAITING, "<<.LabelMatchers>>": 'namespace="models"', "<<.GroupBy>>": "pod"}
    adapted = adapter_rules()[0]["metricsQuery"]
    for placeholder, text in filled.items():
        adapted = adapted.replace(placeholder, text)
    check_expressions(tmp_path, [adapted, *(one["metadata"]["query"] for one in triggers(spec(namespace="models")))])


@needs_promtool
def test_the_sum_over_the_pods_is_what_keda_divides(tmp_path: Path) -> None:
    """Two pods with 8 and 4 waiting, and another model's with 100: 12, which makes 6 a pod and asks for one more."""
    (tmp_path / "none.yaml").write_text('{"groups": []}')
    query = triggers(spec())[0]["metadata"]["query"]
    series = {("a", "qwen"): "8x20", ("b", "qwen"): "4x20", ("c", "llama"): "100x20"}
    (tmp_path / "tests.yaml").write_text(json.dumps({"rule_files": ["none.yaml"], "tests": [{
        "interval": "15s",
        "input_series": [
            {"series": f'{WAITING}{{pod="{pod}",app_kubernetes_io_instance="{of}"}}', "values": values}
            for (pod, of), values in series.items()
        ],
        "promql_expr_test": [{"expr": query, "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 12}]}],
    }]}))  # fmt: skip
    promtool("test", "rules", tmp_path / "tests.yaml")
