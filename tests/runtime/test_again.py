"""again.py: a start that would be one too many."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from aim_engine.errors import AimError, EngineCrashedError, EngineHungError, EngineRefusedError, ModelAccessError
from aim_engine.runtime import state as files
from aim_engine.runtime.again import ended_for_good
from aim_engine.runtime.state import State

COMMAND: dict[str, Any] = {"argv": ("vllm", "serve", "a/b"), "env": {"A": "1"}, "urls": {}}
REFUSED = EngineRefusedError("the engine refused it: nope", hint="correct it", details=("a line",))


def ended(folder: Path, error: AimError, *, seconds_ago: float, command: dict[str, Any] | None = None) -> State:
    state = State(str(folder))
    state.write(files.PLAN, {"command": command or COMMAND, "runtime": {}})
    state.write(files.WORDS, error.as_json())
    at = time.time() - seconds_ago
    os.utime(state.path(files.WORDS), (at, at))
    return state


@pytest.mark.parametrize("error", [REFUSED, ModelAccessError("gated", hint="ask for it")])
def test_what_ended_for_good_a_moment_ago_ends_so_again(tmp_path: Path, error: AimError) -> None:
    found = ended_for_good(COMMAND, ended(tmp_path, error, seconds_ago=4), time.time())
    assert found is not None
    assert (type(found), found.message, found.hint) == (type(error), error.message, error.hint)
    assert found.details[:-1] == error.details
    assert "the same command ended like this 4 s ago" in found.details[-1]


@pytest.mark.parametrize("error", [EngineCrashedError("it crashed"), EngineHungError("it hung")])
def test_what_may_pass_is_tried_again(tmp_path: Path, error: AimError) -> None:
    assert ended_for_good(COMMAND, ended(tmp_path, error, seconds_ago=4), time.time()) is None


@pytest.mark.parametrize("seconds", [31.0, 4000.0, -5.0])
def test_later_somebody_may_have_mended_it_and_a_clock_may_jump(tmp_path: Path, seconds: float) -> None:
    assert ended_for_good(COMMAND, ended(tmp_path, REFUSED, seconds_ago=seconds), time.time()) is None


def test_another_command_is_tried(tmp_path: Path) -> None:
    other = {**COMMAND, "argv": ("vllm", "serve", "a/c")}
    assert ended_for_good(COMMAND, ended(tmp_path, REFUSED, seconds_ago=4, command=other), time.time()) is None


@pytest.mark.parametrize("words", [None, [], {"code": "50"}, {"code": 50}, {"code": 0, "retryable": False}])
def test_without_words_that_say_so_it_is_tried(tmp_path: Path, words: Any) -> None:
    state = State(str(tmp_path))
    state.write(files.PLAN, {"command": COMMAND})
    if words is not None:
        state.write(files.WORDS, words)
    assert ended_for_good(COMMAND, state, time.time()) is None
    state.remove(files.PLAN)
    assert ended_for_good(COMMAND, state, time.time()) is None
