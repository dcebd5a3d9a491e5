"""Asks NVML what NVIDIA GPUs there are; runs as a program of its own, because a wedged driver can hang any call.

In: nothing but the environment. Out: one line of JSON on stdout. Knows nothing of AIM Engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, NoReturn


def main() -> NoReturn:
    """Answer on stdout; whatever the library prints goes to stderr."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    os.write(answer_to, json.dumps(look()).encode())
    os._exit(0)  # without nvmlShutdown: a wedged driver could hang in it after the answer is complete


def look() -> dict[str, Any]:
    """`{"driver", "library", "gpus": [...]}`, or why not: `{"type", "code", "text"}`."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return {
            "driver": _text(pynvml.nvmlSystemGetDriverVersion),
            "library": _text(pynvml.nvmlSystemGetNVMLVersion),
            "gpus": [ask(pynvml, handle) for handle in handles],
        }
    except Exception as error:  # a missing package, a missing library and NVML's own errors all happen here
        code = getattr(error, "value", None)
        return {"type": type(error).__name__, "code": code if isinstance(code, int) else None, "text": str(error)[:500]}


def ask(nvml: Any, handle: Any) -> dict[str, Any]:
    """What one GPU answers; what it refuses is absent."""
    found: dict[str, Any] = {}

    def note(word: str, question: Callable[[], Any]) -> None:
        try:
            found[word] = question()
        except Exception as error:  # one refused question must not cost the others
            found.setdefault("errors", {})[word] = str(error)[:200]

    def memory() -> None:
        sizes = nvml.nvmlDeviceGetMemoryInfo(handle)
        found["memory_bytes"], found["memory_free_bytes"] = int(sizes.total), int(sizes.free)

    def place() -> None:
        info = nvml.nvmlDeviceGetPciInfo(handle)
        # the upper half of the identity is the device, the lower the vendor (10de)
        found["address"], found["device_id"] = _plain(info.busId), f"0x{int(info.pciDeviceId) >> 16:04x}"

    note("name", lambda: _plain(nvml.nvmlDeviceGetName(handle)))
    note("uuid", lambda: _plain(nvml.nvmlDeviceGetUUID(handle)))
    note("memory", memory)
    note("place", place)
    note("minor", lambda: int(nvml.nvmlDeviceGetMinorNumber(handle)))
    note("numa_node", lambda: int(nvml.nvmlDeviceGetNumaNodeId(handle)))
    note("capability", lambda: list(map(int, nvml.nvmlDeviceGetCudaComputeCapability(handle))))
    note("units", lambda: int(nvml.nvmlDeviceGetNumGpuCores(handle)))
    note(
        "holders",
        lambda: [
            {"pid": int(one.pid), "memory_bytes": int(one.usedGpuMemory or 0)}
            for one in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        ],
    )
    return found


def _plain(value: Any) -> str:
    """Older bindings answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _text(question: Callable[[], Any]) -> str | None:
    try:
        return _plain(question())
    except Exception:  # a version is worth no failure
        return None


if __name__ == "__main__":
    main()
