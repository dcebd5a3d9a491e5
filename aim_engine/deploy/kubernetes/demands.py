"""What a pod asks of a node: a plan and wishes in; the device plugin's resource, labels of the node, memory, processors
and the cache's size out. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from aim_engine.deploy.devices import access_of
from aim_engine.deploy.kubernetes.manifest import GIB
from aim_engine.deploy.kubernetes.startup import weights_bytes
from aim_engine.deploy.kubernetes.wishes import ClusterWishes
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import all_products, product_by_name
from aim_engine.plan import Plan
from aim_engine.selection.memory import in_gib

# Nothing of the plan tells what a GPU's worker takes of the host: HIP's and RCCL's pinned buffers, torch itself, and
# what is read of the weights at a time. AMD's own serving pods ask for 32 GiB a GPU and may take 48, and have 4
# processors a GPU (github.com/amd-enterprise-ai, aim-engine and its operator).
_MEMORY_OF_WORKER, _MEMORY_OF_SERVER = 32 * GIB, 16 * GIB
_LIMIT_FACTOR = 1.5
_CPUS_OF_WORKER, _CPUS_ALONE = 4, 4

_MODE = re.compile(r"[a-z]{3}(_nps\d)?", re.ASCII)

# Compile caches, and what the engine keeps beside the weights; and a quarter for files that it does not load.
_CACHE_BESIDES, _CACHE_ROOM, _CACHE_STEP = 20 * GIB, 1.25, 10 * GIB
_CACHE_UNKNOWN = 500 * GIB


@dataclass(frozen=True, kw_only=True)
class Demands:
    """`resource` and `count` are the device plugin's, None where no GPU is planned; `labels` are what the node must be
    labelled with, each with the values that do. `remarks` are sentences about them.
    """

    resource: str | None
    count: int
    labels: tuple[tuple[str, tuple[str, ...]], ...]
    toleration: str | None
    cpus: int
    memory_bytes: int
    memory_limit_bytes: int
    remarks: tuple[str, ...]
    memory_remark: str


def demands_of(plan: Plan, wishes: ClusterWishes, *, shm_bytes: int, planned_bytes: int | None) -> Demands:
    """What a pod for the plan asks for. `planned_bytes` is what a model in the host's own memory needs, where that is
    known; the shared memory counts as memory of the pod.

    Raises:
        InputError: the cluster could not be asked for these devices.
    """
    access, winner = access_of(plan), plan.winner
    request, limit, remark = _memory(plan, wishes, shm_bytes, planned_bytes)
    if not access.cluster_resource:
        return Demands(resource=None, count=0, labels=(), toleration=None, cpus=wishes.cpus or _CPUS_ALONE,
                       memory_bytes=request, memory_limit_bytes=limit, remarks=(), memory_remark=remark)  # fmt: skip
    gpu = winner.gpus[0]
    resource = _resource(gpu, wishes.naming, access.cluster_resource)
    labels = tuple(_labels(gpu, access.cluster_labels))
    return Demands(
        resource=resource,
        count=winner.gpu_count,
        labels=labels,
        toleration=access.cluster_resource,
        cpus=wishes.cpus or winner.gpu_count * _CPUS_OF_WORKER,
        memory_bytes=request,
        memory_limit_bytes=limit,
        remarks=tuple(_remarks(gpu, labels, resource, access.cluster_resource)),
        memory_remark=remark,
    )


def _resource(gpu: Gpu, naming: str, resource: str) -> str:
    """The name by which the device plugin offers such a device (ROCm/k8s-device-plugin, "Resource Naming Strategy")."""
    mode = _mode(gpu) or ("spx_nps1" if _can_be_parted(gpu) else None)
    return f"{resource.partition('/')[0]}/{mode}" if naming == "mixed" and mode else resource


def _mode(gpu: Gpu) -> str | None:
    """`cpx_nps4`, as the device plugin and the node labeller write CPX/NPS4."""
    mode = None if gpu.partition is None else gpu.partition.lower().replace("/", "_")
    if mode is not None and not _MODE.fullmatch(mode):
        raise InputError(
            f"GPU {gpu.index}: no device plugin knows the partition mode {gpu.partition[:40]!r}",  # type: ignore[index]
            hint="it is written as CPX/NPS4; aim-engine detect --json on a node tells it",
        )
    return mode


def _can_be_parted(gpu: Gpu) -> bool:
    return (gpu.gfx or "") in ("gfx942", "gfx950")


def _labels(gpu: Gpu, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Labels of AMD's node labeller. The ids are the whole product's: the pod may run on its virtual functions too."""
    ids = _device_ids(gpu)
    yield f"{prefix}/gpu.device-id", tuple(dict.fromkeys(one.removeprefix("0x").partition(":")[0] for one in ids))
    if any(_is_shared(one) for one in ids) and gpu.compute_units:
        yield f"{prefix}/gpu.cu-count", (str(gpu.compute_units),)
    if gpu.is_partition:
        yield f"{prefix}/compute-memory-partition", (str(_mode(gpu)),)


