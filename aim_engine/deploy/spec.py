"""Plan → `ContainerSpec`: everything a container engine must be told to serve the plan, and why.

Pure. In: a plan, and what only the caller can know (the image, the host's group ids). Out: one frozen value from which
a `docker run`, a compose file or a manifest is made. Knows none of their syntaxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aim_engine import __version__
from aim_engine.deploy import inside
from aim_engine.deploy.devices import access_of, device_files
from aim_engine.deploy.inside import API_PORT, HEALTH_PORT, Mount, PassedVariable
from aim_engine.deploy.limits import check_log_options, check_memory
from aim_engine.deploy.names import (
    HOST_NETWORK,
    checked_image,
    checked_name,
    checked_network,
    checked_user,
    container_name,
    publish_address,
)
from aim_engine.plan import Plan

DEFAULT_IMAGE = "aim-engine-unified"
LABEL = "ai.aim-engine."
GIB = 1024**3

# /dev/shm is a limit, not a reservation: what is not written costs nothing. Docker's default of 64 MB is too small as
# soon as processes exchange tensors. vLLM 0.32 makes ring buffers there of 160 MiB, and 240 MiB more for each worker
# (v1/executor/multiproc_executor.py, shm_broadcast.py): 2 GiB with eight; RCCL adds its own. Where that does not
# fit, a start ends in a bus error or "No space left on device" (vllm-project/vllm#37982). So 16 GiB, which is also
# the least that AMD's own examples give (rocm.docs.amd.com, vLLM inference), and 1 GiB for a single worker.
_SHM_ALONE = 1 * GIB
_SHM_TOGETHER = 16 * GIB

_RESTART = "on-failure:3"
_SECURITY = ("no-new-privileges:true",)
_LOG_OPTIONS = {"max-size": "50m", "max-file": "5"}  # without a limit a log grows until the disk is full

# Beyond the drain: the engine's end, its workers', supervisord's, and the last words.
_STOP_MARGIN_SECONDS = 30

# A CPU engine plans with 9/10 of the memory the container may use; compilers and the page cache come on top.
_CPU_MEMORY_FACTOR = 1.25
_CPU_MEMORY_MARGIN = 2 * GIB


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port of the container, and the address and port of the host it is published on."""

    address: str
    published: int
    target: int


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """How patiently the image's own check is asked; failures in the first `start_seconds` do not count. The check
    itself is the image's: Docker takes what is not given from there (moby/moby, daemon/commit.go, merge).
    """

    start_seconds: int
    interval_seconds: int = 10
    timeout_seconds: int = 5
    retries: int = 3


