"""scripts/serving.py: a server that is started is ended in order, and what it leaves behind is found. Each test runs
in a process of its own, because ending leftovers means every descendant of the process that asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, *arguments: object) -> str:
    """A program that may import serving; what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


START = """
import os, pathlib, sys, time, serving
log = pathlib.Path(sys.argv[1])
server = serving.start([sys.executable, "-c", sys.argv[2]], log=log)
while "up" not in log.read_text():
    time.sleep(0.02)
"""

ORDERLY = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); signal.pause()"
DEAF_CHILD = """
import subprocess, sys
deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True).wait()
"""


def test_an_orderly_server_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    assert run(START + "print(server.stop(), server.end_leftovers())", tmp_path / "log", ORDERLY) == "0 []\n"


def test_a_process_left_behind_is_found_and_ended(tmp_path: Path) -> None:
    program = (
        START + "server.stop(); print(len(server.end_leftovers())); time.sleep(0.3); print(server.end_leftovers())"
    )
    assert run(program, tmp_path / "log", DEAF_CHILD) == "1\n[]\n"


def test_a_server_does_not_outlive_its_parent(tmp_path: Path) -> None:
    pid = int(run(START + "print(server.process.pid, flush=True); os._exit(0)", tmp_path / "log", ORDERLY))
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_the_last_words_are_found_among_other_lines(tmp_path: Path) -> None:
    words = '{"class": "NoRecipe", "code": 30, "message": "no recipe", "hint": "add one"}'
    server = f"import signal; print('starting'); print('''{words}'''); print('up', flush=True); signal.pause()"
    assert run(START + "server.stop(); print(server.last_words()['hint'])", tmp_path / "log", server) == "add one\n"


def test_ports_are_free_and_different() -> None:
    program = "import serving; ports = serving.free_ports(5); print(len(set(ports)), any(map(serving.is_open, ports)))"
    assert run(program) == "5 False\n"
