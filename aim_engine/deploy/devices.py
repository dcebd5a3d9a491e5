"""How accelerators reach a container: a plan in, the device files out.

Pure: names files, opens none. A vendor is a line in the table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aim_engine.errors import InputError
from aim_engine.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a vendor's devices reach a container: files needed always, a GPU's own file, and the folder of all."""

    always: tuple[str, ...] = ()
    own: re.Pattern[str] | None = None
    every: str = ""


_ACCESS = {
    # rocm.docs.amd.com, "Running ROCm Docker containers": single render nodes restrict a container to these GPUs
    "amd": Access(always=("/dev/kfd",), own=re.compile(r"/dev/dri/renderD\d{1,4}"), every="/dev/dri"),
    "cpu": Access(),
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