@dataclass(frozen=True, kw_only=True)
class ContainerSpec:
    """One container. `environment` holds no secret; `passed` names the variables whose values the starter supplies.
    `groups` are numeric ids of the host, or None where the device files' group is not known here. `cdi_devices` and
    `runtime` take the place of `devices`. `network` None is the engine's own bridge; `memory_swap_bytes` counts memory
    and swap together, -1 is without a limit. `about` and `remarks` are sentences for the reader of a file made from
    this.
    """

    image: str
    name: str
    arguments: tuple[str, ...] = ("serve",)
    environment: Mapping[str, str]
    passed: tuple[PassedVariable, ...]
    devices: tuple[str, ...]
    groups: tuple[int, ...] | None
    mounts: tuple[Mount, ...]
    ports: tuple[Port, ...]
    shm_bytes: int
    memory_bytes: int | None
    health: HealthCheck
    stop_seconds: int
    restart: str
    user: str | None = None
    cdi_devices: tuple[str, ...] = ()
    runtime: str | None = None
    network: str | None = None
    memory_swap_bytes: int | None = None
    read_only: bool = True
    # exec: Docker mounts a tmpfs noexec unless told otherwise, and compiled kernels are loaded from /tmp
    tmpfs: tuple[str, ...] = ("/tmp:rw,exec,nosuid,nodev,mode=1777",)  # noqa: S108
    ipc: str = "private"
    capabilities_dropped: tuple[str, ...] = ("ALL",)
    security_options: tuple[str, ...]
    log_driver: str = "json-file"
    log_options: Mapping[str, str]
    labels: Mapping[str, str]
    about: tuple[str, ...]
    remarks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def container_spec(
    plan: Plan,
    *,
    image: str = DEFAULT_IMAGE,
    name: str | None = None,
    groups: tuple[int, ...] | None = None,
    user: str | None = None,
    restart: str = _RESTART,
    memory_bytes: int | None = None,
    shm_bytes: int | None = None,
    memory_swap_bytes: int | None = None,
    network: str | None = None,
    extra: Mapping[str, str] | None = None,
    cdi_devices: tuple[str, ...] = (),
    runtime: str | None = None,
    seccomp: str | None = None,
    log_options: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """The container that serves the plan.

    `groups` are the owners of the host's device files (see `device_files`), None where not known; `memory_bytes` and
    `shm_bytes` replace what the plan needs; `extra` are further variables, `seccomp` a profile other than the engine's.

    Raises:
        InputError: a name, an image, a user, a network, a variable or an address cannot be used with containers.
    """
    devices = () if cdi_devices or runtime else device_files(plan)
    network = checked_network(network)
    mounts = tuple(inside.mounts(plan))
    name = checked_name(name) if name is not None else container_name(plan)
    memory_bytes, own_memory = memory_bytes or _memory_bytes(plan), memory_bytes is None
    check_memory(memory_bytes, memory_swap_bytes)
    check_log_options(log_options or {})
    return ContainerSpec(
        image=checked_image(image),
        name=name,
        environment={
            **(inside.visibility(plan) if access_of(plan).every in devices else {}),
            **inside.checked_variables(extra or {}),
            **inside.environment(plan),
            **inside.log_variables(plan, name),
            **(inside.on_the_host_s_network(plan) if network == HOST_NETWORK else {}),
        },
        passed=inside.passed_variables(plan),
        devices=devices,
        groups=groups if device_files(plan) else (),
        cdi_devices=cdi_devices,
        runtime=runtime,
        network=network,
        memory_swap_bytes=memory_swap_bytes,
        mounts=mounts,
        ports=() if network == HOST_NETWORK else _ports(plan),
        shm_bytes=shm_bytes or (_SHM_TOGETHER if plan.winner.gpu_count > 1 else _SHM_ALONE),
        memory_bytes=memory_bytes,
        health=HealthCheck(start_seconds=int(plan.start_timeout_seconds)),
        stop_seconds=int(plan.request.drain_timeout) + _STOP_MARGIN_SECONDS,
        restart=restart,
        user=checked_user(user),
        security_options=(*_SECURITY, *((f"seccomp={seccomp}",) if seccomp else ())),
        log_options={**_LOG_OPTIONS, **(log_options or {})},
        labels=_labels(plan),
        about=_about(plan),
        remarks=(
            *_remarks(plan, devices, mounts, user),
            *_limits_in_words(own_memory and memory_bytes is not None, restart),
        ),
    )


def _ports(plan: Plan) -> tuple[Port, ...]:
    address = publish_address(plan.request.host)
    return (
        Port(address=address, published=plan.request.port, target=API_PORT),
        Port(address=address, published=plan.request.health_port, target=HEALTH_PORT),
    )


def host_memory_bytes(plan: Plan) -> int | None:
    """What a model in the host's own memory needs, in whole GiB; None for one in GPUs, or of unknown needs."""
    if plan.ledger is None or access_of(plan).always:
        return None
    needed = int(plan.ledger.total_bytes * _CPU_MEMORY_FACTOR) + _CPU_MEMORY_MARGIN
    return -(-needed // GIB) * GIB


def _memory_bytes(plan: Plan) -> int | None:
    """A limit for such a model, where that is less than is there."""
    needed = host_memory_bytes(plan)
    return needed if needed is not None and needed < plan.winner.gpus[0].memory_bytes else None


def _labels(plan: Plan) -> dict[str, str]:
    """What `list` will read: the only registry of containers is their labels."""
    winner, request = plan.winner, plan.request
    labels = {
        "version": __version__,
        "model": plan.model,
        "served-model": inside.served_names(plan)[0],
        "checkpoint": plan.checkpoint,
        "recipe": plan.recipe_id,
        "backend": winner.variant.backend,
        "precision": winner.recipe.precision,
        "metric": request.metric,
        "gpu-type": winner.recipe.gpu_type,
        "gpu-count": str(winner.gpu_count if device_files(plan) else 0),
        "gpus": ",".join(gpu.pci_address or gpu.uuid or "" for gpu in winner.gpus).strip(","),
        "address": publish_address(request.host),
        "port": str(request.port),
        "health-port": str(request.health_port),
        "scheme": "https" if request.tls_cert else "http",
    }
    return {LABEL + name: text for name, text in labels.items() if text}


def _about(plan: Plan) -> tuple[str, ...]:
    winner = plan.winner
    copies = f", {winner.replicas} replicas" if winner.replicas > 1 else ""
    shape = f"tensor parallel {winner.tensor_parallel_size}{copies}"
    source = f": {plan.evidence.source}" if plan.evidence.source else ""
    return (
        f"{plan.model} on {plan.inventory.in_words()}, made by aim-engine {__version__}",
        f"recipe {plan.recipe_id}: {plan.checkpoint}, {winner.recipe.precision}, {shape}, for {plan.request.metric}",
        f"evidence: {plan.evidence.level}{source}",
        *(f"warning: {warning}" for warning in plan.warnings),
    )


def _remarks(plan: Plan, devices: tuple[str, ...], mounts: tuple[Mount, ...], user: str | None) -> Iterator[str]:
    every = access_of(plan).every
    if every in devices:
        yield (f"{every} is passed whole, because the GPUs' own device files are not known here: replace "
               "it by the render nodes of the GPUs meant, to leave the others to others")  # fmt: skip
    if devices:
        # github.com/amd-enterprise-ai/aim-build: AMD's own serving images are run without them, and discovered by a
        # job with all capabilities dropped; older AMD examples carry them for profilers and CMA copies
        yield "privileges: none; AMD's own serving images run without SYS_PTRACE and an open seccomp profile too"
    yield ("shm_size: a limit, not a reservation. Docker's 64 MB would not do: each of vLLM's workers keeps 240 MiB of "
           "ring buffers there, and RCCL its own")  # fmt: skip
    if user is None and any(not mount.is_volume for mount in mounts):
        yield ("folders and files of the host: without capabilities root is an ordinary user to them, so they must "
               "be readable by all, cache and logs writable; or name the owner's numbers with --user")  # fmt: skip
    yield "healthcheck: the image's own, which asks the health sidecar; the time for a start follows from the model"
    sources = [mount.source for mount in mounts if not mount.is_volume]
    if sources and inside.in_the_image(plan.request):
        what = "is its path" if len(sources) == 1 else "are its paths"
        yield (f"rendered inside a container: {', '.join(sources)} {what}; under `volumes` put what the host calls "
               "the same, or render on the host")  # fmt: skip
    if plan.request.state_dir is not None:
        yield "AIM_STATE_DIR is left out: in the container the state lies on the tmpfs at /tmp"


def _limits_in_words(own_memory: bool, restart: str) -> Iterator[str]:
    """About what is ours and not asked for."""
    if own_memory:
        yield "mem_limit: a quarter and 2 GiB above what the plan computes for weights, cache and processes"
    if restart == _RESTART:
        yield ("restart: three times at most, and only after a failure. Exit codes 10 to 42 and 50 are permanent, no "
               "restart can help; the engine itself is started again inside, without ending the container")  # fmt: skip
