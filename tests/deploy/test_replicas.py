"""Several plans from one request: no two share a GPU or a memory, whatever is free; names, labels and limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.allocation import Allocation, allocate
from aim_engine.deploy.free_ports import replica_requests
from aim_engine.deploy.replicas import (
    Member,
    as_replica,
    checked_count,
    differences,
    names_of_replicas,
    plan_replicas,
)
from aim_engine.deploy.spec import container_spec
from aim_engine.errors import DoesNotFitError, InputError, NoAcceleratorError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request, read_request
from tests.building import GIB, MODEL, cpu_here, examples
from tests.deploy.planning import SHIPPED, catalog, cpu_plan, planned, with_nodes
from tests.deploy.test_allocation import endpoint


def plan_one(request: Request, allocation: Allocation) -> Plan:
    known = SHIPPED if allocation.inventory.gpus[0].product != "CPU" else catalog(request, allocation.inventory)
    found = make_plan(request, allocation.inventory, known)
    if isinstance(found, Refusal):
        raise allocation.busy(found.error, request.gpu_count)
    return found


def plans(count: int, on: Inventory | None = None, held: tuple[int, ...] = (), **flags: str) -> tuple[Plan, ...]:
    on = on or with_nodes()
    owners = [endpoint(str(gpu.pci_address), name=f"owner-{gpu.index}") for gpu in on.gpus if gpu.index in held]
    request = read_request({"model": MODEL, **flags}, {})
    return plan_replicas(replica_requests(request, count), allocate(on, owners), plan_one)


def indices(found: tuple[Plan, ...]) -> list[list[int]]:
    return [[gpu.index for gpu in plan.winner.gpus] for plan in found]


@pytest.mark.parametrize(
    ("flags", "name"),
    [({"log_dir": "/l"}, "mine"), ({"log_dir": "/l", "log_name": "theirs"}, "theirs-2"), ({"log_name": "x"}, None)],
)
def test_each_has_a_log_of_its_own(flags: dict[str, str], name: str | None) -> None:
    plan = cpu_plan(**flags)
    spec = replace(container_spec(plan, name="all"), name="mine")
    made = as_replica(spec, plan, Member(group="m.1", number=2, count=3))
    assert made.environment.get("AIM_LOG_NAME") == name


@pytest.mark.parametrize(
    ("count", "held", "flags", "expected"),
    [
        (2, (), {}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (8, (), {}, [[0], [1], [2], [3], [4], [5], [6], [7]]),
        (2, (), {"gpu_count": "2"}, [[0, 1], [2, 3]]),
        (2, (0, 1, 6), {"gpu_count": "2"}, [[2, 3], [4, 5]]),
        (2, (0, 1, 6), {}, [[2, 3], [4, 5]]),
    ],
)
def test_each_has_gpus_of_its_own(count: int, held: tuple[int, ...], flags: Any, expected: list[list[int]]) -> None:
    assert indices(plans(count, held=held, **flags)) == expected


def test_a_share_is_as_large_as_all_others_and_the_plan_takes_what_it_likes_of_it() -> None:
    """Of eight GPUs three replicas may take two each, and five could not be taken by anybody's four."""
    assert [len(one) for one in indices(plans(3))] == [2, 2, 2]
    assert [len(one) for one in indices(plans(5))] == [1] * 5


@pytest.mark.parametrize(
    ("count", "held", "flags", "sentence"),
    [
        (9, (), {}, "9 replicas were asked for, and 8 of 8 are free"),
        (3, (), {"gpu_count": "4"}, "3 replicas of 4 GPUs each need 12 GPUs, and 8 of 8 are free"),
        (2, tuple(range(7)), {}, "2 replicas were asked for, and 1 of 8 is free"),
    ],
)
def test_too_few_is_20_with_numbers(count: int, held: tuple[int, ...], flags: Any, sentence: str) -> None:
    with pytest.raises(NoAcceleratorError) as caught:
        plans(count, held=held, **flags)
    assert caught.value.message == sentence
    assert caught.value.code == 20
    assert len(caught.value.details) == len(held)
    assert all("the container owner-" in line for line in caught.value.details)


def test_gpus_of_several_kinds_are_not_mixed_in_one() -> None:
    """Five MI300X have room for two replicas of two; the third finds no equal GPUs of a recipe's kind."""
    on = with_nodes("MI300X:5,MI250:3")
    assert indices(plans(2, on, gpu_count="2")) == [[0, 1], [2, 3]]
    with pytest.raises(NoAcceleratorError, match="the free GPUs serve 2 of 3 replicas; for one more: "):
        plans(3, on, gpu_count="2")


def pooled(partitions: int) -> Inventory:
    """One memory for each four partitions."""
    found = with_nodes(f"MI300X:{partitions}")
    gpus = tuple(
        replace(gpu, partition="CPX/NPS1", partition_id=gpu.index % 4, package=f"p{gpu.index // 4}",
                memory_pool=f"p{gpu.index // 4}") for gpu in found.gpus
    )  # fmt: skip
    return replace(found, gpus=gpus)


