"""relay.py and log.py: whatever an engine prints, the relay goes on, and as JSON every line is JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from aim_engine.runtime import relay as module
from aim_engine.runtime.log import wrap_line
from aim_engine.runtime.relay import Relay

ODD = [
    '{"time":' + "[" * 1100,
    '{"time":' * 1100,
    '{"time": NaN}',
    '{"time": -Infinity, "x": 1}',
    '{"time": 1} and more',
    '{"time": "a\tb"}',
    '{"time": ' + "1" * 5000 + "}",
]


def strictly(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_every_line_is_json(line: str) -> None:
    entry = strictly(wrap_line("engine", line))
    assert (entry["source"], entry["message"]) == ("engine", line)


Run = Callable[[bytes], bytes]


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """What a relay in JSON makes of an engine's output."""

    def through(data: bytes) -> bytes:
        (engine, engine_end), (programs, programs_end) = os.pipe(), os.pipe()
        relay = Relay(engine=engine, programs=programs, style="json")
        relay.start()
        os.write(engine_end, data)
        os.close(engine_end)
        os.close(programs_end)
        relay.join(5)
        assert not relay.is_alive()
        return capfdbinary.readouterr().out

    return through


def test_the_relay_survives_every_line(run: Run) -> None:
    lines = [line.encode("utf-8", "replace") for line in ODD]
    said = run(b"\n".join([*lines, b"\xff\xfe", b"the last"])).splitlines()
    assert len(said) == len(ODD) + 2
    assert [strictly(line.decode()) for line in said][-1]["message"] == "the last"


def test_a_line_that_cannot_be_wrapped_costs_only_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(source: str, text: str) -> str:
        if "odd" in text:
            raise RecursionError
        return wrap_line(source, text)

    monkeypatch.setattr(module, "wrap_line", wrap)
    said = [strictly(line) for line in run(b"one\nan odd one\nthree\n").decode().splitlines()]
    assert [entry["message"] for entry in said] == ["one", "an odd one", "three"]


def test_a_relay_whose_own_work_fails_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrap(self: Relay, source: int, data: bytes) -> bytes:
        if data == b"":
            return b"the end\n"
        raise MemoryError

    monkeypatch.setattr(Relay, "_wrap", wrap)
    assert run(b"lost\n") == b"the end\n"
