"""ClusterSpec → the objects of a cluster, in the order in which they are made. Pure."""

from __future__ import annotations

from aim_engine.deploy.kubernetes.leader_worker_set import API_VERSION, KIND, leader_worker_set
from aim_engine.deploy.kubernetes.manifest import Manifest, given, manifest, quantity
from aim_engine.deploy.kubernetes.network import headless_service, network_policy, service
from aim_engine.deploy.kubernetes.pod import CACHE_VOLUME, files_name, pod_template
from aim_engine.deploy.kubernetes.rollout import Rollout
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.spec import LABEL
from aim_engine.deploy.yaml_text import Block, Note

# What is said of a plan in the annotations; the others of a container's labels are of one host.
_TOLD = ("version", "model", "served-model", "checkpoint", "recipe", "backend", "precision", "metric", "gpu-type",
         "gpu-count")  # fmt: skip
# An image of 30 GB and more is pulled before a start begins.
_PULL_SECONDS = 1800


def base_objects(spec: ClusterSpec) -> tuple[Manifest, ...]:
    """All that serves the plan. The secret is none of them: its values are written nowhere."""
    claim = () if spec.local_cache or not spec.cache.made else (_claim_object(spec),)
    services = (service(spec), headless_service(spec)) if spec.local_cache else (service(spec),)
    workload = _workload(spec)
    files = (_files_object(spec),) if spec.own_files else ()
    return (_service_account(spec), *claim, *files, network_policy(spec), *services, workload, _disruption_budget(spec))


def workload_kind(spec: ClusterSpec) -> tuple[str, str]:
    """API version and kind of the object that has the pods, which is called as the whole is."""
    if spec.nodes > 1:
        return API_VERSION, KIND
    return "apps/v1", "StatefulSet" if spec.local_cache else "Deployment"


def _workload(spec: ClusterSpec) -> Manifest:
    if spec.nodes > 1:
        return leader_worker_set(spec, _annotations(spec))
    return _stateful_set(spec) if spec.local_cache else _deployment(spec)


def _service_account(spec: ClusterSpec) -> Manifest:
    return manifest("v1", "ServiceAccount", spec.name, namespace=spec.namespace, labels=spec.labels,
                    automountServiceAccountToken=False)  # fmt: skip


def _claim_object(spec: ClusterSpec) -> Manifest:
    return manifest("v1", "PersistentVolumeClaim", spec.cache.claim, namespace=spec.namespace, labels=spec.labels,
                    spec=_claim(spec))  # fmt: skip


def _claim(spec: ClusterSpec) -> Manifest:
    cache = spec.cache
    mode = "ReadWriteMany" if cache.many_nodes else "ReadWriteOnce"
    why = ("pods on several nodes share it: the class must be able to (--storage-class), or each has its own with "
           "--local-cache") if cache.many_nodes else "one node mounts it at a time"  # fmt: skip
    return given({
        Note(why): None,
        "accessModes": [mode],
        "storageClassName": cache.storage_class,
        Note(cache.remark): None,
        "resources": {"requests": {"storage": quantity(cache.size_bytes)}},
    })  # fmt: skip


def _files_object(spec: ClusterSpec) -> Manifest:
    """The recipe and the card that the image does not have."""
    return manifest("v1", "ConfigMap", files_name(spec), namespace=spec.namespace, labels=spec.labels,
                    data={one.key: Block(one.text) for one in spec.own_files})  # fmt: skip


def _annotations(spec: ClusterSpec) -> dict[str, str]:
    labels = spec.container.labels
    return {LABEL + name: labels[LABEL + name] for name in _TOLD if LABEL + name in labels}


def _deployment(spec: ClusterSpec) -> Manifest:
    return manifest(
        "apps/v1", "Deployment", spec.name, namespace=spec.namespace, labels=spec.labels,
        annotations=_annotations(spec), spec={
            "replicas": spec.replicas,
            "revisionHistoryLimit": 3,
            Note("a start as the startup probe allows it, and half an hour to pull the image"): None,
            "progressDeadlineSeconds": deadline_seconds(spec),
            "selector": {"matchLabels": spec.selector},
            Note(spec.rollout.why): None,
            "strategy": strategy(spec.rollout),
            "template": pod_template(spec),
        },
    )  # fmt: skip


def deadline_seconds(spec: ClusterSpec) -> int:
    """Within which a new pod serves, or never will."""
    return spec.startup.probe_seconds + _PULL_SECONDS


def strategy(rollout: Rollout) -> Manifest:
    """How a Deployment's pods are replaced."""
    if not rollout.surge and not rollout.one_at_a_time:
        return {"type": "Recreate"}
    surge, unavailable = (1, 0) if rollout.surge else (0, 1)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}


def _stateful_set(spec: ClusterSpec) -> Manifest:
    return manifest(
        "apps/v1", "StatefulSet", spec.name, namespace=spec.namespace, labels=spec.labels,
        annotations=_annotations(spec), spec={
            "replicas": spec.replicas,
            "serviceName": f"{spec.name}-pods",
            Note("all at once: they do not need each other"): None,
            "podManagementPolicy": "Parallel",
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": spec.selector},
            Note(spec.rollout.why): None,
            "updateStrategy": {"type": "RollingUpdate"},
            "template": pod_template(spec),
            Note("each pod keeps a cache of its own, where it is: a class of local volumes is the fastest"): None,
            "volumeClaimTemplates": [
                {"metadata": {"name": CACHE_VOLUME, "labels": spec.selector}, "spec": _claim(spec)},
            ],
        },
    )  # fmt: skip


def _disruption_budget(spec: ClusterSpec) -> Manifest:
    return manifest(
        "policy/v1", "PodDisruptionBudget", spec.name, namespace=spec.namespace, labels=spec.labels, spec={
            Note("one at a time when nodes are drained; with minAvailable 1 a single pod could never be moved"): None,
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": spec.selector},
        },
    )  # fmt: skip
