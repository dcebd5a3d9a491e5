"""work.py on real processes: one that waits, one that reckons, one that reads."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aim_engine.runtime.processes import Identity
from aim_engine.runtime.work import Work, is_work, work_of

WAITS = "import time; print(flush=True); time.sleep(60)"
POLLS = "import time; print(flush=True)\nwhile True: time.sleep(0.1)"
RECKONS = "print(flush=True)\nwhile True: pass"
READS = "import sys, time; print(flush=True)\nwhile True: open(sys.argv[1], 'rb').read(); time.sleep(0.3)"
CHILD_RECKONS = f"import os, time\nif os.fork() == 0:\n    exec({RECKONS!r})\ntime.sleep(60)"


@contextmanager
def group(program: str, *arguments: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", program, *arguments], stdout=subprocess.PIPE,
                          start_new_session=True) as process:  # fmt: skip
        try:
            assert process.stdout
            process.stdout.readline()
            yield process.pid
        finally:
            subprocess.run(["kill", "-KILL", "--", f"-{process.pid}"], check=True)


def works(pid: int, *, seconds: float = 2.0, without_leader: bool = False) -> bool:
    before, at = work_of(pid, without_leader=without_leader), time.monotonic()
    time.sleep(seconds)
    return is_work(before, work_of(pid, without_leader=without_leader), time.monotonic() - at)


def test_a_process_that_waits_does_not_work() -> None:
    with group(WAITS) as pid:
        assert not works(pid)
    with group(POLLS) as pid:
        assert not works(pid)


def test_a_process_that_reckons_works() -> None:
    with group(RECKONS) as pid:
        assert works(pid)
        assert not works(pid, without_leader=True)


def test_a_process_that_reads_works(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(bytes(2**20))
    with group(READS, str(tmp_path / "shard")) as pid:
        assert works(pid)


def test_a_child_s_work_is_the_group_s() -> None:
    with group(CHILD_RECKONS) as pid:
        assert works(pid, without_leader=True)


FIRST, SECOND = Identity(7, 1), Identity(8, 1)


def test_the_least_that_counts() -> None:
    before = {FIRST: Work(cpu_seconds=5.0), SECOND: Work()}
    little = Work(cpu_seconds=0.49, faults=15, bytes=2**20 - 1)
    assert not is_work(before, {**before, SECOND: little}, 10.0)
    assert not is_work({FIRST: Work(), SECOND: Work()}, {FIRST: little, SECOND: little}, 10.0)  # two that wait
    for much in (Work(cpu_seconds=0.51), Work(faults=16), Work(bytes=2**20)):
        assert is_work(before, {**before, SECOND: much}, 10.0)
    assert is_work(before, {SECOND: Work()}, 10.0)
    assert is_work({SECOND: Work()}, before, 10.0)


def test_a_group_that_is_gone_does_nothing() -> None:
    assert work_of(2**22 + 1) == {}
