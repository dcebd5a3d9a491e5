"""Limits and log options that a Docker Engine would refuse, and those it takes."""

from __future__ import annotations

import pytest

from aim_engine.deploy.limits import check_log_options, check_memory
from aim_engine.deploy.spec import container_spec
from aim_engine.errors import InputError
from tests.deploy.planning import cpu_plan

GIB = 1024**3


@pytest.mark.parametrize(
    "limits", [(None, None), (6 * 1024**2, None), (GIB, GIB), (GIB, 2 * GIB), (GIB, -1), (None, -1)]
)
def test_limits_that_docker_takes(limits: tuple[int | None, int | None]) -> None:
    check_memory(*limits)


@pytest.mark.parametrize(
    ("memory", "swap", "flag"),
    [
        (4 * 1024**2, None, "--memory:"),
        (-5, None, "--memory:"),
        (6 * GIB, GIB, "--memory-swap:"),
        (None, GIB, "--memory-swap:"),
    ],
)
def test_limits_that_docker_refuses(memory: int | None, swap: int | None, flag: str) -> None:
    with pytest.raises(InputError, match=flag) as caught:
        check_memory(memory, swap)
    assert caught.value.hint


def test_swap_is_held_against_the_memory_that_the_plan_asks_for() -> None:
    with pytest.raises(InputError, match="--memory-swap"):
        container_spec(cpu_plan(), memory_swap_bytes=GIB)


@pytest.mark.parametrize(
    "options",
    [{}, {"max-size": "50m", "max-file": "3"}, {"max-size": "1.5GiB"}, {"compress": "true", "tag": "a b"},
     {"mode": "non-blocking", "max-buffer-size": "4m"}, {"labels": "a,b", "env-regex": "^X"}],
)  # fmt: skip
def test_log_options_that_docker_takes(options: dict[str, str]) -> None:
    check_log_options(options)


@pytest.mark.parametrize(
    "options",
    [{"max-size": "banana"}, {"max-size": "0"}, {"max-size": "-1"}, {"max-file": "0"}, {"max-file": "x"}, {"foo": "x"},
     {"compress": "maybe"}, {"mode": "quick"}, {"max-buffer-size": "4m"}],
)  # fmt: skip
def test_log_options_that_docker_refuses(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match=f"--log-opt {next(iter(options))}") as caught:
        check_log_options(options)
    assert caught.value.hint
