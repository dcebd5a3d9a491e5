"""What our image can say of a process that hangs, with the rights that a container has."""

from __future__ import annotations

import pytest

from tests.image.containers import docker

pytestmark = pytest.mark.image

PROGRAM = """
import os, subprocess, sys, time
from aim_engine.runtime.processes import look
from aim_engine.runtime.witnesses import Gpus, stacks

asleep = "import time\\ndef sleeping_in_here():\\n    time.sleep(60)\\nsleeping_in_here()"
child = subprocess.Popen([sys.executable, "-c", asleep])
time.sleep(1)
print(stacks([look(child.pid)], time.monotonic() + 20))
print(Gpus().answer(time.monotonic() + 20)["source"])
child.kill()
"""


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        pytest.param(["--cap-add", "SYS_PTRACE"], True, id="allowed"),
        pytest.param(["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only", "--tmpfs", "/tmp",
                      "--user", "12345:12345"], False, id="locked up"),
        pytest.param([], False, id="as it comes"),
    ],
)  # fmt: skip
def test_python_stacks_or_the_remedy(image: str, options: list[str], seen: bool) -> None:
    """Without the capability it depends on the host (kernel.yama.ptrace_scope, the seccomp profile)."""
    done = docker("run", "--rm", *options, "--entrypoint", "/opt/aim-engine/venv/bin/python", image, "-c", PROGRAM)
    assert "State:\t" in done.stdout
    assert done.stdout.rstrip().endswith("cpu")
    stacks, remedy = "sleeping_in_here" in done.stdout, "--cap-add SYS_PTRACE" in done.stdout
    assert stacks if seen else stacks or remedy, done.stdout
