"""Names in a cluster: made of any model, or typed and refused."""

from __future__ import annotations

import re

import pytest

from aim_engine.deploy.kubernetes.names import (
    checked_name,
    checked_namespace,
    checked_reference,
    checked_variable,
    cluster_name,
)
from aim_engine.errors import InputError
from tests.deploy.planning import cpu_plan, planned

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)  # RFC 1035


@pytest.mark.parametrize(
    "model", ["a/b", "Qwen/Qwen3-32B", "Org.X/" + "Long-name_" * 8, "/models/模型", "/models/$(id)", "/models/-", "1/2"]
)
def test_a_name_made_of_a_model_is_a_service_s(model: str) -> None:
    name = cluster_name(cpu_plan(model=model))
    assert LABEL.fullmatch(name)
    assert len(name) <= 50


def test_two_long_names_stay_two() -> None:
    assert cluster_name(cpu_plan(model=f"/models/{'x' * 80}a")) != cluster_name(cpu_plan(model=f"/models/{'x' * 80}b"))


def test_the_name_says_what_is_served() -> None:
    assert cluster_name(planned(gpu_count="4")) == "aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm"


@pytest.mark.parametrize("name", ["on", "a", "no", "x" * 50, "a-1"])
def test_names_that_do(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a-", "a.b", "a_b", "x" * 51, "é", "a\n", "a b", "1e3", "0x1"])
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        checked_name(name)


@pytest.mark.parametrize("name", ["1", "on", "1e3", "0x1", "x" * 63])
def test_namespaces_that_do(name: str) -> None:
    assert checked_namespace(name) == name


@pytest.mark.parametrize("name", ["", "A", "a.b", "-", "x" * 64, "a\n"])
def test_namespaces_that_do_not(name: str) -> None:
    with pytest.raises(InputError, match="--namespace"):
        checked_namespace(name)


def test_references() -> None:
    assert checked_reference("--secret", "a.b-c.1") == "a.b-c.1"
    for name in ("", "a..b", "A", "a/b", "x" * 254, "$(id)"):
        with pytest.raises(InputError, match="--secret"):
            checked_reference("--secret", name)


def test_variables() -> None:
    assert checked_variable("A.b-c_1") == "A.b-c_1"
    for name in ("1A", "A B", "é", ""):
        with pytest.raises(InputError, match="--env"):
            checked_variable(name)
