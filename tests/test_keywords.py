"""Keywords of a program: every setting by its field's name, in Python's own values, checked as its flag is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.launch_job import Wishes
from aim_engine.errors import AimError, InputError
from aim_engine.keywords import launch_keywords, request_of, wishes_of
from aim_engine.values import PortRange
from tests.building import MODEL
from tests.test_request import VALUES


def test_every_setting_is_a_keyword() -> None:
    """With the text that the request's own tests give it, and with the value that this text means."""
    for name, (text, value, _) in VALUES.items():
        for given in (text, value):
            found = request_of({name: given}, {})
            assert getattr(found, name) == value, name
            assert found.origins[name] == "keyword"


def test_none_is_not_given_and_the_environment_holds() -> None:
    found = request_of({"model": MODEL, "precision": None}, {"AIM_PRECISION": "fp8"})
    assert (found.precision, found.origins["precision"]) == ("fp8", "environment")


def test_a_keyword_wins_over_the_environment() -> None:
    assert request_of({"gpu_count": 2}, {"AIM_GPU_COUNT": "4"}).gpu_count == 2


def test_a_secret_stands_where_the_engine_finds_it_and_nowhere_else() -> None:
    environment = {"AIM_API_KEY": "old", "VLLM_API_KEY": "older", "AIM_API_KEY_FILE": "/nowhere", "HF_TOKEN": "t"}
    found = request_of({"api_key": "new"}, environment)
    assert found.api_key == "new"
    assert {name: found.environment.get(name) for name in environment} == {
        "AIM_API_KEY": "new", "VLLM_API_KEY": None, "AIM_API_KEY_FILE": None, "HF_TOKEN": "t"
    }  # fmt: skip
    assert "new" not in repr(found)


@pytest.mark.parametrize(
    ("keywords", "sentence", "hint"),
    [
        ({"gpu_cuont": 4}, "gpu_cuont is not a keyword", "did you mean gpu_count?"),
        ({"imgae": "x"}, "imgae is not a keyword", "did you mean image?"),
        ({"qqqq": 4}, "qqqq is not a keyword", "aim-engine settings"),
        ({"gpu_count": 0}, "gpu_count: '0' is not legal", "whole number from 1"),
        ({"gpu_count": True}, "gpu_count: True is not legal", "auto or 1-64"),
        ({"precision": "fp99"}, "precision: 'fp99' is not legal", "use one of"),
        ({"offline": "maybe"}, "offline: 'maybe'", "use 1 or 0"),
        ({"engine_args": {"seed": object()}}, "engine_args: .* is not legal", "JSON"),
        ({"engine_args": {1: 2}}, "engine_args", ""),
        ({"api_key": "sécret"}, "api_key: its value is not legal", "ASCII"),
        ({"port": 8000, "health_port": 8000}, "are both 8000", "a port of its own"),
    ],
)
def test_what_is_refused(keywords: dict[str, Any], sentence: str, hint: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        request_of(keywords, {}, also=launch_keywords())
    assert hint in caught.value.hint


def test_a_bool_is_a_switch_and_no_number() -> None:
    assert request_of({"offline": True, "fallback": False}, {}).fallback is False
    assert request_of({"port_range": PortRange(first=1, last=2)}, {}).port_range == PortRange(first=1, last=2)


def test_every_wish_is_a_keyword() -> None:
    assert len(launch_keywords()) == len(fields(Wishes))
    wishes, rest = wishes_of({
        "image": "r.example.com/x:1", "name": "mine", "memory_bytes": 1 << 30, "env": {"A": "1"}, "timeout": 5,
        "keep": True, "wait": False, "network": None, "max_model_len": 4096,
    })  # fmt: skip
    assert rest == {"max_model_len": 4096}
    assert wishes == Wishes(image="r.example.com/x:1", name="mine", memory_bytes=1 << 30, extra={"A": "1"}, wait=False,
                            timeout_seconds=5, keep=True)  # fmt: skip


@pytest.mark.parametrize(
    "keywords",
    [
        {"memory_bytes": "64g"}, {"shm_bytes": True}, {"image": 3}, {"image": "-v"}, {"name": "a b"}, {"timeout": 0},
        {"timeout": "soon"}, {"env": {"A": 1}}, {"env": ["A=1"]}, {"env": {"AIM_PORT": "1"}}, {"log_options": {"a": 1}},
        {"replicas": 0},
        {"device_mode": "magic"}, {"restart": "sometimes"}, {"network": "none"}, {"user": "root"},
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_used(keywords: dict[str, Any]) -> None:
    with pytest.raises(AimError) as caught:
        wishes_of(keywords)
    assert caught.value.code == 10
    assert caught.value.hint


def test_a_path_is_a_path() -> None:
    assert request_of({"cache_dir": Path("/data")}, {}).cache_dir == Path("/data")
