"""Programs that are asked and misbehave: how much they may say, how long they may take, and what they leave behind."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest

from aim_engine.hardware.amd import ask as amd_ask
from aim_engine.hardware.amd.ask import Ending
from tests.hardware.conftest import has_ended

HERE = {"PATH": "/usr/bin:/bin"}


def timed(script: str, timeout_seconds: float = 20.0) -> tuple[Ending, float]:
    started = time.monotonic()
    ending = amd_ask.run(("sh", "-c", script), HERE, timeout_seconds)
    return ending, time.monotonic() - started


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("where", ["", " >&2"], ids=["stdout", "stderr"])
def test_a_program_that_never_stops_talking_is_ended(where: str) -> None:
    before = peak_bytes()
    ending, seconds = timed(f"exec yes{where}")
    assert seconds < 10
    assert (ending.status, ending.last_words) == (1, "it said more than 16 MiB")
    assert len(ending.output) <= (17 << 20 if not where else 0)
    assert peak_bytes() - before < 200 << 20


def test_an_answer_of_many_lines_does_not_fill_the_memory(tmp_path: Path) -> None:
    """amdsmi's binding that becomes `yes`: what is wrong is said in a sentence."""
    (tmp_path / "amdsmi.py").write_text("import os; os.dup2(3, 1); os.execvp('yes', ['yes'])")
    before = peak_bytes()
    answer = amd_ask.ask_raw({**HERE, "PYTHONPATH": str(tmp_path)}, 20)
    assert "cannot be read" in answer["reason"]
    assert peak_bytes() - before < 200 << 20


def test_the_time_limit_holds_for_one_that_talks_slowly() -> None:
    ending, seconds = timed("while :; do echo x; sleep 0.02; done", 0.5)
    assert (ending.status, seconds < 3) == (None, True)
    assert ending.output.startswith(b"x\nx\n")


def test_a_program_that_closes_its_pipes_and_stays_costs_the_time_limit() -> None:
    ending, seconds = timed("exec >&- 2>&-; sleep 60", 0.4)
    assert (ending.status, seconds < 3) == (None, True)


@pytest.mark.parametrize("leader", ["echo said; exit 3", "echo said; kill -9 $$"])
def test_what_a_program_leaves_behind_costs_nothing_and_is_ended(leader: str, tmp_path: Path) -> None:
    ending, seconds = timed(f"sleep 60 & echo $! > {tmp_path}/pid; {leader}")
    assert seconds < 3
    assert (ending.status, ending.output) == (3 if "exit" in leader else -9, b"said\n")
    assert has_ended((tmp_path / "pid").read_text().strip())


def test_all_of_an_answer_is_heard_that_comes_just_before_the_end() -> None:
    ending, _ = timed(f"{sys.executable} -c 'print(\"x\" * 5_000_000)'")
    assert (ending.status, len(ending.output)) == (0, 5_000_001)


def test_last_words_are_the_end_of_much_chatter_and_can_be_printed() -> None:
    ending, _ = timed("yes | head -c 1000000 >&2; printf 'alas \\033[2J\\007 no GPU\\n' >&2; exit 2")
    assert (ending.status, ending.last_words) == (2, "alas [2J no GPU")


def test_a_program_that_cannot_be_started() -> None:
    ending = amd_ask.run(("/nonexistent\x1b[2J",), HERE, 1)
    assert (ending.status, ending.last_words.isprintable()) == (1, True)
    assert ending.last_words.startswith("it did not start")
