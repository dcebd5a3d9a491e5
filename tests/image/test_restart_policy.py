"""Docker's restart policy on real containers: it knows no failure from another, the container does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.image.conftest import Start, serving
from tests.image.containers import Container

pytestmark = pytest.mark.image

RESTARTS = 2


def until_given_up(container: Container, seconds: float = 150) -> None:
    """`docker wait` returns at the first end, restarted or not."""
    deadline = time.monotonic() + seconds
    while container.inspect(".RestartCount") < RESTARTS or container.is_running:
        assert time.monotonic() < deadline, container.logs()[-3000:]
        time.sleep(0.5)


def test_a_permanent_failure_is_started_once(start: Start, tiny: Path) -> None:
    refused = json.dumps({"quantization": "nope"})
    container = start(
        options=serving(tiny, "--restart", f"on-failure:{RESTARTS}", "--env", f"AIM_ENGINE_ARGS={refused}")
    )
    until_given_up(container)
    assert container.inspect(".State.ExitCode") == 50
    log = container.logs()
    assert log.count("nothing was started: the same command ended like this") >= RESTARTS
    ends = [json.loads(line) for line in log.splitlines() if line.startswith('{"class"')]
    assert [(one["class"], one["code"]) for one in ends] == [("EngineRefused", 50)] * (RESTARTS + 1)
    assert len({one["message"] for one in ends}) == 1
    assert "Must be one of ['" in ends[0]["message"]
