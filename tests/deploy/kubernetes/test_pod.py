"""The pod: locked up, told everything, asked through its sidecar, and left in peace while it drains."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import InputError
from aim_engine.request import SETTINGS
from tests.building import examples
from tests.deploy.kubernetes.clusters import cluster, container, pod, variables
from tests.deploy.planning import cpu_plan, planned
from tests.hostile import LONG, TEXTS

HOSTILE = [*TEXTS.values(), LONG, "on", "1e3", "0x1", "~", "null", "", "$", "$$", "$(HF_TOKEN)", "$$(HF_TOKEN)", "a$(",
           "$(AIM_MODEL", "12:30", "a: b", "- a", "\ufeff", "\u2028", "a\tb"]  # fmt: skip


def test_it_has_no_privilege() -> None:
    spec = cluster()
    security, inner = pod(spec)["securityContext"], container(spec)["securityContext"]
    assert (security["runAsNonRoot"], security["runAsUser"], security["fsGroup"]) == (True, 65532, 65532)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(spec)["automountServiceAccountToken"] is False
    assert not pod(spec).keys() & {"hostIPC", "hostNetwork", "hostPID"}
    assert pod(spec)["enableServiceLinks"] is False


def test_all_that_is_written_is_mounted() -> None:
    mounts = {one["mountPath"]: one["name"] for one in container(cluster())["volumeMounts"]}
    assert mounts == {"/workspace/model-cache": "cache", "/tmp": "tmp", "/dev/shm": "shm"}
    assert {one["name"] for one in pod(cluster())["volumes"]} == set(mounts.values())


def test_the_render_group() -> None:
    def groups(**wishes: Any) -> Any:
        return pod(cluster(**wishes))["securityContext"]["supplementalGroups"]

    assert groups(groups=(44, 992)) == [44, 992]
    assert groups() == [109]
    assert "--render-group" in " ".join(cluster().warnings)
    assert "--render-group" not in " ".join(cluster(groups=(44,)).warnings)


def test_the_user() -> None:
    spec = cluster(user="1000:2000")
    security = pod(spec)["securityContext"]
    assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (1000, 2000, 2000)
    for user in ("0", "root", "0:1000"):
        with pytest.raises(InputError):
            cluster(user=user)


def test_the_plan_is_pinned() -> None:
    found = variables(cluster(planned(metric="latency")))
    assert found["AIM_RECIPE"] == "qwen3-32b-mi300x-bf16"
    assert found["AIM_GPU_COUNT"] == "8"
    assert found["AIM_METRIC"] == "latency"
    assert json.loads(found["AIM_EXPECT_PLAN"])["tensor_parallel_size"] == 8
    assert "AIM_HARDWARE" not in found


def test_the_pod_understands_every_variable() -> None:
    known = {name for setting in SETTINGS for name in setting.variables}
    assert {name for name in variables(cluster()) if name.startswith("AIM_")} <= known


def test_secrets_are_references() -> None:
    plan = planned({"AIM_API_KEY": "s3cret-a", "HF_TOKEN": "s3cret-b"})
    spec = cluster(plan, name="mine")
    assert "s3cret" not in json.dumps(pod(spec))
    found = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container(spec)["env"] if "valueFrom" in one}
    assert found["AIM_API_KEY"] == {"name": "mine-secrets", "key": "AIM_API_KEY", "optional": False}
    assert found["HF_TOKEN"] == {"name": "mine-secrets", "key": "HF_TOKEN", "optional": True}
    other = cluster(secret="ours", named=("MINE",))
    refs = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container(other)["env"] if "valueFrom" in one}
    assert refs["AIM_API_KEY"]["optional"] is True
    assert refs["MINE"] == {"name": "ours", "key": "MINE", "optional": False}


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_arrive_as_they_are(text: str) -> None:
    assert variables(cluster(extra={"MINE": text}))["MINE"] == text


@examples(100)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_value_arrives_as_it_is(text: str) -> None:
    assert variables(cluster(extra={"MINE": text}))["MINE"] == text


def test_the_probes_ask_the_sidecar() -> None:
    spec = cluster()
    found = container(spec)
    for name, route in (("startup", "startup"), ("liveness", "live"), ("readiness", "ready")):
        probe = found[f"{name}Probe"]
        assert probe["httpGet"] == {"path": f"/health/{route}", "port": "health", "scheme": "HTTP"}
        assert probe["timeoutSeconds"] > 1
    startup = found["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= spec.startup.probe_seconds
    assert float(variables(spec)["AIM_START_TIMEOUT"]) < spec.startup.probe_seconds
    assert {"name": "health", "containerPort": 8080, "protocol": "TCP"} in found["ports"]


def test_a_larger_model_may_take_longer() -> None:
    small, large = cluster(cpu_plan()), cluster(planned())
    assert small.startup.probe_seconds < large.startup.probe_seconds
    assert math.isclose(large.startup.probe_seconds, 4520)


def test_the_end_has_time_to_drain() -> None:
    spec = cluster(planned(drain_timeout="300"))
    assert pod(spec)["terminationGracePeriodSeconds"] == 10 + 300 + 30
    assert container(spec)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "10"]
    assert container(spec)["terminationMessagePath"] == "/dev/termination-log"


def test_tls_comes_from_a_secret() -> None:
    spec = cluster(tls_secret="certificate")
    assert variables(spec)["AIM_TLS_CERT"] == "/config/tls/tls.crt"
    (volume,) = [one for one in pod(spec)["volumes"] if one["name"] == "tls"]
    assert volume["secret"] == {"secretName": "certificate", "defaultMode": 0o440}


def test_a_folder_comes_from_a_claim() -> None:
    with pytest.raises(InputError, match="not in the cluster"):
        cluster(cpu_plan(model="/data/mine"))
    spec = cluster(cpu_plan(model="/data/mine"), model_claim="models")
    assert variables(spec)["AIM_MODEL"] == "/models/mine"
    (volume,) = [one for one in pod(spec)["volumes"] if one["name"] == "model"]
    assert volume["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    with pytest.raises(InputError, match="--model-claim"):
        cluster(model_claim="models")


@pytest.mark.parametrize(
    "flags", [{"log_dir": "/var/log"}, {"cache_dir": "/c"},
              {"tls_cert": "/a", "tls_key": "/b"}]
)  # fmt: skip
def test_paths_of_this_machine_are_refused_with_another_way(flags: dict[str, str]) -> None:
    with pytest.raises(InputError, match="not in the cluster") as caught:
        cluster(planned(**flags))
    assert caught.value.hint


def test_a_cache_folder_of_the_environment_is_this_machine_s_own_affair() -> None:
    assert variables(cluster(planned({"AIM_CACHE_DIR": "/c"})))["AIM_CACHE_DIR"] == "/workspace/model-cache"


def test_an_image_of_no_registry_is_warned_of() -> None:
    assert "registry" in " ".join(cluster().warnings)
    assert "registry" not in " ".join(cluster(image="r.example/aim:1").warnings)


def test_an_existing_claim_is_not_made() -> None:
    from tests.deploy.kubernetes.clusters import objects

    spec = cluster(claim="weights")
    assert "PersistentVolumeClaim" not in objects(spec)
    assert {"claimName": "weights"} in [one.get("persistentVolumeClaim") for one in pod(spec)["volumes"]]
    with pytest.raises(InputError, match="--local-cache"):
        cluster(claim="weights", local_cache=True)


def test_the_profile_of_system_calls_is_the_runtime_s_unless_told_otherwise() -> None:
    assert pod(cluster())["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(cluster(unconfined=True))["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
