"""NVIDIA GPUs as NVML tells of them: surroundings in, a `Finding` out.

AIM Engine is made for AMD's GPUs; this keeps it honest on a machine that has others: it names them instead of serving
on the CPU in silence, and plans for them where a recipe says how. Knows no recipe or engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aim_engine.hardware.inventory import Finding, Gpu, Holder, Surroundings
from aim_engine.hardware.pci import NVIDIA, display_devices

_CHILD = Path(__file__).with_name("child.py")
_SIGNS = ("dev/nvidiactl", "proc/driver/nvidia/version", "sys/module/nvidia")
_OR_ELSE = "; to go on without the GPU, say --hardware cpu"
_COMPUTES = "0x0302"  # pci_ids.h, PCI_CLASS_DISPLAY_3D
_VISIBLE = "CUDA_VISIBLE_DEVICES"

# nvml.h, nvmlReturn_t
_NO_PERMISSION, _DRIVER_NOT_LOADED, _LIBRARY_NOT_FOUND, _VERSION_MISMATCH = 4, 9, 12, 18
_FAILURES = {
    _DRIVER_NOT_LOADED: ("NVIDIA's driver is not loaded", "on the host: sudo modprobe nvidia, then look at nvidia-smi"),
    _LIBRARY_NOT_FOUND: (
        "NVIDIA's library libnvidia-ml.so.1 cannot be loaded",
        "in a container, let NVIDIA's container toolkit mount it (docker run --gpus all)",
    ),
    _VERSION_MISMATCH: (
        "NVIDIA's driver and its library libnvidia-ml.so.1 differ in version",
        "restart the host after an update of the driver",
    ),
    _NO_PERMISSION: ("NVML may not be asked by this user", "start the container with docker run --gpus all"),
}


class NvmlDetector:
    """Asks NVML through nvidia-ml-py. Costs next to nothing where there is no sign of an NVIDIA GPU."""

    name = "nvml"
    vendor = "nvidia"

    def detect(self, surroundings: Surroundings) -> Finding:
        if not _is_sign_of_gpu(surroundings.root):
            return _without_driver(surroundings.root)
        if not surroundings.is_live:
            return Finding(source=self.name)  # a recorded host can be read, not asked
        return look(surroundings)


def _is_sign_of_gpu(root: Path) -> bool:
    """True where the driver, or a device file of it, is there."""
    if any(os.path.exists(root / sign) for sign in _SIGNS):  # noqa: PTH110 - says no where Path.exists raises
        return True
    try:
        names = os.listdir(root / "dev")  # noqa: PTH208
    except OSError:
        return False
    return any(re.fullmatch(r"nvidia[0-9]{1,4}", name, re.ASCII) for name in names)


def _without_driver(root: Path) -> Finding:
    """A GPU without a display of its own is there to compute; any other adapter is worth a note."""
    notes = []
    for device in display_devices(root, NVIDIA):
        what = f"{device.device_id} at {device.address}"
        if device.class_code.startswith(_COMPUTES):
            given = f" (bound to {device.driver} instead)" if device.driver else ""
            return _blocked(
                f"an NVIDIA GPU ({what}) is here, but NVIDIA's driver is not loaded{given}",
                "on the host: sudo modprobe nvidia, then look at nvidia-smi; a container sees its host's GPUs: pass "
                "them with docker run --gpus all, or start it with AIM_HARDWARE=cpu",
            )
        notes.append(f"an NVIDIA GPU of a kind that is not known here ({what}) is present; {device.why_unused}")
    return Finding(source=NvmlDetector.name, reason="there is no NVIDIA GPU here", notes=tuple(notes))


def look(surroundings: Surroundings) -> Finding:
    """NVML's answer, whether there is a sign of a GPU or not."""
    from aim_engine.hardware.amd.ask import run_child  # here: most machines never come this far

    ending = run_child(surroundings.environment, surroundings.timeout_seconds, script=_CHILD)
    if ending.answer is not None:
        return read_answer(ending.answer, surroundings.environment)
    if ending.status is None:
        return _blocked(f"NVIDIA's driver did not answer within {surroundings.timeout_seconds:g} seconds",
                        "look at `dmesg | grep NVRM` on the host; AIM_DETECT_TIMEOUT waits longer")  # fmt: skip
    return _blocked(f"NVML failed with exit status {ending.status}: {ending.last_words}", "see what nvidia-smi says")


def read_answer(answer: Mapping[str, Any], environment: Mapping[str, str]) -> Finding:
    """The finding that the child's answer amounts to."""
    raw_gpus = answer.get("gpus")
    if not isinstance(raw_gpus, list):
        return _blocked(*_failure(answer))
    found = [_gpu(index, raw) for index, raw in enumerate(raw_gpus) if isinstance(raw, dict)]
    if not found:
        return _blocked("NVIDIA's driver is loaded, but shows no GPU", "start the container with docker run --gpus all")
    gpus, settings, notes = _visible(found, environment)
    return Finding(
        source=NvmlDetector.name,
        gpus=gpus,
        notes=notes,
        visibility=settings,
        driver_version=_word(answer.get("driver")),
        library_version=_word(answer.get("library")),
    )


