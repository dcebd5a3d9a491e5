"""ClusterSpec → what adds and takes away its pods: a HorizontalPodAutoscaler (autoscaling/v2), or KEDA's ScaledObject
(keda.sh/v1alpha1), and what of the base that changes. Pure.

Both go by the requests that wait and by the use of the KV cache, as the health sidecar serves them: without a key, and
by one name for every engine. Neither knows what a start costs, so the plan's time for a start says how slowly pods go.
"""

from __future__ import annotations

from typing import Any

from aim_engine.deploy.kubernetes.leader_worker_set import group_strategy
from aim_engine.deploy.kubernetes.manifest import Manifest, given, manifest
from aim_engine.deploy.kubernetes.monitoring import scope
from aim_engine.deploy.kubernetes.objects import strategy, workload_kind
from aim_engine.deploy.kubernetes.pieces import Pieces
from aim_engine.deploy.kubernetes.rollout import while_scaled
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import Note
from aim_engine.errors import InputError

WAITING, KV_CACHE = "aim_engine_requests_waiting", "aim_engine_kv_cache_usage_ratio"
# A queue that does not go away means a full batch of the engine's; a cache this full leaves no room for long prompts.
_WAITING_EACH, _KV_CACHE_PERCENT = 5, 80
_MOST = 4
# kubernetes.io/docs/reference: HPAScalingRules; an hour and half an hour are the most that the API server takes
_LONGEST_WINDOW, _LONGEST_PERIOD = 3600, 1800
_SHORTEST_WINDOW = 300
_UP_WINDOW, _UP_EVERY = 30, 60


def autoscaled(spec: ClusterSpec) -> Pieces:
    """By a HorizontalPodAutoscaler, whose metrics prometheus-adapter makes (see `adapter_rules`).

    Raises:
        InputError: its limits cannot be.
    """
    least, most = limits(spec)
    targets = {WAITING: str(_WAITING_EACH), KV_CACHE: f"{_KV_CACHE_PERCENT * 10}m"}
    found = manifest(
        "autoscaling/v2", "HorizontalPodAutoscaler", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
            "scaleTargetRef": _target(spec),
            "minReplicas": least,
            "maxReplicas": most,
            Note("Kubernetes has no such metrics by itself: prometheus-adapter makes them of what Prometheus scrapes, "
                 "with the rules in docs/kubernetes.md"): None,
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": name},
                                          "target": {"type": "AverageValue", "averageValue": value}}}
                for name, value in targets.items()
            ],
            **_behaviour(spec),
        },
    )  # fmt: skip
    return Pieces(objects=(found,), patches=_changes(spec))


def autoscaled_by_keda(spec: ClusterSpec) -> Pieces:
    """By KEDA, which asks Prometheus itself, and makes the HorizontalPodAutoscaler.

    Without `fallback`: while Prometheus says nothing the number of pods stays, which is what the HPA does by itself.

    Raises:
        InputError: its limits cannot be.
    """
    least, most = limits(spec)
    thresholds = {WAITING: str(_WAITING_EACH), KV_CACHE: f"{_KV_CACHE_PERCENT / 100:g}"}
    found = manifest(
        "keda.sh/v1alpha1", "ScaledObject", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
            "scaleTargetRef": _target(spec),
            "minReplicaCount": least,
            "maxReplicaCount": most,
            "pollingInterval": 15,
            "advanced": {"horizontalPodAutoscalerConfig": _behaviour(spec)},
            Note("each a sum over the pods, which is divided by how many there are. No answer is not no load: with "
                 "ignoreNullValues pods would be taken away whenever Prometheus loses sight of them"): None,
            "triggers": [_trigger(spec, metric, threshold) for metric, threshold in thresholds.items()],
        },
    )  # fmt: skip
    return Pieces(objects=(found,), patches=_changes(spec))


def _trigger(spec: ClusterSpec, metric: str, threshold: str) -> Manifest:
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": spec.prometheus,
            "query": f"sum(avg_over_time({metric}{{{scope(spec)}}}[1m]))",
            "threshold": threshold,
            "ignoreNullValues": "false",
        },
    }


def adapter_rules() -> list[dict[str, Any]]:
    """What prometheus-adapter must be told, under `rules` of its configuration
    (github.com/kubernetes-sigs/prometheus-adapter, docs/config.md).
    """
    return [
        {
            "seriesQuery": f'{metric}{{namespace!="",pod!=""}}',
            "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
            "name": {"matches": f"^{metric}$", "as": metric},
            # the mean of a minute: a queue that is gone with the next step is none
            "metricsQuery": "avg by (<<.GroupBy>>) (avg_over_time(<<.Series>>{<<.LabelMatchers>>}[1m]))",
        }
        for metric in (WAITING, KV_CACHE)
    ]


def limits(spec: ClusterSpec) -> tuple[int, int]:
    """The fewest and the most pods.

    Raises:
        InputError: there cannot be such.
    """
    most = spec.most_replicas if spec.most_replicas is not None else max(_MOST, 2 * spec.replicas)
    if most < spec.replicas:
        raise InputError(
            f"--max-replicas {most} is fewer than the {spec.replicas} of --replicas",
            hint="give it more, or leave it out",
        )
    return spec.replicas, most


def _behaviour(spec: ClusterSpec) -> Manifest:
    """One pod more a minute, and one fewer in the time that a start takes, after no more were wanted for as long."""
    window = min(_LONGEST_WINDOW, max(_SHORTEST_WINDOW, spec.startup.warm_seconds))
    return {
        Note(f"a pod that is taken away too early costs a whole start: {window} s here"): None,
        "behavior": {
            "scaleUp": {
                "stabilizationWindowSeconds": _UP_WINDOW,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": _UP_EVERY}],
            },
            "scaleDown": {
                "stabilizationWindowSeconds": window,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": min(_LONGEST_PERIOD, window)}],
            },
        },
    }


def _target(spec: ClusterSpec) -> Manifest:
    api, kind = workload_kind(spec)
    return {"apiVersion": api, "kind": kind, "name": spec.name}


def _changes(spec: ClusterSpec) -> tuple[Manifest, ...]:
    """The number of pods is the autoscaler's, and they are on several nodes."""
    workload = _change(spec, *workload_kind(spec), spec.name, {"replicas": None})
    if spec.local_cache:
        return (workload,)
    rollout = spec.rollout
    then = while_scaled(rollout, on_devices=spec.demands.resource is not None)
    if spec.nodes > 1:
        workload["spec"] |= {Note(then.why): None, "rolloutStrategy": group_strategy(then)}
        return (workload,)
    workload["spec"] |= {Note(then.why): None, "strategy": strategy(then)}
    if rollout.surge and rollout.same_node and spec.cache.made:
        workload["spec"]["template"] = {"spec": {"affinity": {"podAffinity": None}}}
    if not spec.cache.made or spec.cache.many_nodes:
        return (workload,)
    claim = _change(spec, "v1", "PersistentVolumeClaim", spec.cache.claim, {
        Note("with autoscaling pods are on several nodes: all must be able to mount it (--storage-class), or each pod "
             "has its own with --local-cache. The accessModes of a claim that is there already cannot be changed: the "
             "API server refuses it (docs/kubernetes.md, Autoscaling, says how to move)"): None,
        "accessModes": ["ReadWriteMany"],
    })  # fmt: skip
    return workload, claim


def _change(spec: ClusterSpec, api: str, kind: str, name: str, changed: Manifest) -> Manifest:
    """A patch; kustomize finds an object that has a namespace by that as well."""
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": given({"name": name, "namespace": spec.namespace}),
        "spec": changed,
    }
