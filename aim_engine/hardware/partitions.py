"""How parts of a GPU are made whole GPUs again: the partitions in, what somebody must do in words out.

From amd-smi's documentation and the kernel's source (amdgpu, aqua_vanjaram.c): not tried on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import is_virtual_function

_COMPUTE = "sudo amd-smi set --compute-partition SPX"
# The driver takes SPX in NPS1 alone; changing the memory mode unloads it, which it refuses while anybody uses a GPU.
_MEMORY = "sudo amd-smi set --memory-partition NPS1, which reloads the driver"
_EVERYBODY = "this resets the GPUs of everybody on that host"


def way_back(partitions: Sequence[Gpu]) -> str:
    """One clause, to be put in brackets or after a colon."""
    if any(gpu.device_id and is_virtual_function(gpu.device_id) for gpu in partitions):
        return "only the hypervisor's administrator can: these are virtual functions"
    memory_modes = {(gpu.partition or "").partition("/")[2] for gpu in partitions}
    if memory_modes == {"NPS1"}:
        return f"on the host: {_COMPUTE}; {_EVERYBODY}"
    unless = ", unless the memory mode is NPS1 already" if "" in memory_modes else ""
    return f"on the host, while nothing uses a GPU: first {_MEMORY}{unless}; then {_COMPUTE}; {_EVERYBODY}"
