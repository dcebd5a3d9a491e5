"""Those who are asked about an engine that hangs: processes in, what each of them does in words out; and what the
inventory can say of the GPUs now.

py-spy and the driver are asked by child processes with a time limit, both may wait for what hangs: py-spy reads the
memory of another process, which Linux allows to its owner only if Yama does or with CAP_SYS_PTRACE, and a wedged driver
answers nobody. What /proc tells of a process (proc(5)) needs neither.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aim_engine.runtime.processes import Process
from aim_engine.runtime.spare import PROGRAMS

_MOST_PROCESSES = 24  # an engine over eight GPUs has about ten, and helpers
_MOST_THREADS = 64
_PROCESS_BYTES = 24 * 1024
_ANSWER_BYTES = 1024 * 1024
_SPARE_SECONDS = 0.5  # for writing it all down
_STATUS = ("State", "Threads", "VmRSS", "voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
_NO_PY_SPY = "py-spy is not installed beside AIM Engine: pip install 'aim-engine[stacks]'"
_REMEDY = "py-spy may not look there: docker run --cap-add SYS_PTRACE (securityContext.capabilities.add: [SYS_PTRACE])"
_DENIED = ("permission denied", "operation not permitted", "eperm")


class Child:
    """A program that is asked something; whatever it does, nobody waits longer than until a deadline."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._output = open(os.memfd_create("answer"), "w+b")  # noqa: PTH123, SIM115 - read when it has ended
        self._process: subprocess.Popen[bytes] | None = None
        self._problem = ""
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, start_new_session=True
            )
        except OSError as error:
            self._problem = f"{argv[0]}: {error.strerror}"

    def answer(self, deadline: float) -> tuple[bool, str]:
        """Whether it did what was asked, and what it said, or why it said nothing."""
        with self._output:
            if self._process is None:
                return False, self._problem
            try:
                status = self._process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                with suppress(subprocess.TimeoutExpired):  # in the kernel no signal ends it: it is left behind
                    self._process.wait(0.5)
                return False, "no answer in time"
            self._output.seek(0)
            return status == 0, self._output.read(_ANSWER_BYTES).decode("utf-8", "replace")


class Gpus:
    """Asks the inventory from now on: for the driver that takes a while."""

    def __init__(self) -> None:
        # with the site's packages, unlike our other programs: the vendor's library is among them
        self._child = Child([sys.executable, "-P", PROGRAMS, "inventory"])

    def answer(self, deadline: float) -> Any:
        """An inventory's JSON, or `{"error": ...}`."""
        done, text = self._child.answer(deadline - _SPARE_SECONDS)
        with suppress(ValueError, IndexError):  # a library may have printed something before
            return json.loads(text.strip().splitlines()[-1])
        return {"error": text.strip()[-2000:] or "the inventory said nothing", "answered": done}


def stacks(living: Sequence[Process], deadline: float) -> str:
    """What each process does: its state, what it waits for in the kernel, its Python stacks where they can be had."""
    looked_at = living[:_MOST_PROCESSES]
    py_spy = find_py_spy()
    # all at once; without stopping them: one that is stopped or hangs is not to be waited for
    asked = [Child([py_spy, "dump", "--nonblocking", "--pid", str(p.identity.pid)]) if py_spy else None
             for p in looked_at]  # fmt: skip
    parts = []
    for process, child in zip(looked_at, asked, strict=True):
        done, text = child.answer(deadline - _SPARE_SECONDS) if child else (False, _NO_PY_SPY)
        parts.append(f"== {name_of(process.identity.pid)}, pid {process.identity.pid}, child of {process.parent}\n"
                     f"{_facts(process.identity.pid)}\n{_told(done, text)[:_PROCESS_BYTES]}\n")  # fmt: skip
    if len(living) > len(looked_at):
        parts.append(f"== and {len(living) - len(looked_at)} more processes\n")
    return "\n".join(parts)


def _told(done: bool, text: str) -> str:
    if done:
        return text.rstrip()
    said = text.strip() or "py-spy said nothing"
    return f"{said}\n{_REMEDY}" if any(word in said.lower() for word in _DENIED) else said


def find_py_spy() -> str | None:
    """The program, beside our interpreter or on the PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "py-spy")  # noqa: PTH118, PTH120 - slim
    return beside if os.access(beside, os.X_OK) else shutil.which("py-spy")


def name_of(pid: int) -> str:
    """As the kernel keeps it. Not its command line: reading that waits for a lock that a hung process may hold."""
    return _read(f"/proc/{pid}/comm") or "?"


def _facts(pid: int) -> str:
    lines = [line for line in _read(f"/proc/{pid}/status").splitlines() if line.partition(":")[0] in _STATUS]
    if stack := _read(f"/proc/{pid}/stack"):  # root's in the first user namespace only
        lines += ["in the kernel:", stack]
    try:
        threads = sorted(os.listdir(f"/proc/{pid}/task"), key=int)  # noqa: PTH208 - slim
    except OSError:
        threads = []
    for thread in threads[:_MOST_THREADS]:
        place = f"/proc/{pid}/task/{thread}"
        state = _read(f"{place}/stat").rpartition(") ")[2][:1]
        waits = _read(f"{place}/wchan").strip("0")
        lines.append(f"  thread {thread} {_read(f'{place}/comm')}: {state}{f', waits in {waits}' if waits else ''}")
    return "\n".join(lines)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - slim
            return file.read(16384).strip()
    except OSError:
        return ""
