"""The steps of a long command: lines where nobody looks at a terminal, one line that changes where somebody does."""

from __future__ import annotations

import io
import re
import sys
import time
from contextlib import suppress

import pytest

from aim_engine.cli.steps import Steps
from aim_engine.cli.terminal import Terminal

GIB = 2**30


class Screen(io.TextIOWrapper):
    """A terminal that remembers all that was written to it."""

    def __init__(self, encoding: str = "utf-8", *, tty: bool = True) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


def shown(monkeypatch: pytest.MonkeyPatch, screen: Screen, **environment: str) -> Steps:
    monkeypatch.setattr(sys, "stderr", screen)
    return Steps(Terminal(environment))


def play(steps: Steps) -> None:
    steps.begin("image")
    for done in (0, 0, 1, 2):
        steps.progress(done * GIB, 4 * GIB, f"{done} of 4 layers")
    steps.end("it was pulled")


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(tty=False)
    with shown(monkeypatch, screen) as steps:
        play(steps)
    lines = screen.text.splitlines()
    assert lines[:2] == ["  image    0 of 4 layers, 0.00 of 4.00 GiB", "  image    1 of 4 layers, 1.00 of 4.00 GiB"]
    assert re.fullmatch(r"✓ image    it was pulled \(\d\.\d s\)", lines[-1])
    assert len(lines) == 4
    assert "\x1b" not in screen.text


def test_one_line_that_changes_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.cli.steps._REDRAW_SECONDS", 0)
    screen = Screen()
    with shown(monkeypatch, screen, TERM="xterm") as steps:
        play(steps)
    assert screen.text.count("\n") == 1
    assert "━━━━━━━━━━━━············  50%, 2.00 of 4.00 GiB 2 of 4 layers" in screen.text
    assert "\r\x1b[K\x1b[32m✓\x1b[0m image    it was pulled" in screen.text


def test_no_color_and_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.cli.steps._REDRAW_SECONDS", 0)
    screen = Screen("ascii")
    with shown(monkeypatch, screen, TERM="xterm", NO_COLOR="1") as steps:
        play(steps)
    assert "############............  50%" in screen.text
    assert "+ image" in screen.text
    assert "\x1b[32m" not in screen.text


def test_a_terminal_that_can_only_print(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    with shown(monkeypatch, screen, TERM="dumb") as steps:
        play(steps)
    assert "\x1b" not in screen.text
    assert "\r" not in screen.text


def test_what_fails_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(tty=False)
    with suppress(ValueError), shown(monkeypatch, screen) as steps:
        steps.begin("plan")
        raise ValueError
    assert re.fullmatch(r"✗ plan     \(\d\.\d s\)\n", screen.text)


def test_a_failure_between_two_steps_marks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(tty=False)
    with suppress(ValueError), shown(monkeypatch, screen) as steps:
        steps.begin("plan")
        steps.end("well")
        raise ValueError
    assert "✗" not in screen.text


def test_the_seconds_go_on_where_nothing_new_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aim_engine.cli.steps._TICK_SECONDS", 0.01)
    screen = Screen()
    with shown(monkeypatch, screen, TERM="xterm") as steps:
        steps.begin("ready")
        steps.progress(0, 0, "loading")
        deadline = time.monotonic() + 5
        while screen.text.count("loading") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert screen.text.count("loading") >= 3


class Closed(Screen):
    """A terminal that was closed under us, as the system says it."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_was_closed_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(monkeypatch, Closed()) as steps:
        play(steps)
