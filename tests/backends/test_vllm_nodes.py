"""vLLM over several nodes: how a variant is split, and the words by which a leader and its workers find each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.backends import sglang, vllm
from aim_engine.backends.base import NodeGroup, ServeJob, ServerCommand
from aim_engine.backends.vllm_options import recipe_complaints
from aim_engine.errors import InputError
from tests.backends.test_vllm import job, words_after
from tests.building import CPU_ENGINE, ROCM, cpu_here, variant

TP, PP, DP = "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"


def split(gpu_count: int, nodes: int, *, here: int = 8, args: Any = None, **asked: Any) -> tuple[int, dict[str, Any]]:
    """GPUs on one node, and the sizes."""
    written = variant(gpu_count) if args is None else variant(gpu_count, args=args)
    done = vllm.over_nodes(written, nodes, here, asked, ROCM)
    return done.gpu_count, {name: done.args[name] for name in (TP, PP, DP) if name in done.args}


@pytest.mark.parametrize(
    ("gpu_count", "nodes", "args", "sizes"),
    [
        (8, 2, None, {TP: 8, PP: 2}),
        (1, 3, None, {TP: 1, PP: 3}),
        (8, 2, {TP: 4, PP: 2}, {TP: 4, PP: 4}),
        (8, 4, {TP: 1, DP: 8, "enable-expert-parallel": True}, {TP: 1, DP: 32}),
        (8, 2, {}, {TP: 8, PP: 2}),
    ],
)
def test_a_node_s_split_is_multiplied(gpu_count: int, nodes: int, args: Any, sizes: dict[str, int]) -> None:
    """Stages go over the nodes, or copies where there are some: a layer's parts stay within a node."""
    assert split(gpu_count, nodes, args=args) == (gpu_count, sizes)


def test_what_a_model_in_stages_cannot_have_is_left_to_the_engine() -> None:
    quick = variant(8, args={TP: 8, "async-scheduling": True, "max-num-seqs": 64})
    in_stages = vllm.over_nodes(quick, 2, 8, {}, ROCM).args
    assert "async-scheduling" not in in_stages
    assert in_stages["max-num-seqs"] == 64
    assert vllm.over_nodes(quick, 2, 8, {TP: 16}, ROCM).args["async-scheduling"] is True


def test_a_variant_for_more_gpus_than_a_node_has_is_for_all_of_them() -> None:
    assert split(16, 2, args={TP: 8, PP: 2}) == (8, {TP: 8, PP: 2})
    assert split(16, 2, args={TP: 4, DP: 4}) == (8, {TP: 4, DP: 4})
    assert split(16, 3, args={TP: 16}) == (16, {TP: 16, PP: 3}), "which no node has"


@pytest.mark.parametrize(
    ("gpu_count", "nodes", "here", "args", "sizes"),
    [
        (8, 2, 4, {TP: 8}, {TP: 4, PP: 2}),
        (8, 4, 2, None, {TP: 2, PP: 4}),
        (8, 2, 4, {TP: 4, PP: 2}, {TP: 4, PP: 2}),
        (16, 2, 8, {TP: 16}, {TP: 8, PP: 2}),
        (16, 4, 4, {TP: 8, PP: 2}, {TP: 4, PP: 4}),
        (8, 8, 1, {}, {TP: 1, PP: 8}),
    ],
)
def test_a_layer_is_not_divided_over_nodes(gpu_count: int, nodes: int, here: int, args: Any, sizes: Any) -> None:
    """A recipe for as many GPUs as all nodes have was written for one machine. Only a user's own word divides it so."""
    assert split(gpu_count, nodes, here=here, args=args) == (here, sizes)
    asked = {TP: gpu_count}
    assert split(gpu_count, nodes, here=here, args=args, **asked) == (here, {TP: gpu_count})


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        ({"tensor_parallel_size": 16}, {TP: 16}),
        ({TP: 8}, {TP: 8, PP: 2}),
        ({PP: 4}, {TP: 4, PP: 4}),
        ({DP: 2}, {TP: 8, DP: 2}),
        ({DP: 4, TP: 2}, {TP: 2, PP: 2, DP: 4}),
        ({TP: 3}, {TP: 3}),  # for the rule to refuse
    ],
)
def test_the_user_s_own_split(asked: dict[str, int], sizes: dict[str, int]) -> None:
    assert split(8, 2, **asked) == (8, sizes)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(InputError, match="data-parallel-size 3 cannot be spread over 2 nodes"):
        split(8, 2, **{DP: 3})
    with pytest.raises(InputError, match="tensor-parallel-size must be a whole number of at least 1, not '8'"):
        vllm.over_nodes(variant(8), 2, 8, {TP: "8"}, ROCM)


