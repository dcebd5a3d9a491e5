"""A model in stages over two nodes, which is what AIM_NODES plans: two servers on two addresses of this host, the real
vLLM in each. It compiles here, for vLLM's CPU build can serve stages only so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.runtime.ports import free_ports
from tests.runtime.server import ROOT

pytestmark = [
    pytest.mark.engine,
    pytest.mark.long,
    pytest.mark.skipif(shutil.which("g++") is None, reason="what compiles for a CPU needs g++"),
]

ADDRESSES = ("127.0.0.1", "127.0.0.2")
READY_SECONDS, END_SECONDS = 400.0, 60.0


class Node:
    """One `aim-engine serve`."""

    def __init__(self, rank: int, folder: Path, environment: dict[str, str], health_port: int) -> None:
        self.health = f"http://{ADDRESSES[rank]}:{health_port}"
        self.state = folder / f"node-{rank}"
        own = {"AIM_NODE_RANK": str(rank), "AIM_HOST": ADDRESSES[rank], "VLLM_HOST_IP": ADDRESSES[rank],
               "AIM_STATE_DIR": str(self.state), "AIM_CACHE_DIR": str(folder / f"cache-{rank}"),
               "VLLM_CPU_OMP_THREADS_BIND": str(rank)}  # fmt: skip
        with (folder / f"node-{rank}.log").open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "aim_engine.cli.main", "serve"], cwd=ROOT,
                                            env={**environment, **own}, stdout=log, stderr=log)  # fmt: skip

    def is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.health}/health/ready", timeout=5).status_code == 200
        return False

    def words(self) -> Any:
        return json.loads((self.state / "last-words.json").read_text())


@pytest.fixture
def nodes(tiny_model: Path, whole_distribution: Path, tmp_path: Path) -> Iterator[tuple[Node, Node, int]]:
    """Both nodes and the API's port."""
    port, health_port, leader_port = free_ports(3)
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("AIM_")},
        "PYTHONPATH": f"{whole_distribution}{os.pathsep}{ROOT}",
        "AIM_MODEL": str(tiny_model), "AIM_NODES": "2", "AIM_LEADER_ADDRESS": ADDRESSES[0],
        "AIM_LEADER_PORT": str(leader_port), "AIM_PORT": str(port), "AIM_HEALTH_PORT": str(health_port),
        "AIM_ENGINE_ARGS": json.dumps({"enforce-eager": False}), "AIM_MAX_MODEL_LEN": "512", "AIM_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }  # fmt: skip
    pair = [Node(rank, tmp_path, environment, health_port) for rank in (0, 1)]
    yield pair[0], pair[1], port
    for one in pair:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                one.process.wait(END_SECONDS)
        one.process.kill()
        one.process.wait()


def test_two_stages_answer_and_a_stop_of_the_leader_drains_and_ends_both(
    nodes: tuple[Node, Node, int], tmp_path: Path
) -> None:
    leader, worker, port = nodes
    deadline = time.monotonic() + READY_SECONDS
    while not (leader.is_ready() and worker.is_ready()):
        assert time.monotonic() < deadline, (tmp_path / "node-0.log").read_text()[-3000:]
        assert leader.process.poll() is None, (tmp_path / "node-0.log").read_text()[-3000:]
        assert worker.process.poll() is None, (tmp_path / "node-1.log").read_text()[-3000:]
        time.sleep(0.5)
    assert "(Worker_PP0 " in (tmp_path / "node-0.log").read_text()
    assert "(Worker_PP1 " in (tmp_path / "node-1.log").read_text()
    api = f"http://{ADDRESSES[0]}:{port}/v1"
    model = requests.get(f"{api}/models", timeout=20).json()["data"][0]["id"]
    asked = {"model": model, "prompt": "Hello", "max_tokens": 300, "ignore_eos": True, "stream": True}
    with requests.post(f"{api}/completions", json=asked, timeout=120, stream=True) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(b"data: {")
        leader.process.send_signal(signal.SIGTERM)
        chunks = [line for line in lines if line]
    assert (len(chunks), chunks[-1]) == (300, b"data: [DONE]")
    assert leader.process.wait(END_SECONDS) == 0
    worker.process.wait(END_SECONDS)
    assert leader.words()["class"] == "Drained", leader.words()
    assert leader.words()["receipt"] == {"finished": 1, "refused": 0, "cut": 0}
