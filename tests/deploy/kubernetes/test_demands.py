"""What a pod asks of its node: exactly the planned devices, on a node that has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.catalog.load import Catalog
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, make_plan
from tests.building import GIB, ROCM, here, recipe, request, variant
from tests.deploy.kubernetes.clusters import cluster, container, objects, pod
from tests.deploy.planning import SMALL, cpu_plan, planned


def labels(spec: Any) -> dict[str, list[str]]:
    affinity = pod(spec)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = affinity["nodeSelectorTerms"]
    assert {one["operator"] for one in term["matchExpressions"]} == {"In"}
    return {one["key"]: one["values"] for one in term["matchExpressions"]}


def in_parts(mode: str = "CPX/NPS4") -> Inventory:
    found = here("MI300X:8")
    parts = tuple(replace(gpu, partition=mode, partition_id=gpu.index, memory_bytes=24 * GIB) for gpu in found.gpus)
    return replace(found, gpus=parts)


@pytest.mark.parametrize("count", ["1", "2", "8"])
def test_the_planned_number_of_gpus(count: str) -> None:
    resources = container(cluster(planned(gpu_count=count)))["resources"]
    assert resources["limits"]["amd.com/gpu"] == resources["requests"]["amd.com/gpu"] == count


def test_throughput_asks_for_every_copy_s_gpus() -> None:
    assert container(cluster(planned(metric="throughput")))["resources"]["limits"]["amd.com/gpu"] == "8"


def test_the_node_is_known_by_the_product_s_ids() -> None:
    """Those of its virtual functions too, as the node labeller writes them."""
    assert labels(cluster(planned())) == {"amd.com/gpu.device-id": ["74a1", "74b5", "74a9", "74bd"]}


def test_products_that_share_an_id_are_told_apart() -> None:
    found = labels(cluster(planned(on=here("MI250X:2"), model="Qwen/Qwen3-32B")))
    assert found["amd.com/gpu.device-id"] == ["7408", "740c"]
    assert found["amd.com/gpu.cu-count"] == ["110"]


@pytest.mark.parametrize(("wishes", "resource"), [({}, "amd.com/gpu"), ({"naming": "mixed"}, "amd.com/cpx_nps4")])
def test_partitions_by_the_device_plugin_s_strategy(wishes: dict[str, str], resource: str) -> None:
    found = make_plan(request(), in_parts(), Catalog(recipes=(recipe(variant(1)),), card=SMALL), ROCM)
    assert isinstance(found, Plan)
    spec = cluster(found, **wishes)
    assert set(container(spec)["resources"]["limits"]) == {"memory", resource}
    assert labels(spec)["amd.com/compute-memory-partition"] == ["cpx_nps4"]
    other = "resource_naming_strategy=mixed" if resource == "amd.com/gpu" else "--resource-naming single"
    assert other in " ".join(spec.demands.remarks)


@pytest.mark.parametrize("parts", [True, False])
def test_the_command_that_labels_by_hand_gives_every_label_that_is_asked_for(parts: bool) -> None:
    if parts:
        found = make_plan(request(), in_parts(), Catalog(recipes=(recipe(variant(1)),), card=SMALL), ROCM)
        assert isinstance(found, Plan)
    else:
        found = planned(on=here("MI250X:2"), model="Qwen/Qwen3-32B")
    spec = cluster(found)
    (command,) = [one.partition("kubectl label node NODE ")[2] for one in spec.demands.remarks if "by hand" in one]
    given = dict(word.split("=") for word in command.split())
    wanted = labels(spec)
    assert given.keys() == wanted.keys()
    assert len(given) == 2
    assert all(value in wanted[name] for name, value in given.items())


@pytest.mark.parametrize("mode", ["", "A B/NPS1", "../..", "CPX/NPS4/x", "x" * 80])
def test_a_mode_that_no_device_plugin_knows(mode: str) -> None:
    found = make_plan(request(), in_parts(mode), Catalog(recipes=(recipe(variant(1)),), card=SMALL), ROCM)
    assert isinstance(found, Plan)
    with pytest.raises(InputError, match="partition mode"):
        cluster(found)


def test_whole_gpus_with_mixed_names() -> None:
    assert "amd.com/spx_nps1" in container(cluster(planned(), naming="mixed"))["resources"]["limits"]
    mi210 = cluster(planned(on=here("MI210:4")), naming="mixed")
    assert "amd.com/gpu" in container(mi210)["resources"]["limits"]  # it has no partitions


def test_memory_and_processors_grow_with_the_gpus() -> None:
    two = container(cluster(planned(gpu_count="2")))["resources"]
    assert (two["requests"]["cpu"], "cpu" in two["limits"]) == ("8", False)
    assert two["requests"]["memory"] == f"{16 + 2 * 32 + 16}Gi"
    assert two["limits"]["memory"] == f"{(16 + 2 * 32 + 16) * 3 // 2}Gi"


def test_what_was_asked_for_is_asked_of_the_node() -> None:
    found = cluster(planned(), memory_bytes=64 * GIB, cpus=3, shm_bytes=2 * GIB)
    assert container(found)["resources"]["requests"] == {"cpu": "3", "memory": "64Gi", "amd.com/gpu": "8"}
    (shm,) = [one for one in pod(found)["volumes"] if one["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}


def test_shared_memory_is_sized_for_workers_that_talk() -> None:
    def size(count: str) -> Any:
        (shm,) = [one for one in pod(cluster(planned(gpu_count=count)))["volumes"] if one["name"] == "shm"]
        return shm["emptyDir"]["sizeLimit"]

    assert (size("1"), size("4")) == ("1Gi", "16Gi")


def test_the_cache_holds_the_weights_with_room() -> None:
    def size(**wishes: Any) -> Any:
        return objects(cluster(planned(), **wishes))["PersistentVolumeClaim"]["spec"]["resources"]["requests"]

    assert size() == {"storage": "100Gi"}  # 61 GiB, a quarter more, 20 GiB besides, in tens
    assert size(cache_bytes=GIB * 3 // 2) == {"storage": "1536Mi"}


def test_a_cpu_needs_no_device_and_as_much_memory_as_the_model() -> None:
    spec = cluster(cpu_plan())
    resources = container(spec)["resources"]
    assert set(resources["limits"]) == {"memory"}
    assert resources["limits"] == {"memory": resources["requests"]["memory"]}
    assert "affinity" not in pod(spec) or "nodeAffinity" not in pod(spec)["affinity"]
    assert "tolerations" not in pod(spec)
    assert "supplementalGroups" not in pod(spec)["securityContext"]


def test_devices_of_a_vendor_nobody_has_described() -> None:
    plan = planned()
    gpus = tuple(replace(gpu, vendor="nvidia") for gpu in plan.winner.gpus)
    plan = replace(plan, winner=replace(plan.winner, gpus=gpus))
    with pytest.raises(InputError, match="nvidia"):
        cluster(plan)
