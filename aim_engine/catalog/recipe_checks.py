"""What no key of a recipe can tell alone: a parsed recipe file in, (key, sentence) pairs of contradictions out,
with the problem's kind as a third where it has one of its own.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from aim_engine.catalog.evidence_checks import unproved

_COUNT_KEY = re.compile(r"([1-9][0-9]?)_gpu")


Finding = tuple[str, str] | tuple[str, str, str]


def contradictions(parsed: dict[str, Any]) -> list[Finding]:
    """What each key alone cannot tell: (key, sentence), or (key, sentence, kind)."""
    flat = "config" in parsed or "backend" in parsed or "gpu_count" in parsed["hardware"]
    if "serve" not in parsed:
        return _flat_contradictions(parsed) if flat else [("vllm_serve", _NEEDS_A_FORM)]
    gpu_type = parsed["hardware"]["gpu_type"]
    found: list[Finding] = [*unproved("evidence", parsed.get("evidence", {}), gpu_type)]
    if flat:
        found.append(("config", "the flat form (backend, config) and the *_serve form cannot be mixed in one file"))
    if "optional" in parsed:
        found.append(("optional", "belongs under a GPU count in this form, for instance vllm_serve.1_gpu.optional"))
    if "env" in parsed:
        found.append(("env", "belongs under a GPU count in this form, for instance vllm_serve.1_gpu.env"))
    for backend, counts in parsed["serve"].items():
        if not counts:
            found.append((f"{backend}_serve", "is empty; it needs at least one GPU count such as 1_gpu"))
        wrong = [key for key in counts if not _COUNT_KEY.fullmatch(key)]
        found += [(f"{backend}_serve.{key}", "must be a GPU count such as 1_gpu or 8_gpu") for key in wrong]
        found += [
            (f"{backend}_serve.{key}.args", sentence)
            for key, variant in counts.items()
            if key not in wrong and (sentence := _wrong_split(variant.get("args", {}), int(key.removesuffix("_gpu"))))
        ]
        for key, variant in counts.items():
            found += unproved(f"{backend}_serve.{key}.evidence", variant.get("evidence", {}), gpu_type)
            found += _needless_options(f"{backend}_serve.{key}.optional", variant)
            found += _idle_switches(f"{backend}_serve.{key}.env", variant.get("env", {}))
    return found


def optional_names(variant: dict[str, Any]) -> list[str]:
    """What a variant says it can do without: options as its args have them, with dashes, and variables as they are."""
    env = variant.get("env", {})
    return [name if name in env else name.replace("_", "-") for name in variant.get("optional", [])]


def _needless_options(place: str, variant: dict[str, Any]) -> list[Finding]:
    """What is called optional must be there."""
    known = [*variant.get("args", {}), *variant.get("env", {})]
    found: list[Finding] = []
    for written, name in zip(variant.get("optional", []), optional_names(variant), strict=True):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append((place, f"{written} stands neither in args nor in env of this variant{hint}"))
    return found


_MASTER_SWITCH = "VLLM_ROCM_USE_AITER"


def _idle_switches(place: str, env: dict[str, str]) -> list[Finding]:
    """Switches that are on and do nothing: vLLM asks those of AITER's parts only where AITER itself is on."""
    on = ("1", "true")
    if env.get(_MASTER_SWITCH, "").lower() in on:
        return []
    return [
        (
            f"{place}.{name}",
            f'does nothing without {_MASTER_SWITCH}: "1"; set that too, or leave this out',
            "idle-switch",
        )
        for name, value in env.items()
        if name.startswith(f"{_MASTER_SWITCH}_") and value.lower() in on
    ]


_SPLITS = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")


def _wrong_split(args: dict[str, Any], gpu_count: int) -> str:
    """The parallel sizes, where a recipe gives any, are whole numbers that make up its GPU count."""
    given = {name: args[name] for name in _SPLITS if name in args}
    sizes = given.values()
    if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
        return f"{', '.join(given)} must be whole numbers of at least 1"
    if given and math.prod(sizes) != gpu_count:
        return f"{' x '.join(given)} is {math.prod(sizes)}, and the variant is for {gpu_count} GPUs"
    return ""


_NEEDS_A_FORM = "is missing: a recipe needs vllm_serve (or another backend's), or backend + config"


def _flat_contradictions(parsed: dict[str, Any]) -> list[Finding]:
    missing = [] if "gpu_count" in parsed["hardware"] else ["hardware.gpu_count"]
    missing += [] if "config" in parsed else ["config"]
    if not missing and (sentence := _wrong_split(parsed["config"], parsed["hardware"]["gpu_count"])):
        return [("config", sentence)]
    idle = _idle_switches("env", parsed.get("env", {}))
    idle += _needless_options("optional", {**parsed, "args": parsed.get("config", {})})
    lacking = unproved("evidence", parsed.get("evidence", {}), parsed["hardware"]["gpu_type"])
    return [*((key, "is missing: the flat form needs it") for key in missing), *lacking, *idle]
