"""Several endpoints of one model: a request for each and what is free in; a plan for each out, no two of which share a
GPU or a memory; and what tells their containers apart.

Pure. Asks nobody; how a plan is made is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aim_engine.deploy.allocation import Allocation
from aim_engine.deploy.devices import access_of, holds_alone
from aim_engine.deploy.names import checked_name, name_taken, numbered
from aim_engine.deploy.spec import LABEL, ContainerSpec
from aim_engine.errors import AimError, DoesNotFitError, InputError, NoAcceleratorError
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.plan import Plan
from aim_engine.request import Request
from aim_engine.selection.groups import equal_groups

MOST_REPLICAS = 64  # eight GPUs in eight partitions each

PlanOne = Callable[[Request, Allocation], Plan]
_OF_ANOTHER = "it is another replica's"


@dataclass(frozen=True, kw_only=True)
class Member:
    """Which one of how many a replica is; `group` is a text that those launched together share."""

    group: str
    number: int
    count: int


def checked_count(text: str) -> int:
    """A typed number of replicas.

    Raises:
        InputError: it is none.
    """
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST_REPLICAS:
        return int(text)
    raise InputError(f"--replicas {text[:40]!r} is not legal", hint=f"use a number from 1 to {MOST_REPLICAS}")


def plan_replicas(requests: Sequence[Request], allocation: Allocation, plan_one: PlanOne) -> tuple[Plan, ...]:
    """A plan for each request, which differ in ports alone. With a number of GPUs each gets exactly that many; without
    one each chooses within an equal share of what is free. The host's own memory is shared out in equal parts.

    Raises:
        NoAcceleratorError: too few GPUs are free for that many.
        DoesNotFitError: so many do not fit in the host's memory.
        AimError: there is no plan for one.
    """
    if not allocation.free and not allocation.held:
        return _on_the_host(requests, allocation, plan_one)
    units = _units(allocation.inventory)
    each = requests[0].gpu_count
    _check_enough(len(requests), each, units, allocation)
    left, plans = allocation.inventory, list[Plan]()
    for number, request in enumerate(requests, 1):
        share = left if each else _share(left, len(units) // len(requests))
        try:
            plan = plan_one(request, replace(allocation, inventory=share))
        except AimError as error:
            if number == 1:
                raise
            raise _too_few(number - 1, len(requests), error) from None
        plans.append(plan)
        # without a number the whole share is gone: the others' shares stay as large
        left = _without(left, plan.winner.gpus if each else share.usable_gpus)
    return tuple(plans)


def _units(inventory: Inventory) -> list[tuple[Gpu, ...]]:
    """What one replica can have for itself: a GPU, or all that share one memory. An engine takes its share of the
    whole memory and would not know of another replica in it.
    """
    units: dict[str, list[Gpu]] = {}
    for group in equal_groups(inventory):
        for gpu in group:
            units.setdefault(gpu.memory_pool or f"#{gpu.index}", []).append(gpu)
    return [tuple(unit) for unit in units.values()]


def _check_enough(count: int, each: int | None, units: Sequence[Sequence[Gpu]], allocation: Allocation) -> None:
    free = len(allocation.free)
    there = f"{free} of {free + len(allocation.held)} {'is' if free == 1 else 'are'} free"
    details = tuple(f"GPU {index}: {why}" for index, why in sorted(allocation.held.items()))
    needed = count * (each or 1)
    if needed > free:
        gpus = f"{each} GPU" if each == 1 else f"{each} GPUs"
        wanted = f"{count} replicas of {gpus} each need {needed} GPUs" if each else f"{count} replicas were asked for"
        raise NoAcceleratorError(f"{wanted}, and {there}", hint="ask for fewer replicas or GPUs", details=details)
    if count > len(units):
        raise NoAcceleratorError(
            f"{count} replicas were asked for, and the {free} free partitions have {len(units)} memories between them: "
            "replicas do not share one",
            hint=f"ask for {len(units)} replicas; with --metric throughput each puts a copy on every one of its "
                 "partitions",
            details=details,
        )  # fmt: skip


def _too_few(served: int, wanted: int, error: AimError) -> NoAcceleratorError:
    """What the others leave is not what one more needs: of another kind, say."""
    return NoAcceleratorError(
        f"the free GPUs serve {served} of {wanted} replicas; for one more: {error.message}",
        hint=f"ask for {served}, or for fewer GPUs each",
        details=error.details,
    )


def _share(left: Inventory, size: int) -> Inventory:
    """The next `size` units, from the largest group of equal GPUs that is left."""
    share = [gpu for unit in _units(left)[:size] for gpu in unit]
    return _without(left, [gpu for gpu in left.usable_gpus if gpu not in share])


def _without(inventory: Inventory, gone: Sequence[Gpu]) -> Inventory:
    """The same with these GPUs, and those in the same memory, unusable."""
    indices, pools = {gpu.index for gpu in gone}, {gpu.memory_pool for gpu in gone} - {None}
    return replace(inventory, gpus=tuple(
        replace(gpu, unusable=_OF_ANOTHER) if gpu.usable and (gpu.index in indices or gpu.memory_pool in pools) else gpu
        for gpu in inventory.gpus
    ))  # fmt: skip


def _on_the_host(requests: Sequence[Request], allocation: Allocation, plan_one: PlanOne) -> tuple[Plan, ...]:
    count = len(requests)
    shared = replace(allocation, inventory=_part_of_the_host(allocation.inventory, count))
    try:
        return tuple(plan_one(request, shared) for request in requests)
    except DoesNotFitError as error:
        each = shared.inventory.gpus[0].memory_bytes
        raise DoesNotFitError(
            f"{count} replicas do not fit in the host's memory together, {each / 2**30:,.1f} GiB for each: "
            f"{error.message}",
            hint="ask for fewer replicas, or a shorter context (--max-model-len)",
            details=error.details,
        ) from None


def _part_of_the_host(inventory: Inventory, count: int) -> Inventory:
    return replace(inventory, gpus=tuple(
        replace(
            gpu,
            memory_bytes=gpu.memory_bytes // count,
            memory_free_bytes=None if gpu.memory_free_bytes is None else gpu.memory_free_bytes // count,
        )
        for gpu in inventory.gpus
    ))  # fmt: skip


def names_of_replicas(base: str, count: int, taken: Mapping[str, str], *, asked: bool) -> tuple[str, ...]:
    """`base-1`, `base-2`, ...; where nobody asked for the name, numbers that are taken are passed over. `taken` says of
    each name what removes its container.

    Raises:
        InputError: a name that was asked for is taken.
    """
    if asked:
        names = tuple(checked_name(numbered(base, number)) for number in range(1, count + 1))
        clash = next((name for name in names if name in taken), None)
        if clash:
            raise name_taken(base, clash, taken[clash])
        return names
    free = (name for number in range(1, count + len(taken) + 1) if (name := numbered(base, number)) not in taken)
    return tuple(name for _, name in zip(range(count), free, strict=False))


def as_replica(spec: ContainerSpec, plan: Plan, member: Member) -> ContainerSpec:
    """The container of one of several: it says which one it is, and stays within its part of the host.

    Raises:
        InputError: its GPUs cannot be told from the others'.
    """
    said = {"replica-group": member.group, "replica": str(member.number), "replicas": str(member.count)}
    memory = spec.memory_bytes
    if memory is None and not any(map(holds_alone, plan.winner.gpus)):
        memory = plan.winner.gpus[0].memory_bytes
    return replace(
        spec,
        labels={**spec.labels, **{LABEL + name: text for name, text in said.items()}},
        memory_bytes=memory,
        environment={**dict(_own_gpus(spec, plan)), **spec.environment, **_own_log(spec, plan, member)},
    )


def _own_log(spec: ContainerSpec, plan: Plan, member: Member) -> dict[str, str]:
    """Where there is a log folder, a file for each: of the container's name, or the name that was given numbered."""
    if plan.request.log_dir is None:
        return {}
    named = plan.request.log_name
    return {"AIM_LOG_NAME": spec.name if named is None else f"{named}-{member.number}"}


def _own_gpus(spec: ContainerSpec, plan: Plan) -> Iterator[tuple[str, str]]:
    """Where the device files of all GPUs are passed, because their own are not known: the variable that chooses."""
    access = access_of(plan)
    if not access.every or access.every not in spec.devices:
        return
    if plan.inventory.visibility or not access.visibility_variable:
        raise InputError(
            f"the GPUs' own device files are not known here, and {', '.join(plan.inventory.visibility)} chooses among "
            "them already, so that the replicas' GPUs cannot be told apart",
            hint="unset it",
        )
    yield access.visibility_variable, ",".join(str(gpu.index) for gpu in plan.winner.gpus)


def differences(plans: Sequence[Plan]) -> Iterator[str]:
    """What a person should know of replicas that are not alike."""
    shapes = dict.fromkeys(
        f"{plan.recipe_id} on {plan.winner.gpu_count} x {plan.winner.gpus[0].product}, context {plan.context_tokens}"
        for plan in plans
    )
    if len(shapes) > 1:
        yield f"the replicas are not alike: {'; '.join(shapes)}"
