"""A new version takes the old one's place without more GPUs than there are, and the manifest says why so."""

from __future__ import annotations

from typing import Any

from aim_engine.plan import Plan
from tests.deploy.kubernetes.clusters import cluster, objects, pod, workload
from tests.deploy.planning import cpu_plan, planned


def strategy(plan: Plan, **wishes: Any) -> Any:
    return workload(cluster(plan, **wishes))["spec"].get("strategy")


SURGE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
IN_TURN = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def test_all_gpus_of_the_node_are_used() -> None:
    plan = planned()
    assert strategy(plan) == {"type": "Recreate"}
    assert "would need 8 GPUs, and 0 GPUs are left" in cluster(plan).rollout.why


def test_gpus_are_left_on_the_node() -> None:
    """The new pod must be on the old one's node: the volume is."""
    spec = cluster(planned(gpu_count="4"))
    assert workload(spec)["spec"]["strategy"] == SURGE
    (near,) = pod(spec)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["labelSelector"]["matchLabels"] == spec.selector
    assert objects(spec)["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "it needs 4 GPUs, and 4 GPUs are left" in spec.rollout.why


def test_what_is_left_on_the_node_may_be_somebody_s() -> None:
    plan = planned(gpu_count="1")
    assert "it needs 1 GPU, and 7 GPUs are left" in cluster(plan).rollout.why
    assert "with --spare-gpus 0 an old one goes first" in cluster(plan).rollout.why
    assert strategy(plan, spare_gpus=0) == {"type": "Recreate"}


def test_gpus_are_to_spare_elsewhere() -> None:
    spec = cluster(planned(), spare_gpus=8)
    assert workload(spec)["spec"]["strategy"] == SURGE
    assert "podAffinity" not in pod(spec)["affinity"]
    assert objects(spec)["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_too_few_are_to_spare() -> None:
    assert strategy(planned(gpu_count="4"), spare_gpus=3) == {"type": "Recreate"}
    assert "1 GPU is to spare" in cluster(planned(gpu_count="4"), spare_gpus=1).rollout.why


def test_replicas_go_one_after_the_other() -> None:
    assert strategy(planned(), replicas=2) == IN_TURN
    assert strategy(planned(gpu_count="2"), replicas=3) == SURGE
    assert strategy(planned(gpu_count="2"), replicas=4) == IN_TURN


def test_no_gpu_is_needed_on_a_cpu() -> None:
    assert strategy(cpu_plan()) == SURGE


def test_local_caches_make_a_stateful_set() -> None:
    found = objects(cluster(planned(gpu_count="2"), replicas=3, local_cache=True))
    assert "Deployment" not in found
    assert "PersistentVolumeClaim" not in found
    made = found["StatefulSet"]["spec"]
    assert made["updateStrategy"] == {"type": "RollingUpdate"}
    (claim,) = made["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert made["serviceName"] == found["Service"]["metadata"]["name"]
    assert found["Service"]["spec"]["clusterIP"] == "None"
