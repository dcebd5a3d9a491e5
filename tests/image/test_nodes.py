"""One model over two nodes: two containers on a network of their own, the real vLLM in each, one processor core each.

A layer in two halves over both, then a copy on each. Either side is killed as a node that loses its power, and the
other ends by itself, with the right code, while nobody asks it anything; both started again, they serve again.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.image.conftest import serving
from tests.image.containers import LABEL, Container, docker

pytestmark = [pytest.mark.image, pytest.mark.long]

START_SECONDS = 300.0  # of which 60 are usual on two cores
NOTICED_SECONDS = 40.0  # ten until a node counts as lost, and the time to end an engine on a busy machine


def _is_ready(one: Container) -> bool:
    return one.get("/health/ready")[0] == 200


@dataclass
class Pair:
    """Node 0 and node 1."""

    leader: Container
    worker: Container

    def until_ready(self) -> float:
        """Seconds until both are."""
        began = time.monotonic()
        for one in (self.leader, self.worker):
            one.until(partial(_is_ready, one), START_SECONDS, "waiting until it is ready")
        return time.monotonic() - began

    def start_again(self) -> None:
        docker("start", self.worker.id, self.leader.id)

    def ask(self, tokens: int = 4) -> int:
        """How many tokens came."""
        with openai.OpenAI(base_url=f"{self.leader.url(8000)}/v1", api_key="none", timeout=120, max_retries=0) as api:
            answer = api.completions.create(
                model="/models/tiny", prompt="Tell me", max_tokens=tokens, extra_body={"ignore_eos": True}
            )
        assert answer.usage
        return answer.usage.completion_tokens

    def answered(self) -> dict[str, float]:
        """Requests that each engine has answered."""
        text = self.leader.get("/metrics", port=8000)[1]
        found: dict[str, float] = {}
        for engine, count in re.findall(r'vllm:request_success_total\{[^}]*engine="(\d)"[^}]*\} ([\d.]+)', text):
            found[engine] = found.get(engine, 0) + float(count)
        return found


@pytest.fixture(scope="module")
def network(engine: None) -> Iterator[str]:
    name = f"{LABEL}-nodes-{uuid.uuid4().hex[:8]}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name)


def pair_of(image: str, tiny: Path, network: str, volume: str, split: dict[str, int]) -> Pair:
    def node(rank: int) -> Container:
        return Container(image, options=serving(
            tiny, "--network", network, "--network-alias", f"node-{rank}",
            # a layer in parts is compiled wherever that is not switched off, and the CPU image has no compiler
            "--env", f"VLLM_CPU_OMP_THREADS_BIND={rank}", "--env", "TORCHDYNAMO_DISABLE=1",
            "--shm-size", "1g", "--volume", f"{volume}:/workspace/model-cache",
            "--env", "AIM_NODES=2", "--env", f"AIM_NODE_RANK={rank}", "--env", "AIM_LEADER_ADDRESS=node-0",
            "--env", f"AIM_ENGINE_ARGS={json.dumps(split)}",
        ))  # fmt: skip

    return Pair(leader=node(0), worker=node(1))


def end(pair: Pair) -> None:
    for one in (pair.leader, pair.worker):
        docker("rm", "--force", "--volumes", one.id, check=False)


def noticed(survivor: Container, killed: Container) -> tuple[int, dict[str, Any], float]:
    """The survivor's exit code and last words after the other side was killed, and how long it took."""
    docker("kill", "--signal", "KILL", killed.id)
    began = time.monotonic()
    code = survivor.wait(NOTICED_SECONDS)
    return code, survivor.words(), time.monotonic() - began


@pytest.fixture(scope="module")
def halves(image: str, tiny: Path, network: str, volume: str) -> Iterator[Pair]:
    found = pair_of(image, tiny, network, volume, {"tensor-parallel-size": 2})
    yield found
    end(found)


def test_a_layer_in_two_halves_answers(halves: Pair) -> None:
    print(f"both ready after {halves.until_ready():.1f} s")
    assert halves.ask() == 4
    status = json.loads(halves.leader.get("/status")[1])
    assert status["nodes"]["workers"].keys() == {"1"}
    assert status["plan"]["tensor_parallel_size"] == 2
    worker = json.loads(halves.worker.get("/health/ready")[1])
    assert worker["reason"] == "node 1 of 2: worker of node-0"
    assert halves.worker.get("/v1/models", port=8000)[0] == 0, "a worker has no API"
    argv = json.loads(halves.worker.get("/plan")[1])["command"]["argv"]
    assert "--headless" in argv
    assert "--port" not in argv


def test_a_worker_that_is_gone_ends_an_idle_leader(halves: Pair) -> None:
    code, words, seconds = noticed(halves.leader, halves.worker)
    print(f"the leader ended {seconds:.1f} s after its worker was killed: {words['message']}")
    assert code == words["code"] == 51
    assert "worker 1 of 1 has not been heard of" in words["message"]
    assert words["retryable"]


def test_started_again_they_serve_again_and_a_leader_that_is_gone_ends_its_worker(halves: Pair) -> None:
    halves.start_again()
    print(f"both ready again after {halves.until_ready():.1f} s")
    assert halves.ask() == 4
    code, words, seconds = noticed(halves.worker, halves.leader)
    print(f"the worker ended {seconds:.1f} s after its leader was killed: {words['message']}")
    assert code == words["code"] == 51
    assert "the leader, node-0, has not answered" in words["message"]


@pytest.fixture(scope="module")
def copies(image: str, tiny: Path, network: str, volume: str, halves: Pair) -> Iterator[Pair]:
    end(halves)  # four engines on two cores would take long
    found = pair_of(image, tiny, network, volume, {"data-parallel-size": 2})
    yield found
    end(found)


def test_a_copy_on_each_node_answers(copies: Pair) -> None:
    print(f"both ready after {copies.until_ready():.1f} s")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: copies.ask(), range(8))) == [4] * 8
    answered = copies.answered()
    assert answered.keys() == {"0", "1"}
    assert all(answered.values()), "both copies had requests"


def test_a_copy_that_is_gone_ends_the_leader_though_its_engine_never_notices(copies: Pair) -> None:
    code, words, seconds = noticed(copies.leader, copies.worker)
    print(f"the leader ended {seconds:.1f} s after its worker was killed: {words['message']}")
    assert code == words["code"] == 51
    assert "worker 1 of 1 has not been heard of" in words["message"]
