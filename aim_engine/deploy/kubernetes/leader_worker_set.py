"""ClusterSpec → a LeaderWorkerSet, for a model that spans nodes: a leader with the API and workers, made of the same
pod as any other workload's. Pure.

The fields are those of leaderworkerset.x-k8s.io/v1 (kubernetes-sigs/lws, api/leaderworkerset/v1). Its controller tells
every pod the group's size, which one it is and where the leader is (LWS_*), which the settings understand.
"""

from __future__ import annotations

from collections.abc import Mapping

from aim_engine.deploy.kubernetes.manifest import Manifest, manifest
from aim_engine.deploy.kubernetes.pod import API, pod_template
from aim_engine.deploy.kubernetes.rollout import Rollout
from aim_engine.deploy.kubernetes.spec import ClusterSpec
from aim_engine.deploy.yaml_text import Note, without_notes

API_VERSION, KIND = "leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"
# What its controller labels the pods with.
_NAME_LABEL, _INDEX_LABEL = "leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/worker-index"


def leader_worker_set(spec: ClusterSpec, annotations: Mapping[str, str]) -> Manifest:
    """`replicas` groups of `nodes` pods each."""
    return manifest(
        API_VERSION, KIND, spec.name, namespace=spec.namespace, labels=spec.labels, annotations=annotations, spec={
            "replicas": spec.replicas,
            Note("all pods of a group at once: the leader is not ready before its workers have joined it"): None,
            "startupPolicy": "LeaderCreated",
            Note("a headless Service for each group, called as its leader's pod: one for all would be called as the "
                 "Service of the API"): None,
            "networkConfig": {"subdomainPolicy": "UniquePerReplica"},
            Note(spec.rollout.why): None,
            "rolloutStrategy": group_strategy(spec.rollout),
            "leaderWorkerTemplate": {
                "size": spec.nodes,
                Note("a node that is gone takes the model along: the others end with exit code 51 ten seconds after it "
                     "was last heard, and the group starts again together"): None,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": _template(spec),
                Note("the same pod without an API's port; what is said above of its fields holds here too"): None,
                "workerTemplate": _worker(spec),
            },
        },
    )  # fmt: skip


def group_strategy(rollout: Rollout) -> Manifest:
    """How groups are replaced, each whole."""
    surge, unavailable = (1, 0) if rollout.surge else (0, 1)
    return {"type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxUnavailable": unavailable, "maxSurge": surge}}  # fmt: skip


def _template(spec: ClusterSpec) -> Manifest:
    """The pod, with the address that its engine tells the others."""
    template = pod_template(spec)
    container = template["spec"]["containers"][0]
    container["env"] = [
        *container["env"],
        {"name": "VLLM_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    return template


def _worker(spec: ClusterSpec) -> Manifest:
    """A worker has no API. Its sidecar answers the same probes: ready while its process is there and its leader
    answers.
    """
    template: Manifest = without_notes(_template(spec))
    container = template["spec"]["containers"][0]
    container["ports"] = [one for one in container["ports"] if one["name"] != API]
    return template


def leaders(spec: ClusterSpec) -> dict[str, str]:
    """The labels of the pods that have an API."""
    return {**spec.selector, _INDEX_LABEL: "0"}


def of_the_group(spec: ClusterSpec) -> Manifest:
    """A peer of a NetworkPolicy: the pods that serve together, which talk on ports that they choose."""
    return {"podSelector": {"matchLabels": {_NAME_LABEL: spec.name}}}
