"""What is said to be refused, the real engine refuses, and in the way that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends.base import Loading
from aim_engine.backends.vllm_models import objection, refused_format
from scripts.memory_agrees import ask
from tests.building import CPU_ENGINE, TINY_CONFIG

pytestmark = pytest.mark.engine

OWN = {"architectures": ["OwnForCausalLM"], "model_type": "own"}
AUTO_MAP = {"auto_map": {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.Own"}}
CASES: tuple[tuple[dict[str, Any], bool, str], ...] = (
    ({}, False, ""),
    (AUTO_MAP, True, ""),
    ({"architectures": ["MptForCausalLM"]}, False, "not supported anymore"),
    (OWN | AUTO_MAP, True, "trust_remote_code"),
    ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, False, "quantization method"),
)


def test_it_refuses_what_is_said_and_loads_the_rest(whole_distribution: Path) -> None:
    models = [{"name": "it", "config": {**TINY_CONFIG, **changes}, "tensor_parallel_sizes": [1], "tiny": True,
               "kv_bytes": 64 * 1024**2, "max_model_len": 1000} for changes, _, _ in CASES]  # fmt: skip
    for (changes, brings_code, said), answer in zip(CASES, ask(models), strict=True):
        config = {**TINY_CONFIG, **changes}
        model = Loading(name="it", architectures=tuple(config["architectures"]), family=config["model_type"],
                        brings_code=brings_code)  # fmt: skip
        method = config.get("quantization_config", {}).get("quant_method", "")
        refused = objection(model, {}, CPU_ENGINE) or refused_format(method, "cpu", CPU_ENGINE)
        assert bool(refused) is bool(said) is ("error" in answer), (changes, answer, refused)
        assert said in answer.get("error", ""), answer
