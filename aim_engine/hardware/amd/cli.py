"""AMD GPUs as the amd-smi program tells of them, where amdsmi cannot be asked: surroundings in, a `Finding` out.

The program brings its own Python and its own binding, so it may work where ours does not. Its JSON is turned into the
shape of amdsmi's answers and read by answer.py. It has not been run against a real amd-smi here: the shapes are
those of its source from ROCm 6.2 to 7.x and of outputs in public bug reports.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aim_engine.hardware.amd.detector import MOCK
from aim_engine.hardware.amd.signs import without_driver
from aim_engine.hardware.device_nodes import is_sign_of_gpu
from aim_engine.hardware.inventory import Finding, Surroundings

PROGRAM = "amd-smi"
# Each may be refused: the first form that works is taken. Older versions list no render nodes (-e), newer ones may
# lose an option of `static`; without any, that tells all it has.
_LIST = (("list", "-e", "--json"), ("list", "--json"))
_STATIC = (
    ("static", "--asic", "--vram", "--partition", "--numa", "--driver", "--json"),
    ("static", "--json"),
)
_METRIC = (("metric", "--mem-usage", "--json"),)
_MIB_IN = {"B": 2**-20, "KB": 2**-10, "KIB": 2**-10, "MB": 1, "MIB": 1, "GB": 2**10, "GIB": 2**10}

Forms = tuple[tuple[str, ...], ...]


class AmdSmiProgramDetector:
    """Runs amd-smi, if there is one. Costs next to nothing where there is no sign of an AMD GPU."""

    name = "amd-smi"
    vendor = "amd"

    def detect(self, surroundings: Surroundings) -> Finding:
        mocked = MOCK in surroundings.environment
        if not mocked and not is_sign_of_gpu(surroundings.root):
            return without_driver(self.name, surroundings.root)
        if not mocked and not surroundings.is_live:
            return Finding(source=self.name)  # a recorded host can be read, not asked
        import shutil  # here: a plan for declared hardware need not pay for it

        program = shutil.which(PROGRAM, path=surroundings.environment.get("PATH", ""))
        if program is None:
            return Finding(source=self.name, reason="there is no amd-smi program on the PATH", optional=True)
        return _ask(program, surroundings, mocked)


def _ask(program: str, surroundings: Surroundings, mocked: bool) -> Finding:
    from aim_engine.hardware import visibility  # here: most machines never come this far
    from aim_engine.hardware.amd.answer import read_answer
    from aim_engine.hardware.amd.failures import blocked

    questions = _Questions(program, surroundings)
    listed = _by_gpu(questions.first_answer(_LIST))
    if listed is None:
        return blocked(PROGRAM, f"amd-smi does not list the GPUs: {questions.trouble}", "see what `amd-smi list` says")
    static = _by_gpu(questions.first_answer(_STATIC))
    if listed and not static:  # what they are is unknown, and the next layer knows it
        return blocked(
            PROGRAM,
            f"amd-smi lists {len(listed)} GPUs and does not say what they are: {questions.trouble or 'no answer'}",
            "see what `amd-smi static` says",
        )
    static = static or {}
    metric = _by_gpu(questions.first_answer(_METRIC)) or {}
    raw = {
        "gpus": [_raw_gpu(entry, static.get(key, {}), metric.get(key, {})) for key, entry in listed.items()],
        "driver": {"driver_version": _part(next(iter(static.values()), {}), "driver").get("version")},
    }
    found = read_answer(raw, surroundings.root, check_nodes=not mocked, source=PROGRAM)
    return visibility.as_seen(found, surroundings.environment)


class _Questions:
    """Runs the program within one limit for all its runs, and keeps the last trouble in words."""

    def __init__(self, program: str, surroundings: Surroundings) -> None:
        self.program = program
        self.environment = surroundings.environment
        self.limit = surroundings.timeout_seconds
        self.deadline = time.monotonic() + self.limit
        self.trouble = ""

    def first_answer(self, forms: Forms) -> Any:
        """The JSON that the first form to succeed gives, or None."""
        from aim_engine.hardware.amd import ask

        for arguments in forms:
            left = self.deadline - time.monotonic()
            ending = ask.run((self.program, *arguments), self.environment, max(0.0, left))
            if ending.status is None:
                self.trouble = f"it did not answer within {self.limit:g} seconds; the AMD driver may be wedged"
                return None
            answer = _json(ending.output)
            if answer is not None:
                return answer
            words = f": {ending.last_words}" if ending.last_words else ""
            self.trouble = f"`amd-smi {' '.join(arguments)}` ended with status {ending.status}{words}"
        return None


def _json(output: bytes) -> Any:
    """What follows the warnings that some versions print before it (seen with Python 3.14)."""
    text = output.decode(errors="replace")
    import json  # here: most machines never come this far

    starts = [at for at in (text.find("\n" + bracket) for bracket in "{[") if at >= 0]
    body = text if text.lstrip()[:1] in ("{", "[") else text[min(starts, default=len(text)) :]
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _by_gpu(answer: Any) -> dict[object, Mapping[str, Any]] | None:
    """The entries by the program's own number of the GPU: a bare list up to ROCm 6, below "gpu_data" from 7 on."""
    entries = answer.get("gpu_data") if isinstance(answer, dict) else answer
    if not isinstance(entries, list):
        return None
    return {str(entry.get("gpu")): entry for entry in entries if isinstance(entry, dict) and "gpu" in entry}


def _raw_gpu(listed: Mapping[str, Any], static: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, Any]:
    """One GPU in the shape of amdsmi's answers; its words for the asic are amdsmi's own."""
    asic, modes, memory = _part(static, "asic"), _part(static, "partition"), _part(metric, "mem_usage")
    partition_id = modes.get("partition_id", listed.get("partition_id"))
    return {
        "bdf": listed.get("bdf"),
        "uuid": listed.get("uuid"),
        "kfd": {"node_id": _number(listed.get("node_id")), "current_partition_id": _number(partition_id)},
        "enumeration": {"drm_render": _number(str(listed.get("render")).removeprefix("renderD"))},
        "asic": {**asic, "num_compute_units": _number(asic.get("num_compute_units"))},
        "vram": {"vram_size": _mebibytes(_part(static, "vram").get("size"))},
        "usage": {
            "vram_total": _mebibytes(memory.get("total_vram")),
            "vram_used": _mebibytes(memory.get("used_vram")),
        },
        "compute_partition": modes.get("accelerator_partition", modes.get("compute_partition")),
        "memory_partition": modes.get("memory_partition"),
        "numa_node": _number(_part(static, "numa").get("node")),
    }


def _part(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _number(value: object) -> int | None:
    """304, "304" or {"value": 304}; "N/A" is None."""
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mebibytes(value: object) -> int | None:
    """{"value": 196592, "unit": "MB"}, or "196592 MB", or 196592: what the program calls MB are MiB."""
    unit: object = "MB"
    if isinstance(value, str):
        head, _, tail = value.partition(" ")
        value, unit = head, tail or unit
    elif isinstance(value, dict):
        unit = value.get("unit", unit)
    number = _number(value)
    factor = _MIB_IN.get(str(unit).upper())
    return int(number * factor) if number is not None and number < 2**60 and factor else None
