"""The decision that must be made alone, and the container it ends in: under the lock the endpoints are listed, GPUs,
ports and a name allocated, the plan made, the container created. Starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aim_engine.deploy.allocation import Allocation, allocate
from aim_engine.deploy.cdi import cdi_devices
from aim_engine.deploy.devices import access_of, device_groups, own_files, runtime_words
from aim_engine.deploy.docker import guarded, is_about_a_name
from aim_engine.deploy.docker_words import create_words
from aim_engine.deploy.endpoints import list_endpoints
from aim_engine.deploy.free_ports import listens_elsewhere, listens_here, ports_of_containers, with_free_ports
from aim_engine.deploy.images import image_name
from aim_engine.deploy.launch_lock import LockLostError, launch_lock
from aim_engine.deploy.names import checked_name, container_name, numbered
from aim_engine.deploy.reach import vantage
from aim_engine.deploy.secrets import remove_secrets, secret_values, secrets_folder, with_secret_files, write_secrets
from aim_engine.deploy.spec import LABEL, ContainerSpec, container_spec
from aim_engine.errors import AimError, CacheError, DockerError, InputError, NoAcceleratorError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal
from aim_engine.request import Request

if TYPE_CHECKING:
    from docker import DockerClient

TOKEN = LABEL + "launch"  # which launch made a container: how one is found whose creation was interrupted
DEVICE_MODES = ("auto", "devices", "cdi", "runtime")
_TRIES = 5

Planner = Callable[[Request, Inventory], Plan | Refusal]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked of the container itself; None is what the plan or the engine would take. `timeout_seconds` is for
    becoming ready.
    """

    image: str | None = None
    name: str | None = None
    network: str | None = None
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    shm_bytes: int | None = None
    user: str | None = None
    restart: str = "on-failure:3"
    seccomp: str | None = None
    device_mode: str = "auto"
    extra: Mapping[str, str] = field(default_factory=dict)
    log_options: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False
    wait: bool = True
    timeout_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A launch: what is asked, what is there, how plans are made of both, and the environment of whoever asks."""

    request: Request
    inventory: Inventory
    planner: Planner
    wishes: Wishes
    environment: Mapping[str, str]
    token: str
    warn: Callable[[str], None] = lambda _text: None
    on_name: Callable[[str], None] = lambda _name: None  # told before anything of that name is made


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What would be created: the plan for GPUs and ports that are free, and the container under a free name."""

    plan: Plan
    allocation: Allocation
    spec: ContainerSpec


def create_alone(client: DockerClient, job: Job, avoid: frozenset[int] = frozenset()) -> tuple[str, Decision]:
    """The container's id, and what was decided. No other launch on this engine decides at the same time.

    Raises:
        AimError: nothing can be planned, or the engine refuses.
    """
    plan = decide_now(client, job, avoid).plan
    for _ in range(_TRIES):
        try:
            with launch_lock(client, image_name(plan, job.wishes.image)) as lock:
                decision = decide_now(client, job, avoid)
                made = _create(client, job, decision)
                try:
                    lock.check()
                except BaseException:
                    remove(client, made, job, decision.spec.name)
                    raise
                return made, decision
        except LockLostError:
            continue
        except InputError as error:
            # somebody who is no launch took the name that was free a moment ago
            if job.wishes.name is not None or not is_about_a_name(error):
                raise
    raise DockerError("the container could not be created: others were quicker each time", hint="try again")


def decide_now(client: DockerClient, job: Job, avoid: frozenset[int] = frozenset()) -> Decision:
    """What this engine's containers leave. Creates nothing, and holds nothing: only under the lock it stays true.

    Raises:
        AimError: nothing can be planned.
    """
    with guarded("list its containers"):
        endpoints = list_endpoints(client, all=True)
        listed = client.api.containers(all=True)
    allocation = allocate(job.inventory, endpoints)
    taken = {**ports_of_containers(listed, endpoints), **dict.fromkeys(avoid, "another")}
    listens = listens_here if _is_this_host(client) else listens_elsewhere
    request = with_free_ports(job.request, taken, listens=listens)
    names = {name.removeprefix("/") for one in listed for name in one.get("Names") or ()}
    plan = plan_of(job, request, allocation)
    return Decision(plan=plan, allocation=allocation, spec=spec_of(job, plan, names, client))


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


