"""The LeaderWorkerSet: its fields are the API's, its leader and workers the same pod, and its Service the leaders'."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from aim_engine import __version__
from aim_engine.cli.main import main
from aim_engine.deploy.kubernetes.components import components_named, with_pieces
from aim_engine.deploy.kubernetes.kserve import kserve_objects
from aim_engine.deploy.kubernetes.leader_worker_set import leader_worker_set
from aim_engine.deploy.kubernetes.objects import base_objects
from aim_engine.deploy.yaml_text import without_notes
from aim_engine.errors import InputError
from tests.deploy.kubernetes.clusters import cluster, objects
from tests.deploy.kubernetes.test_golden import VERSIONS
from tests.deploy.planning import planned

# Every field of leaderworkerset.x-k8s.io/v1 (kubernetes-sigs/lws, api/leaderworkerset/v1/leaderworkerset_types.go):
# a type, the legal words, or the fields below; a pod template is Kubernetes' own.
POD_TEMPLATE: dict[str, Any] = {"metadata": dict, "spec": dict}
SPEC: dict[str, Any] = {
    "replicas": int,
    "startupPolicy": {"LeaderCreated", "LeaderReady"},
    "networkConfig": {"subdomainPolicy": {"Shared", "UniquePerReplica"}},
    "rolloutStrategy": {
        "type": {"RollingUpdate"},
        "rollingUpdateConfiguration": {"partition": int, "maxUnavailable": int, "maxSurge": int},
    },
    "leaderWorkerTemplate": {
        "leaderTemplate": POD_TEMPLATE,
        "workerTemplate": POD_TEMPLATE,
        "size": int,
        "restartPolicy": {"Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"},
        "subGroupPolicy": dict,
        "volumeClaimTemplates": list,
        "persistentVolumeClaimRetentionPolicy": dict,
    },
}


def invented(words: Any, known: Any, where: str = "spec") -> list[str]:
    """What the API does not have."""
    if isinstance(known, set):
        return [] if words in known else [f"{where}: {words}"]
    if isinstance(known, type):
        return [] if isinstance(words, known) else [f"{where}: {type(words).__name__}"]
    return [
        sentence
        for key, value in words.items()
        for sentence in (invented(value, known[key], f"{where}.{key}") if key in known else [f"{where}.{key}"])
    ]


def over_two(**wishes: Any) -> dict[str, Any]:
    return objects(cluster(planned(nodes="2"), name="mine", **wishes))


@pytest.fixture
def found() -> dict[str, Any]:
    return over_two()


def test_every_field_is_one_of_the_api(found: dict[str, Any]) -> None:
    made = found["LeaderWorkerSet"]
    assert made["apiVersion"] == "leaderworkerset.x-k8s.io/v1"
    assert invented(made["spec"], SPEC) == []
    assert made["spec"].keys() >= {"leaderWorkerTemplate", "startupPolicy", "networkConfig"}


def test_an_invented_field_would_be_found() -> None:
    assert invented({"replica": 1, "startupPolicy": "Never"}, SPEC) == ["spec.replica", "spec.startupPolicy: Never"]
    assert invented({"leaderWorkerTemplate": {"size": "2"}}, SPEC) == ["spec.leaderWorkerTemplate.size: str"]


def test_it_takes_the_place_of_the_deployment(found: dict[str, Any]) -> None:
    assert "Deployment" not in found
    assert "StatefulSet" not in found
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    assert (template["size"], template["restartPolicy"]) == (2, "RecreateGroupOnPodRestart")
    assert found["LeaderWorkerSet"]["spec"]["startupPolicy"] == "LeaderCreated", "or neither would ever come"
    assert "LeaderWorkerSet" not in objects(cluster(planned()))


def test_leader_and_worker_are_the_same_pod_but_for_the_api(found: dict[str, Any]) -> None:
    template = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]
    leader, worker = (template[name]["spec"]["containers"][0] for name in ("leaderTemplate", "workerTemplate"))
    assert [one["name"] for one in leader["ports"]] == ["api", "health"]
    assert [one["name"] for one in worker["ports"]] == ["health"]
    assert {**leader, "ports": ()} == {**worker, "ports": ()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert worker[probe]["httpGet"]["port"] == "health"
        assert worker[probe]["timeoutSeconds"] > 1


def test_the_pods_are_told_how_many_they_are_and_where_they_are(found: dict[str, Any]) -> None:
    container = found["LeaderWorkerSet"]["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]
    variables = {one["name"]: one for one in container["env"]}
    assert variables["AIM_NODES"]["value"] == "2"
    assert variables["VLLM_HOST_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert not {"AIM_NODE_RANK", "AIM_LEADER_ADDRESS"} & variables.keys(), "which differ: the controller says them"
    assert container["resources"]["limits"]["amd.com/gpu"] == "8", "of one node"


def test_the_service_leads_to_leaders_alone_and_collides_with_none_of_the_controller_s(found: dict[str, Any]) -> None:
    """The controller makes a headless one: called as the set where it is shared, else as each leader's pod."""
    assert found["Service"]["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"
    assert found["LeaderWorkerSet"]["spec"]["networkConfig"] == {"subdomainPolicy": "UniquePerReplica"}


def test_the_network_policy_lets_the_group_talk(found: dict[str, Any]) -> None:
    peers = {"podSelector": {"matchLabels": {"leaderworkerset.sigs.k8s.io/name": "mine"}}}
    policy = found["NetworkPolicy"]["spec"]
    assert {"from": [peers]} in policy["ingress"]
    assert {"to": [peers]} in policy["egress"]
    offline = objects(cluster(planned(nodes="2", offline="1"), name="mine"))["NetworkPolicy"]["spec"]["egress"]
    assert {"to": [peers]} in offline
    assert any(port["port"] == 53 for rule in offline for port in rule.get("ports", ())), "the leader is found by name"


def test_a_group_needs_whole_groups_to_spare() -> None:
    def rolls(spare: int) -> Any:
        return over_two(spare_gpus=spare)["LeaderWorkerSet"]["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]

    assert rolls(15) == {"maxUnavailable": 1, "maxSurge": 0}
    assert rolls(16) == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_nodes_share_a_cache_that_several_can_mount(found: dict[str, Any]) -> None:
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    with pytest.raises(InputError, match="--local-cache"):
        over_two(local_cache=True)


def test_cache_and_start_are_those_of_the_whole_model(found: dict[str, Any]) -> None:
    """All pods share the claim, and each loads its part from it: a node's ledger says half of it."""
    alone = cluster(planned())
    claim = objects(alone)["PersistentVolumeClaim"]["spec"]["resources"]
    assert found["PersistentVolumeClaim"]["spec"]["resources"] == claim
    assert cluster(planned(nodes="2")).startup.cold_seconds == alone.startup.cold_seconds
    assert planned(nodes="2").start_timeout_seconds == planned().start_timeout_seconds


def test_groups_are_replicas() -> None:
    assert over_two(replicas=3)["LeaderWorkerSet"]["spec"]["replicas"] == 3


def test_the_manifest_names_no_node(found: dict[str, Any]) -> None:
    made = without_notes(leader_worker_set(cluster(planned(nodes="2"), name="mine"), {"a": "b"}))
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert "nodeName" not in str(made)


def test_an_autoscaler_scales_groups() -> None:
    spec = cluster(planned(nodes="2"), name="mine")
    (scaled,) = components_named(["autoscaled"])
    pieces = scaled.make(spec)
    (scaler,) = [one for one in pieces.objects if "scaleTargetRef" in one.get("spec", {})]
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "mine"}
    assert scaler["spec"]["scaleTargetRef"] == target
    made = next(one for one in with_pieces(base_objects(spec), [pieces]) if one["kind"] == "LeaderWorkerSet")
    assert "replicas" not in made["spec"], "their number is the autoscaler's"
    assert invented(without_notes(made)["spec"], SPEC) == []


def test_kserve_has_no_groups() -> None:
    with pytest.raises(InputError, match="over 2 nodes"):
        kserve_objects(cluster(planned(nodes="2"), name="mine"))


# --- as a file -------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "nodes" / "deepseek.yaml"
ASKED = ("deepseek-ai/DeepSeek-V3", "--hardware", "MI300X:8", "--nodes", "2", "--storage-class", "shared",
         "--render-group", "109", "--image", "registry.example.com/aim-engine-unified:1.0")  # fmt: skip


def test_what_is_said_of_the_pod_is_said_once() -> None:
    text = GOLDEN.read_text()
    for words in ("# AIM_RECIPE and AIM_EXPECT_PLAN:", "# livenessProbe:", "ring buffers"):
        assert text.count(words) == 1, words


def test_golden(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """To accept a change: AIM_GOLDEN=write, then read the diff."""
    write = os.environ.get("AIM_GOLDEN") == "write"
    for name in [one for one in os.environ if one.startswith(("AIM_", "HF_"))]:
        monkeypatch.delenv(name)
    assert main(["render", "kubernetes", *ASKED]) == 0
    text = capsys.readouterr().out.replace(__version__, "VERSION")
    if write:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_else_in_it_is_as_the_schemas_of_kubernetes_want_it(version: str) -> None:
    """The set itself has no schema among them; its two templates are pods."""
    for one in yaml.safe_load_all(GOLDEN.read_text()):
        if one["kind"] != "LeaderWorkerSet":
            kubernetes_validate.validate(one, version, strict=True)
            continue
        template = one["spec"]["leaderWorkerTemplate"]
        for name in ("leaderTemplate", "workerTemplate"):
            pod = {"apiVersion": "v1", "kind": "Pod", **template[name]}
            kubernetes_validate.validate(pod, version, strict=True)
