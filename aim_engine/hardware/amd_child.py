"""The child process that talks to amdsmi: nothing in, one JSON object on stdout out, the library's values as they are.

Run as a script (`python -P amd_child.py`), so it needs nothing of AIM Engine and judges nothing: amd.py does. A crash
or a hang in the library or the driver ends or stops this process only.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

# What is asked of each GPU: our word for it, and the call. The newest and oldest bindings lack some of them.
QUESTIONS = (
    ("asic", "amdsmi_get_gpu_asic_info"),
    ("vram", "amdsmi_get_gpu_vram_info"),
    ("usage", "amdsmi_get_gpu_vram_usage"),
    ("kfd", "amdsmi_get_gpu_kfd_info"),
    ("enumeration", "amdsmi_get_gpu_enumeration_info"),
    ("bdf", "amdsmi_get_gpu_device_bdf"),
    ("uuid", "amdsmi_get_gpu_device_uuid"),
    ("compute_partition", "amdsmi_get_gpu_compute_partition"),
    ("memory_partition", "amdsmi_get_gpu_memory_partition"),
    ("numa_node", "amdsmi_topo_get_numa_node_number"),
)
MEMORY_QUESTIONS = (
    ("memory_total", "amdsmi_get_gpu_memory_total"),
    ("memory_used", "amdsmi_get_gpu_memory_usage"),
)


def main() -> NoReturn:
    """Answer on stdout. The library's own chatter goes to stderr: amdsmi prints when its library is missing."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    answer = json.dumps(look(), default=str).encode()
    while answer:
        answer = answer[os.write(answer_to, answer) :]
    # Without amdsmi_shut_down and without the library's destructors: both have nothing to give back that the end of
    # the process does not, and a wedged driver could hang in them after the answer is complete.
    os._exit(0)


def look() -> dict[str, Any]:
    """`{"gpus": [...]}`, or the stage at which it failed with the exception's type, code and text."""
    stage = "import"
    try:
        amdsmi = import_amdsmi()
        stage = "init"
        amdsmi.amdsmi_init()
        stage = "list"
        handles = amdsmi.amdsmi_get_processor_handles()
        return {"gpus": [ask(amdsmi, handle) for handle in handles]}
    except Exception as error:  # KeyError, AttributeError, OSError, ImportError and amdsmi's own all happen here
        return {"stage": stage, **describe(error)}


def import_amdsmi() -> Any:
    """The binding from sys.path, else from where ROCm installs it without putting it on sys.path."""
    try:
        import amdsmi
    except ModuleNotFoundError as error:
        if error.name != "amdsmi":
            raise
        sys.path.extend(rocm_folders())
        import amdsmi
    return amdsmi


def rocm_folders() -> Iterator[str]:
    """ROCm's own folders for the binding (github.com/ROCm/TheRock issue 3054 for the second)."""
    for prefix in (os.environ.get("ROCM_PATH") or "/opt/rocm", *(f"{path}/_rocm_sdk_core" for path in sys.path)):
        folder = Path(prefix) / "share" / "amd_smi"
        if folder.is_dir():
            yield str(folder)


def ask(amdsmi: Any, handle: Any) -> dict[str, Any]:
    """Everything one GPU answers; what it refuses is under "errors"."""
    found: dict[str, Any] = {}
    errors: dict[str, Any] = {}

    def note(word: str, name: str, *arguments: Any) -> None:
        try:
            found[word] = getattr(amdsmi, name)(handle, *arguments)
        except Exception as error:  # one refused question must not cost the others
            errors[word] = describe(error)

    for word, name in QUESTIONS:
        note(word, name)
    vram = getattr(getattr(amdsmi, "AmdSmiMemoryType", None), "VRAM", None)
    for word, name in MEMORY_QUESTIONS:
        note(word, name, vram)
    return {**found, "errors": errors}


def describe(error: Exception) -> dict[str, Any]:
    code = getattr(error, "err_code", None)
    return {"type": type(error).__name__, "code": code if isinstance(code, int) else None, "text": str(error)[:500]}


if __name__ == "__main__":
    main()
