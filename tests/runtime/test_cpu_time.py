"""cpu_time.py: which processes' CPU time is an engine's work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aim_engine.runtime.cpu_time import CpuTime, members, ticks_of
from aim_engine.runtime.processes import look

SPIN = "while True: pass"
REST = "import time; time.sleep(60)"
# the server, the head of its group, with one child for each program
SERVER = """
import subprocess, sys, time
children = [subprocess.Popen([sys.argv[1], "-I", "-S", "-c", program]) for program in sys.argv[2:]]
print(*(child.pid for child in children), flush=True)
{own}
"""


@contextmanager
def server(*programs: str, own: str = REST, interpreter: str = sys.executable) -> Iterator[tuple[int, list[int]]]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SERVER.format(own=own), interpreter, *programs],
                          stdout=subprocess.PIPE, start_new_session=True) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.pid, [int(word) for word in process.stdout.readline().split()]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def worked(pid: int, *, on_host: bool, seconds: float = 0.4) -> float:
    clock = CpuTime(on_host=on_host)
    before = clock.seconds(pid).engine
    time.sleep(seconds)
    return clock.seconds(pid).engine - before


def test_the_members_of_a_group() -> None:
    with server(REST) as (pid, (child,)):
        assert {member.identity.pid for member in members(pid)} == {pid, child}


def test_on_a_host_every_child_s_time_is_work() -> None:
    with server(SPIN) as (pid, _):
        assert worked(pid, on_host=True) > 0.04
        assert worked(pid, on_host=False) == 0


def test_the_server_s_own_time_is_none() -> None:
    with server(REST, own=SPIN) as (pid, _):
        assert worked(pid, on_host=True) < 0.04


def test_beside_a_gpu_a_compiler_s_time_is_work(tmp_path: Path) -> None:
    program = tmp_path / "clang-20"  # as the kernel names a process: by its file
    shutil.copy(Path(sys.executable).resolve(), program)
    try:
        with server("", interpreter=str(program)):
            pass
    except OSError:
        pytest.skip("this interpreter does not run as a copy")
    with server(SPIN, interpreter=str(program)) as (pid, _):
        assert worked(pid, on_host=False) > 0.04


def test_while_one_is_stopped_nobody_works() -> None:
    """As another worker spins that waits for the one that was stopped."""
    with server(SPIN, REST) as (pid, (_, stopped)):
        os.kill(stopped, signal.SIGSTOP)
        while (found := look(stopped)) is not None and found.state != "T":
            time.sleep(0.005)
        assert worked(pid, on_host=True) == 0
        os.kill(stopped, signal.SIGCONT)


def test_after_a_rest_the_time_before_does_not_count() -> None:
    with server(SPIN) as (pid, _):
        clock = CpuTime(on_host=True)
        before = clock.seconds(pid)
        clock.forget()
        time.sleep(0.2)
        assert clock.seconds(pid) == before


def test_what_one_process_has_computed() -> None:
    with server(SPIN) as (pid, (child,)):
        before, still = ticks_of(child), ticks_of(pid)
        time.sleep(0.3)
        assert ticks_of(child) > before
        assert ticks_of(pid) <= still + 1
    assert ticks_of(2**22 + 1) == 0


def test_a_front_end_s_time_is_told_apart() -> None:
    """The head of the group is one, too."""
    with server(SPIN, REST, own="while True: pass") as (pid, (front, _)):
        clock = CpuTime(on_host=True)
        clock.seconds(pid, [front])
        time.sleep(0.4)
        found = clock.seconds(pid, [front])
        assert found.engine < 0.04
        assert found.front_ends > 0.04
