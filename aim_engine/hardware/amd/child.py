"""The child process that talks to amdsmi: nothing in; lines on stdout out, the library's values as they are.

Run as a script (`python -P child.py`), so it needs nothing of AIM Engine and judges nothing: answer.py does. A
crash or a hang in the library or the driver ends or stops this process only, and what was said before it is not lost:
a line "?CALL of GPU" comes before each question, the essential answers follow as one JSON object as soon as they are
complete, then one JSON object for each further answer, and "." when that was all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# What is asked of each GPU: our word for it, and the call. The newest and oldest bindings lack some of them.
QUESTIONS = (
    ("kfd", "amdsmi_get_gpu_kfd_info"),
    ("enumeration", "amdsmi_get_gpu_enumeration_info"),
    ("asic", "amdsmi_get_gpu_asic_info"),
    ("compute_partition", "amdsmi_get_gpu_compute_partition"),
    ("memory_partition", "amdsmi_get_gpu_memory_partition"),
    ("vram", "amdsmi_get_gpu_vram_info"),
    ("usage", "amdsmi_get_gpu_vram_usage"),
    ("uuid", "amdsmi_get_gpu_device_uuid"),
    ("numa_node", "amdsmi_topo_get_numa_node_number"),
)
MEMORY_QUESTIONS = (
    ("memory_total", "amdsmi_get_gpu_memory_total"),
    ("memory_used", "amdsmi_get_gpu_memory_usage"),
)
# What nobody needs for starting an engine may take this long in all. Then the kernel ends this process.
EXTRA_SECONDS = 2.0
MOST_PACKAGES_FOR_LINKS = 16  # the questions grow with the square: 120 pairs

Say = Callable[[str], None]


def main() -> NoReturn:
    """Answer on stdout. The library's own chatter goes to stderr: amdsmi prints when its library is missing."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    # from ROCm 10 on some calls are deprecated; PYTHONWARNINGS may make errors of that
    warnings.simplefilter("ignore")

    def say(line: str) -> None:
        rest = f"{line}\n".encode()
        while rest:
            rest = rest[os.write(answer_to, rest) :]

    say("")  # whatever start-up hooks printed before us ends here
    look(say)
    # Without amdsmi_shut_down and without the library's destructors: both have nothing to give back that the end of
    # the process does not, and a wedged driver could hang in them after the answer is complete.
    os._exit(0)


def look(say: Say) -> None:
    """Say `{"gpus": [...]}` and the extras, or the stage at which it failed with the exception's type, code, text."""
    stage = "import"
    try:
        amdsmi = import_amdsmi()
        stage = "init"
        say("?amdsmi_init")
        amdsmi.amdsmi_init()
        stage = "list"
        say("?amdsmi_get_processor_handles")
        handles = amdsmi.amdsmi_get_processor_handles()
        gpus = [essentials(amdsmi, handle, say) for handle in handles]
    except Exception as error:  # KeyError, AttributeError, OSError, ImportError and amdsmi's own all happen here
        say(as_json({"stage": stage, **describe(error)}))
        return
    say(as_json({"gpus": gpus, "asked_by": os.getpid()}))
    signal.setitimer(signal.ITIMER_REAL, EXTRA_SECONDS)
    extras(amdsmi, handles, gpus, say)
    say(".")


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


def essentials(amdsmi: Any, handle: Any, say: Say) -> dict[str, Any]:
    """What decides whether and how one GPU can be used; what it refuses is under "errors"."""
    found: dict[str, Any] = {}
    errors: dict[str, Any] = {}

    def ask(word: str, name: str, *arguments: Any) -> None:
        say(f"?{name} of {found.get('bdf', 'a GPU')}")
        try:
            found[word] = getattr(amdsmi, name)(handle, *arguments)
        except Exception as error:  # one refused question must not cost the others
            errors[word] = describe(error)

    ask("bdf", "amdsmi_get_gpu_device_bdf")
    for word, name in QUESTIONS:
        ask(word, name)
    if "compute_partition" in errors:  # ROCm 10 deprecates the getter in favour of this one
        ask("accelerator_partition", "amdsmi_get_gpu_accelerator_partition_profile")
    vram = getattr(getattr(amdsmi, "AmdSmiMemoryType", None), "VRAM", None)
    for word, name in MEMORY_QUESTIONS:
        ask(word, name, vram)
    return {**found, "errors": errors}


def extras(amdsmi: Any, handles: list[Any], gpus: list[dict[str, Any]], say: Say) -> None:
    """What is good to know, the most useful first. A refusal is silence."""
    addresses = [str(gpu.get("bdf", f"the GPU at place {place}")) for place, gpu in enumerate(gpus)]
    packages: dict[str, list[int]] = {}
    for place, address in enumerate(addresses):
        packages.setdefault(address.rpartition(".")[0] or address, []).append(place)

    def ask(word: str, name: str, *places: int) -> bool:
        say(f"?{name}" + (f" of {' and '.join(addresses[place] for place in places)}" if places else ""))
        try:
            value = getattr(amdsmi, name)(*(handles[place] for place in places))
        except Exception:
            return False
        say(as_json({"of": places, word: value}))
        return True

    ask("library", "amdsmi_get_lib_version")
    any(ask("driver", "amdsmi_get_gpu_driver_info", place) for place in range(len(handles)))
    # The partitions of a package share its links and its firmware, so one of them is asked for all.
    firsts = [places[0] for places in packages.values()]
    if len(firsts) <= MOST_PACKAGES_FOR_LINKS:
        pairs = [(one, other) for at, one in enumerate(firsts) for other in firsts[at + 1 :]]
        for pair in pairs:
            ask("link", "amdsmi_topo_get_link_type", *pair)
    for place in firsts:
        ask("vbios", "amdsmi_get_gpu_vbios_info", place)
    for place in range(len(handles)):
        ask("holders", "amdsmi_get_gpu_process_list", place)
    for place in firsts:
        ask("firmware", "amdsmi_get_fw_info", place)


def as_json(value: Any) -> str:
    """One line. Names of firmware are members of an IntEnum, which json would make numbers of."""
    return json.dumps(named(value), default=str)


def named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: named(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [named(inner) for inner in value]
    return value.name if isinstance(value, int) and hasattr(value, "name") else value


def describe(error: Exception) -> dict[str, Any]:
    code = getattr(error, "err_code", None)
    return {"type": type(error).__name__, "code": code if isinstance(code, int) else None, "text": str(error)[:500]}


if __name__ == "__main__":
    main()
