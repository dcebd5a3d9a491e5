"""Why amdsmi has no GPUs to tell of: its exceptions and status codes in, a blocking `Finding` with the remedy out.

Every such finding means that there is a GPU, or a sign of one, that this way cannot use: detect.py then asks the other
layers for AMD's GPUs. Knows nothing of how amdsmi is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aim_engine.hardware.amd.values import text
from aim_engine.hardware.device_nodes import DEVICES, OR_ELSE
from aim_engine.hardware.inventory import Finding

# amdsmi.h, amdsmi_status_t
NO_PERMISSION, FILE_ERROR, NOT_INITIALISED, DRIVER_NOT_LOADED = 10, 14, 32, 34

_BY_CODE = {
    DRIVER_NOT_LOADED: (
        "the amdgpu driver is not loaded",
        "on the host: sudo modprobe amdgpu, then look at `dmesg | grep amdgpu`",
    ),
    NOT_INITIALISED: (
        "the amdgpu driver is loaded, but its KFD topology in /sys is hidden from this process",
        f"a sandboxed runtime or a masked /sys hides it; use the default runtime: {DEVICES}",
    ),
    NO_PERMISSION: (
        "this process may not ask the AMD driver for the GPUs: permission denied",
        f"{DEVICES} --group-add <the group of /dev/dri/renderD128>, or on a host join the groups render and video",
    ),
}


def blocked(source: str, reason: str, hint: str, *, certain: bool = False) -> Finding:
    """There is an AMD GPU, or a sign of one, that `source` cannot use; `certain` where that is not `source`'s fault."""
    return Finding(source=source, reason=reason, hint=hint + OR_ELSE, blocking=True, certain=certain)


def without_answer(source: str, answer: Mapping[str, Any]) -> Finding | None:
    """The finding for an answer that says why there is none; None for any other."""
    reason = text(answer.get("reason"))
    if reason:
        return blocked(source, reason, text(answer.get("hint")) or "")
    if "stage" in answer:
        return blocked(source, *_failure(answer), certain=_code(answer) in _BY_CODE)
    return None


def no_list(source: str) -> Finding:
    return blocked(
        source, f"what {source} answered cannot be read: it lists no GPUs", "update it to the version ROCm ships"
    )


def no_memory(source: str, count: int) -> Finding:
    return blocked(
        source,
        f"{source} lists AMD GPUs ({count}), but for none of them a size of its memory that can be believed",
        "see what `amd-smi static --vram` says here and on the host",
    )


def nothing_visible(source: str) -> Finding:
    return blocked(
        source,
        "the amdgpu driver is loaded, but no GPU is visible to this process",
        f"start the container with its devices: {DEVICES}",
    )


def _code(answer: Mapping[str, Any]) -> int | None:
    code = answer.get("code")
    return code if isinstance(code, int) else None


def _failure(answer: Mapping[str, Any]) -> tuple[str, str]:
    """(reason, hint) for a library that could not be imported, started or asked."""
    stage, kind, words = (text(answer.get(key)) for key in ("stage", "type", "text"))
    code = _code(answer)
    if code in _BY_CODE:
        return _BY_CODE[code]
    if kind == "ModuleNotFoundError":
        return (
            "there are signs of an AMD GPU, but Python's amdsmi package is not installed",
            "install the one ROCm ships (PYTHONPATH=/opt/rocm/share/amd_smi), or pip install amdsmi",
        )
    # amdsmi up to 7.0 raises KeyError('libamd_smi.so') on import, later ones OSError at the first call
    if kind in ("KeyError", "OSError", "FileNotFoundError"):
        return (
            "ROCm's library libamd_smi.so cannot be loaded",
            "install ROCm's amd-smi-lib package, or let LD_LIBRARY_PATH or ROCM_PATH lead to it",
        )
    if kind == "AttributeError":
        return (
            f"the amdsmi package is newer than ROCm's libamd_smi.so: {words}",
            "use the amdsmi package that this ROCm ships (PYTHONPATH=/opt/rocm/share/amd_smi)",
        )
    number = f" with status {code}" if code is not None else ""
    return f"amdsmi failed to {stage}{number}: {words}", "see what `amd-smi list` says here and on the host"