def test_replicas_do_not_share_a_memory() -> None:
    found = plans(2, pooled(8))
    assert {plan.winner.gpus[0].memory_pool for plan in found} == {"p0", "p1"}
    with pytest.raises(NoAcceleratorError, match="the 8 free partitions have 2 memories between them"):
        plans(3, pooled(8))


def test_partitions_with_a_memory_of_their_own_count_singly() -> None:
    on = pooled(8)
    on = replace(on, gpus=tuple(replace(gpu, memory_pool=None) for gpu in on.gpus))
    assert len(plans(8, on)) == 8


@examples(60)
@given(st.integers(1, 9), st.sets(st.integers(0, 7)), st.sampled_from([None, "1", "2", "4", "8"]))
def test_no_two_share_a_gpu_and_none_takes_a_held_one(count: int, held: set[int], gpus: str | None) -> None:
    flags: dict[str, Any] = {"gpu_count": gpus} if gpus else {}
    if count * int(gpus or 1) > 8 - len(held):
        with pytest.raises(NoAcceleratorError):
            plans(count, held=tuple(held), **flags)
        return
    found = plans(count, held=tuple(held), **flags)
    taken = [index for one in indices(found) for index in one]
    assert len(taken) == len(set(taken))
    assert not set(taken) & held
    assert len({len(one) for one in indices(found)}) == 1


def test_each_has_its_part_of_the_host_s_memory() -> None:
    found = plans(3, cpu_here(memory_bytes=60 * GIB, free_bytes=57 * GIB))
    assert [plan.winner.gpus[0].memory_bytes for plan in found] == [20 * GIB] * 3
    assert [plan.winner.gpus[0].memory_free_bytes for plan in found] == [19 * GIB] * 3


def test_so_many_that_do_not_fit_in_the_host_s_memory_are_21() -> None:
    on = cpu_here(memory_bytes=8 * GIB, free_bytes=8 * GIB)
    assert len(plans(1, on)) == 1
    with pytest.raises(DoesNotFitError, match=r"8 replicas do not fit .* together, 1.0 GiB for each: ") as caught:
        plans(8, on)
    assert caught.value.code == 21


def test_replicas_that_are_not_alike_are_told() -> None:
    alike = plans(2)
    assert list(differences(alike)) == []
    (text,) = differences((alike[0], *plans(4)[:1]))
    assert "on 4 x MI300X" in text
    assert "on 2 x MI300X" in text


# --- names, labels, limits --------------------------------------------------------------------------------------------


def test_names_are_numbered_and_taken_ones_passed_over() -> None:
    assert names_of_replicas("m", 2, {}, asked=False) == ("m-1", "m-2")
    assert names_of_replicas("m", 2, dict.fromkeys(("m-1", "m", "x"), "rm"), asked=False) == ("m-2", "m-3")
    assert names_of_replicas("m", 2, {"m": "rm"}, asked=True) == ("m-1", "m-2")
    with pytest.raises(InputError, match="--name m: a container m-2 is there already"):
        names_of_replicas("m", 2, {"m-2": "aim-engine stop m-2"}, asked=True)


def replica(plan: Plan, **options: Any) -> Any:
    return as_replica(container_spec(plan, **options), plan, Member(group="m.1", number=2, count=3))


def test_the_labels_say_which_one_it_is() -> None:
    labels = replica(planned(on=with_nodes())).labels
    assert {name: labels[f"ai.aim-engine.{name}"] for name in ("replica-group", "replica", "replicas")} == {
        "replica-group": "m.1", "replica": "2", "replicas": "3",
    }  # fmt: skip


def test_a_replica_on_the_cpu_stays_within_its_part() -> None:
    (small, *_) = plans(6, cpu_here(memory_bytes=60 * GIB, free_bytes=60 * GIB))
    assert replica(small).memory_bytes == container_spec(small).memory_bytes or small.winner.gpus[0].memory_bytes
    (tight, *_) = plans(14, cpu_here(memory_bytes=60 * GIB, free_bytes=60 * GIB))
    assert container_spec(tight).memory_bytes is None
    assert replica(tight).memory_bytes == 60 * GIB // 14
    assert replica(tight, memory_bytes=3 * GIB).memory_bytes == 3 * GIB
    assert replica(planned(on=with_nodes())).memory_bytes is None


def test_where_all_gpus_are_passed_a_variable_chooses() -> None:
    plan = planned(gpu_count="2")
    found = replica(plan)
    assert found.environment["ROCR_VISIBLE_DEVICES"] == "0,1"
    assert "ROCR_VISIBLE_DEVICES" not in replica(planned(on=with_nodes())).environment
    assert "ROCR_VISIBLE_DEVICES" not in replica(cpu_plan()).environment
    chosen = replace(plan, inventory=replace(plan.inventory, visibility=("HIP_VISIBLE_DEVICES=2,3",)))
    with pytest.raises(InputError, match="HIP_VISIBLE_DEVICES=2,3 chooses among them already"):
        replica(chosen)


@pytest.mark.parametrize("text", ["0", "-1", "65", "two", "", "1.5", "٣", "9999"])
def test_no_number_of_replicas(text: str) -> None:
    with pytest.raises(InputError, match="--replicas"):
        checked_count(text)