def test_what_cannot_be_spread_at_all() -> None:
    old = replace(ROCM, version="0.10.2+rocm700")
    with pytest.raises(InputError, match=r"vLLM 0\.10\.2\+rocm700 does not serve over several nodes") as error:
        vllm.over_nodes(variant(8), 2, 8, {}, old)
    assert "since 0.11.1" in error.value.hint
    with pytest.raises(InputError, match="sglang on more than one node"):
        sglang.over_nodes(variant(8), 2, 8, {}, None)


def of_node(rank: int, args: dict[str, Any], **changes: Any) -> ServerCommand:
    group = NodeGroup(count=2, rank=rank, address="head.example", port=29501)
    return vllm.command(job(args=args, group=group, **changes))


def test_a_leader_and_its_worker_find_each_other() -> None:
    leader, worker = (of_node(rank, {TP: 8, PP: 2}).argv for rank in (0, 1))
    for argv, rank in ((leader, "0"), (worker, "1")):
        assert words_after(argv, "--nnodes") == ["2"]
        assert words_after(argv, "--node-rank") == [rank]
        assert words_after(argv, "--master-addr") == ["head.example"]
        assert words_after(argv, "--master-port") == ["29501"]
        assert words_after(argv, "--distributed-executor-backend") == ["mp"]
        assert words_after(argv, "--pipeline-parallel-size") == ["2"]
    assert "--headless" in worker
    assert "--headless" not in leader


def test_copies_are_joined_by_their_own_options() -> None:
    leader, worker = (of_node(rank, {TP: 1, DP: 4}).argv for rank in (0, 1))
    for argv in (leader, worker):
        assert words_after(argv, "--data-parallel-size") == ["4"]
        assert words_after(argv, "--data-parallel-size-local") == ["2"]
        assert words_after(argv, "--data-parallel-address") == ["head.example"]
        assert words_after(argv, "--data-parallel-rpc-port") == ["29501"]
        assert "--nnodes" not in argv
    assert words_after(leader, "--api-server-count") == ["1"]
    assert words_after(worker, "--data-parallel-start-rank") == ["2"]
    assert "--headless" in worker
    assert "--api-server-count" not in worker, "vLLM refuses it beside --headless"


def test_a_worker_has_no_api() -> None:
    """What a headless server takes and does not use would make a reader look for a port there."""
    leader, worker = (of_node(rank, {TP: 8, PP: 2}) for rank in (0, 1))
    for option in ("--host", "--port", "--middleware", "--enable-server-load-tracking"):
        assert option in leader.argv
        assert option not in worker.argv
    same = {"host", "port", "middleware", "enable-server-load-tracking", "disable-access-log-for-endpoints",
            "node-rank", "headless"}  # fmt: skip
    assert {k: v for k, v in leader.options.items() if k not in same} == {
        k: v for k, v in worker.options.items() if k not in same
    }, "everything else is the same on every node"


def test_stages_on_a_cpu_are_warned_of() -> None:
    cpu = {"gpus": cpu_here().gpus, "visible_gpus": cpu_here().gpus, "engine": CPU_ENGINE, "kv_bytes": 2**26}
    eager = of_node(0, {PP: 2, "enforce-eager": True}, **cpu).warnings
    assert any("fails at the first request of a model in stages" in one for one in eager)
    assert of_node(0, {PP: 2}, **cpu).warnings == ()
    assert of_node(0, {TP: 2}, **cpu).warnings == ()
    assert of_node(0, {TP: 8, PP: 2}).warnings == ()


def test_what_is_only_shown_names_the_leader_by_a_word() -> None:
    shown = vllm.command(job(args={TP: 8, PP: 2}, group=NodeGroup(count=2, port=29501)))
    assert words_after(shown.argv, "--master-addr") == ["LEADER"]


@pytest.mark.parametrize("option", ["nnodes", "node-rank", "master-addr", "master-port"])
def test_what_joins_nodes_is_for_settings_to_say(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is set by AIM_"):
        vllm.command(job(overrides={option: 2}))
    assert [one.key for one in recipe_complaints({option: 2})] == [f"args.{option}"]


def test_a_split_is_a_user_s_to_say_only_over_nodes() -> None:
    alone: ServeJob = job(overrides={TP: 4})
    with pytest.raises(InputError, match="tensor-parallel-size is set by AIM_GPU_COUNT"):
        vllm.command(alone)
    done = of_node(0, {TP: 16}, overrides={TP: 16})
    assert done.origins["--tensor-parallel-size"] == "AIM_ENGINE_ARGS"
