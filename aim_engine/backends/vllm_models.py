"""Whether vLLM can load a model at all: its class names, its quantisation the options in, what speaks against it out.

What each version has is data in vllm_models.json, which scripts/engine_models.py reads from the published wheels; of a
version newer than all of these nothing is claimed. Reads no checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.backends.base import Loading
from aim_engine.backends.vllm_platforms import PLATFORMS
from aim_engine.backends.vllm_versions import Version, parse_version
from aim_engine.errors import AimError, EngineRefusedError, InputError
from aim_engine.hardware.installed import Engine

_ON = {"rocm": "AMD GPUs", "cpu": "the CPU"}
_TRUST = 'read that code first, then set AIM_ENGINE_ARGS={"trust-remote-code": true}'
# Options with which somebody has said what is to be loaded, and how.
_OWN_CHOICES = ("hf-overrides", "model-impl", "config-format", "load-format")


@cache
def _known() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("vllm_models.json").read_bytes())
    return data


def refused_format(method: str, vendor: str, engine: Engine | None) -> str:
    """Why the engine does not load weights stored so on that vendor's devices, or ""."""
    platform = next((one.name for one in PLATFORMS if vendor in one.runs_on), "")
    table: Mapping[str, Any] | None = _known()["formats"].get(platform)
    version = parse_version(engine.version if engine else None)
    if not method or table is None or not _lacks(table.get(method), version):
        return ""
    sentence = f"the checkpoint is stored as {method}, which {_called(engine)} does not load on {_ON[platform]}"
    span = table.get(method)
    return f"{sentence} (vllm {' to '.join(span)} did)" if span else sentence


def objection(model: Loading, options: Mapping[str, Any], engine: Engine | None) -> AimError | None:
    """Why the engine will not load the model, where that is certain; None where it may."""
    version = parse_version(engine.version if engine else None)
    if _beyond(version) or any(options.get(name) not in (None, "auto") for name in _OWN_CHOICES):
        return None
    if model.brings_code and options.get("trust-remote-code") is not True and _needs_code(model, version):
        which = " ".join(filter(None, (model.architectures or (model.family,))[:1]))
        return InputError(
            f"{model.name} needs code of its own ({which}; auto_map in its config.json): {_called(engine)} has none "
            "for it, and does not run a checkpoint's code unless told to",
            hint=_TRUST,
        )
    if _span_of(_known()["deprecated"], model.quantization, version) and (
        options.get("allow-deprecated-quantization") is not True
    ):
        return EngineRefusedError(
            f"{model.name} is stored as {model.quantization}, which {_called(engine)} loads only where it is told to",
            hint='set AIM_ENGINE_ARGS={"allow-deprecated-quantization": true}, or take another checkpoint of it',
        )
    if engine is None or model.brings_code or not _has_no_class(model, version) or _in_transformers(model):
        return None
    return EngineRefusedError(
        f"{_called(engine)} has no class for {model.name} ({', '.join(model.architectures)})",
        hint=f"{_other_version(model)}; AIM_FORCE=1 tries it all the same",
    )


def doubts(model: Loading, options: Mapping[str, Any], engine: Engine | None) -> Iterator[str]:
    """What a person should know of how the engine will load the model."""
    version = parse_version(engine.version if engine else None)
    if _beyond(version) or any(options.get(name) not in (None, "auto") for name in _OWN_CHOICES):
        return
    if not _has_no_class(model, version) or (model.brings_code and options.get("trust-remote-code") is True):
        return
    named = f"{_called(engine)} has no class of its own for {model.name} ({', '.join(model.architectures)})"
    if _in_transformers(model):
        yield f"{named}: it is run by transformers' code, more slowly, or refused where that does not fit the engine"
    elif engine is None:
        yield f"{named}: {_other_version(model)}"


def _needs_code(model: Loading, version: Version | None) -> bool:
    """Whether neither vLLM nor transformers has a class for it, or neither reads its kind of config."""
    if _has_no_class(model, version) and not _in_transformers(model):
        return True
    unread = _lacks(_known()["configs"].get(model.family), version)
    return bool(model.family) and unread and model.family not in _known()["transformers"]["configs"]


def _has_no_class(model: Loading, version: Version | None) -> bool:
    table = _known()["architectures"]
    return bool(model.architectures) and all(_lacks(table.get(name), version) for name in model.architectures)


def _in_transformers(model: Loading) -> bool:
    return any(name in _known()["transformers"]["architectures"] for name in model.architectures)


def _other_version(model: Loading) -> str:
    """Which version has it, as far as that is known."""
    spans = filter(None, (_known()["architectures"].get(name) for name in model.architectures))
    first, last = next(spans, ("", ""))
    if not first:
        return "take an image with a newer vllm, or another model"
    return f"take an image with vllm {first}" + (f" to {last}" if last != _known()["grid"][-1] else " or newer")


def _called(engine: Engine | None) -> str:
    if engine is not None:
        return f"{engine.distribution} {engine.version}"
    return f"vllm {_known()['grid'][-1]} (the newest that is known here)"


def _beyond(version: Version | None) -> bool:
    """Whether nothing is known of that version: newer than all of the grid, or older."""
    grid = [parse_version(text) for text in _known()["grid"]]
    return version is not None and not grid[0] <= version <= grid[-1]  # type: ignore[operator]


def _span_of(table: Mapping[str, Any], name: str, version: Version | None) -> bool:
    return name in table and not _lacks(table[name], version)


def _lacks(span: tuple[str, str] | None, version: Version | None) -> bool:
    """Whether that version certainly has nothing of that span: neither have its neighbours in the grid."""
    grid: list[Any] = [parse_version(text) for text in _known()["grid"]]
    asked = version or grid[-1]
    if _beyond(version):
        return False
    if span is None:
        return True
    around = (max(one for one in grid if one <= asked), min(one for one in grid if one >= asked))
    first, last = (parse_version(text) for text in span)
    return all(not first <= one <= last for one in around)
