"""out_of_memory.py: what the kernel counted, and a real kill by it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from aim_engine.runtime import out_of_memory
from tests.hardware.conftest import Plant, plant

from .server import Server, fake_plan

__all__ = ["plant"]

GIB, MIB = 2**30, 2**20
V2 = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
      "sys/fs/cgroup/memory.events": "low 0\nhigh 0\nmax 9\noom 3\noom_kill 2\n"}  # fmt: skip
V1 = {"proc/self/cgroup": "5:cpuset:/\n4:memory:/docker/abc\n",
      "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{512 * MIB}\n",
      "sys/fs/cgroup/memory/docker/abc/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
      "sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 77\n"}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "kills", "words"),
    [
        (V2, 2, "the container's memory limit of 4.0 GiB was reached"),
        (V1, 2, "the container's memory limit of 512 MiB was reached"),
        (V2 | {"sys/fs/cgroup/memory.max": "max\n"}, 2, "the machine's memory was used up"),
        (V2 | {"sys/fs/cgroup/memory.events": "garbage\n"}, 0, ""),
        ({"proc/self/cgroup": "0::/\n"}, 0, ""),
        ({}, 0, ""),
    ],
)
def test_what_the_kernel_counted(plant: Plant, files: Mapping[str, str], kills: int, words: str) -> None:
    root = plant(files)
    assert out_of_memory.kills(root) == kills
    assert out_of_memory.since(kills, root) == ""
    assert out_of_memory.since(kills - 1, root) == words or not kills


def may_limit_memory() -> bool:
    trial = Path(f"/sys/fs/cgroup/memory/aim-trial-{os.getpid()}")
    try:
        trial.mkdir()
        (trial / "memory.limit_in_bytes").read_text()
        trial.rmdir()
    except OSError:
        return False
    return True


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with a memory limit, version 1."""
    folder = Path(f"/sys/fs/cgroup/memory/aim-test-{os.getpid()}")
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text(str(200 * MIB))
    yield folder
    folder.rmdir()


@pytest.mark.skipif(not may_limit_memory(), reason="needs to make a control group (version 1)")
def test_an_engine_that_the_kernel_kills(group: Path, tmp_path: Path) -> None:
    prefix = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    server = Server(fake_plan(tmp_path), tmp_path, prefix=prefix)
    try:
        server.until_ready()
        server.behave(do="eat")
        assert server.wait(30) == 51
    finally:
        server.stop()
    words = server.words()
    assert words["message"] == "the engine ended while it served, killed by the kernel: the container's memory limit " \
                               "of 200 MiB was reached"  # fmt: skip
    assert "docker run --memory" in words["hint"]
