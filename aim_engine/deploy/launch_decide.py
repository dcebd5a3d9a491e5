"""What would be created now: a `Job` and what the engine's containers leave in; GPUs, ports and names allocated, the
plans made, the containers described, out. Creates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.allocation import Allocation, allocate
from aim_engine.deploy.cdi import cdi_devices
from aim_engine.deploy.devices import access_of, device_groups, own_files, runtime_words
from aim_engine.deploy.docker import guarded
from aim_engine.deploy.folders import check_folders, owner_of_folders
from aim_engine.deploy.free_ports import (
    listens_elsewhere,
    listens_here,
    ports_of_containers,
    with_ports_of_each,
)
from aim_engine.deploy.images import image_name
from aim_engine.deploy.launch_job import TOKEN, Decision, Job, Wishes
from aim_engine.deploy.listing import list_endpoints
from aim_engine.deploy.names import checked_name, container_name, name_taken, numbered
from aim_engine.deploy.orchestrator import own_image, own_network
from aim_engine.deploy.reach import Vantage, vantage
from aim_engine.deploy.replicas import Member, as_replica, names_of_replicas, plan_replicas
from aim_engine.deploy.spec import ContainerSpec, container_spec
from aim_engine.errors import DockerError, InputError, NoAcceleratorError
from aim_engine.plan import Plan, Refusal
from aim_engine.request import Request

if TYPE_CHECKING:
    from docker import DockerClient

    from aim_engine.deploy.endpoints import Endpoint


def decide_now(client: DockerClient, job: Job, avoid: frozenset[int] = frozenset()) -> tuple[Decision, ...]:
    """What this engine's containers leave, for each container of the job. Creates nothing, and holds nothing: only
    under the lock it stays true.

    Raises:
        AimError: nothing can be planned.
    """
    with guarded("list its containers"):
        endpoints = list_endpoints(client, all=True)
        listed = client.api.containers(all=True)
    allocation = allocate(job.inventory, endpoints)
    taken = {**ports_of_containers(listed, endpoints), **dict.fromkeys(avoid, "another")}
    place = vantage(client)
    listens = listens_here if place.shares_ports else listens_elsewhere
    requests = with_ports_of_each(job.request, job.wishes.replicas, taken, listens=listens)
    names = _taken_names(listed, endpoints)
    plans = _plans(job, requests, allocation)
    unstarted = tuple(one for one in endpoints if one.state == "created")
    decisions = _as_replicas(job, [
        Decision(plan=plan, allocation=allocation, spec=spec_of(job, plan, name, client, place), place=place,
                 unstarted=unstarted)
        for plan, name in zip(plans, _names(job, plans, names), strict=True)
    ])  # fmt: skip
    for one in decisions:
        check_folders(one.plan, one.spec.user, place)
    return decisions


def decide_alone(job: Job) -> tuple[Decision, ...]:
    """The same where there is no engine to ask.

    Raises:
        AimError: nothing can be planned.
    """
    requests = with_ports_of_each(job.request, job.wishes.replicas, {}, listens=listens_elsewhere)
    allocation = allocate(job.inventory, ())
    plans = _plans(job, requests, allocation)
    return _as_replicas(job, [
        Decision(plan=plan, allocation=allocation, spec=spec_of(job, plan, name, None, Vantage()))
        for plan, name in zip(plans, _names(job, plans, {}), strict=True)
    ])  # fmt: skip


def _plans(job: Job, requests: Sequence[Request], allocation: Allocation) -> tuple[Plan, ...]:
    if len(requests) == 1:
        return (plan_of(job, requests[0], allocation),)
    return plan_replicas(requests, allocation, partial(plan_of, job))


def _names(job: Job, plans: Sequence[Plan], taken: Mapping[str, str]) -> tuple[str, ...]:
    asked = job.wishes.name
    if len(plans) == 1:
        return (_free_name(plans[0], asked, taken),)
    return names_of_replicas(asked or container_name(plans[0]), len(plans), taken, asked=asked is not None)


def _as_replicas(job: Job, decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """The same with their containers marked as launched together, where there are several."""
    if len(decisions) == 1:
        return tuple(decisions)
    group, count = f"{decisions[0].spec.name}.{job.token[:8]}", len(decisions)
    return tuple(
        replace(one, spec=as_replica(one.spec, one.plan, Member(group=group, number=number, count=count)))
        for number, one in enumerate(decisions, 1)
    )


def plan_of(job: Job, request: Request, allocation: Allocation) -> Plan:
    """The plan, made by whoever knows how, and fit to be a container's.

    Raises:
        AimError: there is none; of too few GPUs, with who holds the others.
    """
    found = job.planner(request, allocation.inventory)
    if isinstance(found, Refusal):
        raise allocation.busy(found.error, request.gpu_count)
    return found


def check_devices(plan: Plan, mode: str) -> None:
    """That the container can be given the planned GPUs and no others.

    Raises:
        InputError: they are merely declared.
        NoAcceleratorError: their device files are not known.
    """
    addressed = all(gpu.pci_address or gpu.uuid for gpu in plan.winner.gpus)
    if not access_of(plan).always or (own_files(plan) and addressed):
        return
    if plan.inventory.declared:
        raise InputError(
            f"cannot launch on declared hardware ({plan.inventory.in_words()})",
            hint="leave AIM_HARDWARE out, or give it the file that aim-engine detect --json wrote on Docker's host; "
                 "--dry-run shows what would be run",
        )  # fmt: skip
    if mode != "runtime":
        raise NoAcceleratorError(
            "the planned GPUs' own device files or addresses are not known, so the container could not be given these "
            "GPUs alone",
            hint="aim-engine doctor says what is amiss",
        )


def spec_of(job: Job, plan: Plan, name: str, client: DockerClient | None, place: Vantage) -> ContainerSpec:
    """The container for the plan, under that name; in an orchestrator with its paths as the host
    calls them, and unless told otherwise of its image and in its network.

    Raises:
        InputError: a wish cannot be fulfilled, or a path that was named is none of the host's.
    """
    cdi, runtime, variables = _device_words(plan, job.wishes.device_mode, client)
    wishes = replace(
        job.wishes,
        image=image_name(plan, job.wishes.image, lambda: own_image(client, place.own, plan) if client else None),
        network=job.wishes.network or (own_network(client, place.networks) if client else None),
        name=name,
        user=job.wishes.user or owner_of_folders(plan, place),
        extra={**job.wishes.extra, **variables},
    )
    spec = container_as_wished(plan, wishes, cdi_devices=cdi, runtime=runtime)
    return replace(
        spec,
        labels={**spec.labels, TOKEN: job.token},
        mounts=spec.mounts if place.paths is None else tuple(chain(*map(place.paths.translated, spec.mounts))),
    )


def _check_alone(request: Request) -> None:
    if request.nodes > 1:
        raise InputError(
            f"AIM_NODES={request.nodes}: a container is launched on this host alone",
            hint="start the image on every node with AIM_NODES, AIM_NODE_RANK and AIM_LEADER_ADDRESS, or use "
            "aim-engine render kubernetes",
        )


def container_as_wished(
    plan: Plan, wishes: Wishes, *, cdi_devices: tuple[str, ...] = (), runtime: str | None = None
) -> ContainerSpec:
    """The container for the plan with everything that was asked of it.

    Raises:
        InputError: a wish cannot be fulfilled.
    """
    _check_alone(plan.request)
    return container_spec(
        plan,
        image=image_name(plan, wishes.image),
        name=wishes.name,
        groups=device_groups(plan),
        user=wishes.user,
        restart=wishes.restart,
        memory_bytes=wishes.memory_bytes,
        memory_swap_bytes=wishes.memory_swap_bytes,
        shm_bytes=wishes.shm_bytes,
        network=wishes.network,
        extra=wishes.extra,
        cdi_devices=cdi_devices,
        runtime=runtime,
        seccomp=wishes.seccomp,
        log_options=wishes.log_options,
    )


def _device_words(
    plan: Plan, mode: str, client: DockerClient | None
) -> tuple[tuple[str, ...], str | None, dict[str, str]]:
    """CDI devices, a runtime, and the variables that go with it: device files need none of them."""
    if mode in ("auto", "devices") or not access_of(plan).always:
        return (), None, {}
    if client is None:
        raise DockerError(f"--device-mode {mode} needs a Docker Engine to ask", hint="leave it out")
    with guarded("say what it can do"):
        info = client.info()
    if mode == "cdi":
        return cdi_devices(plan, info), None, {}
    name, variables = runtime_words(plan)
    if name not in (info.get("Runtimes") or {}):
        raise DockerError(
            f"this Docker Engine has no runtime {name}",
            hint="install AMD's container toolkit (amd-ctk runtime configure), or --device-mode devices",
        )
    return (), name, variables


def _taken_names(listed: Iterable[Mapping[str, Any]], endpoints: Iterable[Endpoint]) -> dict[str, str]:
    """The names of all containers, each with what removes it: `docker rm` refuses one that runs."""
    ours = {one.name for one in endpoints}
    taken = {}
    for one in listed:
        for name in (full.removeprefix("/") for full in one.get("Names") or ()):
            by_hand = f"docker rm {name}" if one.get("State") != "running" else f"docker rm --force {name}"
            taken[name] = f"aim-engine stop {name}" if name in ours else by_hand
    return taken


def _free_name(plan: Plan, asked: str | None, names: Mapping[str, str]) -> str:
    if asked is not None:
        if checked_name(asked) in names:
            raise name_taken(asked, asked, names[asked])
        return asked
    name, number = container_name(plan), 2
    free = name
    while free in names:
        free, number = numbered(name, number), number + 1
    return free