def _failure(answer: Mapping[str, Any]) -> tuple[str, str]:
    code, kind, text = answer.get("code"), answer.get("type"), answer.get("text")
    if kind == "ModuleNotFoundError":
        return (
            "there are signs of an NVIDIA GPU, but Python's nvidia-ml-py package is not installed",
            "pip install nvidia-ml-py",
        )
    if isinstance(code, int) and code in _FAILURES:
        return _FAILURES[code]
    return f"NVML failed: {_word(text) or 'it does not say why'}", "see what nvidia-smi says here and on the host"


def _blocked(reason: str, hint: str) -> Finding:
    return Finding(source=NvmlDetector.name, reason=reason, hint=hint + _OR_ELSE, blocking=True)


def _gpu(index: int, raw: Mapping[str, Any]) -> Gpu:
    total = _number(raw.get("memory_bytes")) or 0
    free = _number(raw.get("memory_free_bytes"))
    minor, capability = _number(raw.get("minor")), raw.get("capability")
    known = (
        isinstance(capability, list) and len(capability) == 2 and all(_number(part) is not None for part in capability)
    )
    return Gpu(
        index=index,
        product=(_word(raw.get("name")) or "NVIDIA GPU").removeprefix("NVIDIA "),
        vendor=NvmlDetector.vendor,
        memory_bytes=total,
        memory_free_bytes=min(free, total) if free is not None else None,
        device_id=_word(raw.get("device_id")),
        gfx=f"sm_{capability[0]}{capability[1]}" if known and isinstance(capability, list) else None,
        pci_address=_address(raw.get("address")),
        uuid=_word(raw.get("uuid")),
        render_node=f"/dev/nvidia{minor}" if minor is not None else None,
        numa_node=_number(raw.get("numa_node")),
        holders=tuple(_holders(raw.get("holders"))),
        unusable=None if total else "the size of its memory is unknown",
    )


def _holders(raw: object) -> Iterator[Holder]:
    for one in raw if isinstance(raw, list) else ():
        pid, size = (
            (_number(one.get(key)) for key in ("pid", "memory_bytes")) if isinstance(one, dict) else (None, None)
        )
        if pid is not None and size is not None:
            yield Holder(pid=pid, name="", memory_bytes=size)


def _visible(
    gpus: list[Gpu], environment: Mapping[str, str]
) -> tuple[tuple[Gpu, ...], tuple[str, ...], tuple[str, ...]]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, numbered anew, then the hidden ones. CUDA stops at the first word that
    names none (CUDA C++ Programming Guide, "CUDA Environment Variables").
    """
    value = environment.get(_VISIBLE)
    if value is None:
        return tuple(gpus), (), ()
    # as it may be shown; CUDA stops at a word that could not be, as it names nothing
    setting = f"{_VISIBLE}={''.join(letter for letter in value if letter.isprintable())}"
    chosen = list[Gpu]()
    for word in (part.strip() for part in value.split(",")):
        named = _named(word, gpus)
        if named is None or named in chosen:
            break
        chosen.append(named)
    hidden = [replace(gpu, unusable=gpu.unusable or f"hidden by {setting}") for gpu in gpus if gpu not in chosen]
    numbered = tuple(replace(gpu, index=index) for index, gpu in enumerate([*chosen, *hidden]))
    # by default CUDA puts the fastest first, NVML counts by address
    alike = len({gpu.product for gpu in gpus}) == 1 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    doubt = (
        () if alike else (f"{_VISIBLE} counts the fastest GPUs first; CUDA_DEVICE_ORDER=PCI_BUS_ID makes it certain",)
    )
    return numbered, (setting,), doubt


def _named(word: str, gpus: list[Gpu]) -> Gpu | None:
    if re.fullmatch(r"[0-9]{1,4}", word, re.ASCII):
        return gpus[int(word)] if int(word) < len(gpus) else None
    by_uuid = [gpu for gpu in gpus if word.startswith("GPU-") and (gpu.uuid or "").startswith(word)]
    return by_uuid[0] if len(by_uuid) == 1 else None


def _address(value: object) -> str | None:
    """ "00000000:3B:00.0" as the kernel writes it: "0000:3b:00.0"."""
    word = (_word(value) or "").lower()
    return word[4:] if re.fullmatch(r"0000[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", word) else word or None


def _word(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return "".join(letter for letter in value if letter.isprintable()).strip() or None


def _number(value: object) -> int | None:
    most = 1 << 60  # NVML's "not available" is all ones
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None
