"""How accelerators reach a container: a plan in; the device files, or their names to CDI or to a vendor's runtime, out.

Asks the file system for the files' owners and nothing else. A vendor is a line in the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Gpu
from aim_engine.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a vendor's devices reach a container: files needed always, a GPU's own file, and the folder of all; the
    vendor's kind of CDI devices; its container runtime, and the variable by which that is told the GPUs. `image` is
    the image that is made for them, `visibility_variable` the one by which processes that see all of them choose. In a
    cluster `cluster_resource` is what its device plugin offers, `cluster_labels` what its node labels begin with.
    """

    image: str
    visibility_variable: str = ""
    always: tuple[str, ...] = ()
    own: re.Pattern[str] | None = None
    every: str = ""
    cdi_kind: str = ""
    runtime: str = ""
    runtime_variable: str = ""
    cluster_resource: str = ""
    cluster_labels: str = ""


_ACCESS = {
    # rocm.docs.amd.com, "Running ROCm Docker containers": single render nodes restrict a container to these GPUs
    "amd": Access(
        image="aim-engine-unified",
        visibility_variable="ROCR_VISIBLE_DEVICES",  # indices in the order of the KFD nodes, which is ours
        always=("/dev/kfd",),
        own=re.compile(r"/dev/dri/renderD\d{1,4}"),
        every="/dev/dri",
        # instinct.docs.amd.com, "AMD Container Toolkit": CDI devices, and the runtime's variable
        cdi_kind="amd.com/gpu",
        runtime="amd",
        runtime_variable="AMD_VISIBLE_DEVICES",
        # github.com/ROCm/k8s-device-plugin, its docs/user-guide
        cluster_resource="amd.com/gpu",
        cluster_labels="amd.com",
    ),
    "cpu": Access(image="aim-engine-unified-cpu"),
}


def device_files(plan: Plan) -> tuple[str, ...]:
    """The device files the container needs: the planned GPUs' own where all are known, else the folder of all."""
    gpus = plan.winner.gpus
    access = access_of(plan)
    if access.own is None:
        return access.always
    nodes = [gpu.render_node or "" for gpu in gpus]
    known = all(access.own.fullmatch(node) for node in nodes)
    return (*access.always, *(dict.fromkeys(nodes) if known else (access.every,)))


def holds_alone(gpu: Gpu) -> bool:
    """True for a device that one engine has for itself; the host's own processor serves several."""
    access = _ACCESS.get(gpu.vendor)
    return access is None or bool(access.always)


def own_files(plan: Plan) -> tuple[str, ...]:
    """The planned GPUs' own device files; none where not all of them are known, or where the host itself is planned."""
    pattern = access_of(plan).own
    nodes = tuple(gpu.render_node or "" for gpu in plan.winner.gpus)
    return nodes if pattern is not None and all(pattern.fullmatch(node) for node in nodes) else ()


def device_groups(plan: Plan) -> tuple[int, ...] | None:
    """The groups that own the plan's device files, if these are the files of this host; None if that is not known."""
    if plan.inventory.declared:
        return None
    try:
        owners = [Path(path).stat().st_gid for path in device_files(plan)]
    except OSError:
        return None
    return tuple(sorted({owner for owner in owners if owner != 0}))


def runtime_words(plan: Plan) -> tuple[str, dict[str, str]]:
    """The vendor's container runtime, and the variable that names the planned GPUs to it. They are named by their
    unique ids: the toolkit numbers GPUs in an order of its own.

    Raises:
        InputError: there is no such runtime, or a GPU cannot be named to it.
    """
    access, gpus = access_of(plan), plan.winner.gpus
    if not access.runtime:
        raise InputError("there is no container runtime for these devices", hint="leave --device-mode out")
    if not all(gpu.unique_id for gpu in gpus) or any(gpu.is_partition for gpu in gpus):
        raise InputError(
            f"the planned GPUs cannot be named to the {access.runtime} runtime: it takes whole GPUs by unique id",
            hint="use --device-mode devices",
        )
    ids = ",".join(f"0x{str(gpu.unique_id).removeprefix('0x')}" for gpu in gpus)
    return access.runtime, {access.runtime_variable: ids}


def access_of(plan: Plan) -> Access:
    """How the planned devices reach a container.

    Raises:
        InputError: nobody has said so for this vendor.
    """
    vendor = plan.winner.gpus[0].vendor
    if vendor not in _ACCESS:
        raise InputError(
            f"how {vendor} devices reach a container is not known here",
            hint=f"containers are made for {', '.join(_ACCESS)}; use aim-engine serve",
        )
    return _ACCESS[vendor]
