"""scripts/demo.py for real: the tiny model is planned for, served by the real vLLM, asked and stopped again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.engine


def start_demo(*arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIM_", "VLLM_"))}
    return subprocess.Popen(
        [sys.executable, ROOT / "scripts" / "demo.py", *arguments],
        env={**environment, "AIM_CACHE_DIR": str(ROOT / ".demo" / "cache"), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_question_is_answered_and_nothing_is_left() -> None:
    with start_demo() as demo:
        said, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, said
    for expected in ("1 model", "2 plan", "Why this one", "3 serve", "ready after", "/health/ready 200", "4 ask",
                     "answer    '", "noise, because the weights are random", "5 stop   exit code 0"):  # fmt: skip
        assert expected in said
    assert "\x1b" not in said


def test_an_interrupt_while_it_starts_leaves_nothing() -> None:
    with start_demo() as demo:
        assert demo.stdout is not None
        said = ""
        while "  pid " not in said:
            line = demo.stdout.readline()
            assert line, said
            said += line
        server = int(said.rpartition("  pid ")[2].split(",")[0])
        time.sleep(1)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, rest
    assert "nothing is left running" in rest
    assert not Path(f"/proc/{server}").exists()


def test_a_model_that_is_not_there_ends_with_the_plans_exit_code(tmp_path: Path) -> None:
    with start_demo(str(tmp_path)) as demo:
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 40, said
    assert "there is no plan" in said