def spec_of(job: Job, plan: Plan, names: set[str], client: DockerClient | None) -> ContainerSpec:
    """The container for the plan, under a name that none of `names` is."""
    cdi, runtime, variables = _device_words(plan, job.wishes.device_mode, client)
    wishes = replace(
        job.wishes,
        name=_free_name(plan, job.wishes.name, names),
        user=job.wishes.user or _owner_of_cache(plan),
        extra={**job.wishes.extra, **variables},
    )
    spec = container_as_wished(plan, wishes, cdi_devices=cdi, runtime=runtime)
    return replace(spec, labels={**spec.labels, TOKEN: job.token})


def container_as_wished(
    plan: Plan, wishes: Wishes, *, cdi_devices: tuple[str, ...] = (), runtime: str | None = None
) -> ContainerSpec:
    """The container for the plan with everything that was asked of it.

    Raises:
        InputError: a wish cannot be fulfilled.
    """
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


def _free_name(plan: Plan, asked: str | None, names: set[str]) -> str:
    if asked is not None:
        if checked_name(asked) in names:
            raise InputError(
                f"--name {asked}: a container of that name is there already",
                hint=f"choose another, or leave it out; docker rm {asked} removes that one",
            )
        return asked
    name, number = container_name(plan), 2
    free = name
    while free in names:
        free, number = numbered(name, number), number + 1
    return free


def _owner_of_cache(plan: Plan) -> str | None:
    """The owner of a cache that is a folder of this host: without capabilities the image's root could not write it."""
    if plan.request.origins.get("cache_dir", "default") == "default":
        return None
    try:
        found = plan.request.cache_dir.stat()
    except OSError:
        return None
    return f"{found.st_uid}:{found.st_gid}" if found.st_uid else None


def _create(client: DockerClient, job: Job, decision: Decision) -> str:
    """Create it, with its secrets as files where the engine sees ours, else in its environment."""
    spec, values = decision.spec, secret_values(decision.plan.request)
    job.on_name(spec.name)
    _make_cache(client, decision.plan)
    folder = secrets_folder(job.environment, spec.name)
    by_file = with_secret_files(spec, values, folder)
    if by_file.passed == spec.passed:
        return create(client, spec, values)
    if _is_this_host(client):
        write_secrets(folder, values)
        try:
            return create(client, by_file, values)
        except AimError as error:
            remove_secrets(job.environment, spec.name)
            if str(folder) not in error.message:
                raise
        except BaseException:
            remove_secrets(job.environment, spec.name)
            raise
    names = ", ".join(one.name for one in spec.passed if one not in by_file.passed)
    job.warn(f"{names}: the Docker Engine does not see this machine's files, so the container gets it as a variable, "
             "and docker inspect shows it")  # fmt: skip
    return create(client, spec, values)


def _make_cache(client: DockerClient, plan: Plan) -> None:
    """The folder that was named for the cache; the engine makes none."""
    if plan.request.origins.get("cache_dir", "default") == "default" or not _is_this_host(client):
        return
    try:
        plan.request.cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheError(f"{plan.request.cache_dir} cannot be made: {error.strerror}", hint="name another") from None


def _is_this_host(client: DockerClient) -> bool:
    """Whether the engine's files and ports are those of this process: we reach it by a socket, and it does not run us
    as one of its containers.
    """
    base = str(client.api.base_url)
    by_socket = base.startswith("http+docker://") and not base.startswith("http+docker://ssh")
    return by_socket and vantage(client).networks is None


def create(client: DockerClient, spec: ContainerSpec, values: Mapping[str, str]) -> str:
    """Create the container and return its id. `values` are those of the variables that the spec only names.

    Raises:
        AimError: the engine refuses.
    """
    words = create_words(spec, values)
    with guarded("create the container"):
        host = client.api.create_host_config(**words.pop("host_config"))
        return str(client.api.create_container(**words, host_config=host)["Id"])


def remove(client: DockerClient, container: str, job: Job, name: str) -> None:
    """Take back what was created: the container, and its secrets."""
    from docker.errors import NotFound

    with suppress(NotFound), guarded("remove the container"):
        client.api.remove_container(container, force=True, v=True)
    remove_secrets(job.environment, name)
