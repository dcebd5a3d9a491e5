"""Commands for several nodes: what plans them, and what is for one machine says so."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run

MODEL = "Qwen/Qwen3-32B"


def test_a_plan_over_two_nodes(cli: Run) -> None:
    page = cli("plan", MODEL, "--hardware", "MI300X:8", "--nodes", "2").stdout
    assert "each of 2 nodes, tensor parallel 8, pipeline parallel 2" in page
    assert "--master-addr LEADER" in page
    found = cli("plan", MODEL, "--hardware", "MI300X:8", "--nodes", "2", "--json").json
    assert (found["nodes"], found["gpu_count"], found["pipeline_parallel_size"]) == (2, 8, 2)
    assert found["runtime"]["max_retries"] == 0
    assert found["runtime"]["group"] == {"nodes": 2, "rank": 0, "address": None, "port": 29501}


@pytest.mark.parametrize("words", [("render", "compose"), ("launch", "--dry-run")])
def test_a_container_is_of_one_node(cli: Run, words: tuple[str, ...]) -> None:
    done = cli(*words, MODEL, "--hardware", "MI300X:8", "--nodes", "2")
    assert done.code == 10
    assert "AIM_NODES=2: a container is launched on this host alone" in done.stderr
    assert "aim-engine render kubernetes" in done.stderr


@pytest.mark.parametrize(
    ("words", "other"),
    [(("--leader-port", "8000"), "AIM_PORT"), (("--leader-port", "8080"), "AIM_HEALTH_PORT"),
     (("--port", "29501"), "AIM_PORT")],
)  # fmt: skip
def test_the_leader_gathers_on_a_port_of_its_own(cli: Run, words: tuple[str, ...], other: str) -> None:
    done = cli("plan", MODEL, "--hardware", "MI300X:8", "--nodes", "2", *words)
    assert (done.code, done.last_words["class"]) == (10, "Input")
    assert f"AIM_LEADER_PORT and {other} are both" in done.last_words["message"]
    assert cli("plan", MODEL, "--hardware", "MI300X:8", *words).code == 0, "of one node there is no leader"


def test_serve_says_the_same_before_anything_is_read(process: Run) -> None:
    done = process("serve", MODEL, "--hardware", "cpu", "--nodes", "2", "--leader-port", "8000")
    assert "AIM_LEADER_PORT and AIM_PORT are both 8000" in done.last_words["message"]


def test_a_service_of_a_cluster_may_have_the_leader_s_port(cli: Run) -> None:
    done = cli("render", "kubernetes", MODEL, "--hardware", "MI300X:8", "--nodes", "2", "--port", "29501")
    assert done.code == 0, done.stderr


def test_nobody_serves_over_nodes_without_knowing_the_leader(process: Run) -> None:
    done = process("serve", MODEL, "--hardware", "cpu", "--nodes", "2", "--node-rank", "1")
    assert done.code == 10
    assert "this is node 1 of 2, and nobody has said where the leader is" in done.stderr