def _device_ids(gpu: Gpu) -> tuple[str, ...]:
    try:
        ids = product_by_name(gpu.product).device_ids
    except InputError:
        ids = ()
    found = ids or ((gpu.device_id,) if gpu.device_id else ())
    if not found:
        raise InputError(
            f"no PCI device id of {gpu.product} is known, by which a node could be chosen",
            hint="give AIM_HARDWARE the file that aim-engine detect --json writes on a node",
        )
    return found


def _is_shared(device_id: str) -> bool:
    """Whether other products have the same id, in another revision: the labeller tells no revision."""
    bare = device_id.partition(":")[0]
    others = [one for one in all_products() if any(known.partition(":")[0] == bare for known in one.device_ids)]
    return len(others) > 1


def _remarks(gpu: Gpu, labels: tuple[tuple[str, tuple[str, ...]], ...], resource: str, plain: str) -> Iterator[str]:
    by_hand = " ".join(f"{name}={values[0]}" for name, values in labels)
    flags = "; its flag -compute-memory-partition gives the partitions' label" if gpu.is_partition else ""
    yield (
        "the labels are those of AMD's node labeller (ROCm/k8s-device-plugin, k8s-ds-amdgpu-labeller.yaml), which it "
        f"gives to nodes whose GPUs are all alike{flags}; by hand: kubectl label node NODE {by_hand}"
    )
    if resource == plain and gpu.is_partition:
        yield (
            f"{plain} is what the device plugin calls partitions too, where all of a node are of one mode; with its "
            f"resource_naming_strategy=mixed they are {_resource(gpu, 'mixed', plain)}: --resource-naming mixed"
        )
    if resource != plain:
        yield (
            f"{resource} is what the device plugin offers with resource_naming_strategy=mixed; by its default it calls "
            f"everything {plain}: --resource-naming single"
        )


def _memory(plan: Plan, wishes: ClusterWishes, shm_bytes: int, planned_bytes: int | None) -> tuple[int, int, str]:
    """Request, limit, and how they came about."""
    shm = f"and {in_gib(shm_bytes)} for /dev/shm, which is memory of the pod"
    if wishes.memory_bytes is not None:
        return wishes.memory_bytes, wishes.memory_bytes, "memory: as asked for (--memory)"
    if access_of(plan).cluster_resource:
        workers = plan.winner.gpu_count
        needed = _MEMORY_OF_SERVER + workers * _MEMORY_OF_WORKER + shm_bytes
        return needed, int(needed * _LIMIT_FACTOR), (
            f"memory: {in_gib(_MEMORY_OF_SERVER)} for the server, {in_gib(_MEMORY_OF_WORKER)} for each GPU's "
            f"worker ({workers}), {shm}. The plan does not tell it; AMD's own pods take as much. What is read of the "
            "weights beyond it is page cache, which the kernel takes back"
        )  # fmt: skip
    if planned_bytes is None:
        least = 8 * GIB + shm_bytes
        return least, 2 * least, "memory: a guess, because the model's size is not known: --memory"
    needed = planned_bytes + shm_bytes
    return needed, needed, f"memory: what the plan's ledger adds up to with a quarter and 2 GiB more, {shm}"


@dataclass(frozen=True, kw_only=True)
class Cache:
    """The volume for weights and compile caches: an existing `claim`, or one that is made, of that size."""

    claim: str
    made: bool
    size_bytes: int
    storage_class: str | None
    many_nodes: bool
    remark: str


def cache_of(plan: Plan, wishes: ClusterWishes, name: str, *, many_nodes: bool) -> Cache:
    """The cache of the pods; `many_nodes` where pods on several nodes share it."""
    weights = weights_bytes(plan)
    if wishes.cache_bytes is not None:
        size, remark = wishes.cache_bytes, "as asked for (--cache-size)"
    elif weights is None:
        size, remark = _CACHE_UNKNOWN, "a guess, because the size of the weights is not known (--cache-size)"
    else:
        size = -(-int(weights * _CACHE_ROOM + _CACHE_BESIDES) // _CACHE_STEP) * _CACHE_STEP
        remark = (f"{in_gib(weights)} of weights and a quarter, and {in_gib(_CACHE_BESIDES)} for compile caches; a "
                  "second model or revision needs as much again")  # fmt: skip
    return Cache(
        claim=wishes.claim or f"{name}-cache",
        made=wishes.claim is None,
        size_bytes=size,
        storage_class=wishes.storage_class,
        many_nodes=many_nodes,
        remark=remark,
    )
