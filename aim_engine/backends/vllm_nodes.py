"""vLLM on several nodes: a variant and a number of nodes in, how the model is split over all their GPUs out; a job in,
the options that join its node to the others out.

Layers go over the nodes (pipeline parallel), and a layer's parts stay within one; where there are copies, these go over
the nodes. Starts nothing and knows no address that the job does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.base import ServeJob
from aim_engine.backends.vllm_platforms import platform_for
from aim_engine.catalog.recipe import ArgumentValue, Variant
from aim_engine.errors import InputError
from aim_engine.hardware.installed import Engine

_TENSOR, _PIPELINE, _COPIES = "tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"
SPLITS = (_TENSOR, _PIPELINE, _COPIES)
# Of a server that has an API. A headless one takes them and does nothing with them (vllm/entrypoints/cli/serve.py,
# run_headless), so they are left out: who reads the command must not look for a port there.
_OF_THE_API = frozenset({
    "host", "port", "ssl-certfile", "ssl-keyfile", "middleware", "enable-server-load-tracking",
    "disable-access-log-for-endpoints",
})  # fmt: skip
# Written for a model on one node. vLLM leaves it off by itself where there are stages, and asked for it refuses, or
# computes with a runner that does not support it (vllm/config/vllm.py); where nobody asks it chooses.
_NOT_IN_STAGES = ("async-scheduling",)
_UNNAMED = "LEADER"  # in a command that is only shown


def over_nodes(variant: Variant, nodes: int, here: int, overrides: Mapping[str, Any], engine: Engine | None) -> Variant:
    """The variant on one of `nodes` nodes, as `Backend.over_nodes` has it. A variant for more GPUs than a node has is
    for all of them together.
    """
    version = versions.parse_version(engine.version if engine else None)
    if not versions.has_option("nnodes", version):
        raise InputError(
            f"vLLM {engine.version if engine else ''} does not serve over several nodes (AIM_NODES={nodes})",
            hint=f"use an image with a later one: --nnodes is there {versions.when('nnodes')}",
        )
    own = _sizes_in(variant.args)
    whole = variant.gpu_count > here and not variant.gpu_count % nodes and not own.get(_COPIES, nodes) % nodes
    on_one = variant.gpu_count // nodes if whole else variant.gpu_count
    if asked := _asked(overrides, nodes):
        sizes = _completed(asked, on_one * nodes)
    else:
        sizes = _within(own, variant.gpu_count, on_one) if whole else _spread(own, variant.gpu_count, nodes)
    gone = {*SPLITS, *(_NOT_IN_STAGES if sizes.get(_PIPELINE, 1) > 1 else ())}
    rest = {name: value for name, value in variant.args.items() if name not in gone}
    shown = {name: size for name, size in sizes.items() if size > 1 or name == _TENSOR}
    return replace(variant, gpu_count=on_one, args={**shown, **rest})


def _sizes_in(args: Mapping[str, ArgumentValue]) -> dict[str, int]:
    return {name: size for name in SPLITS if isinstance(size := args.get(name), int) and _is_size(size)}


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _asked(overrides: Mapping[str, Any], nodes: int) -> dict[str, int]:
    """The user's own split."""
    named = {name.replace("_", "-"): value for name, value in overrides.items()}
    asked = {name: named[name] for name in SPLITS if name in named}
    for name, value in asked.items():
        if not _is_size(value):
            raise InputError(f"AIM_ENGINE_ARGS: {name} must be a whole number of at least 1, not {value!r}",
                             hint="correct the value, or leave it out")  # fmt: skip
    copies = asked.get(_COPIES, 1)
    if copies > 1 and copies % nodes:
        raise InputError(
            f"{_COPIES} {copies} cannot be spread over {nodes} nodes: each gets equally many copies",
            hint=f"use a multiple of {nodes}, or leave {_COPIES} out and let one copy span the nodes",
        )
    return asked


def _completed(asked: Mapping[str, int], total: int) -> dict[str, int]:
    """With what is left of `total` GPUs given to the first size that was not named; none where they do not divide."""
    left, over = divmod(total, math.prod(asked.values()))
    missing = next((name for name in (_TENSOR, _PIPELINE) if name not in asked), None)
    sizes = {_TENSOR: 1, **asked}
    return sizes if over or missing is None else {**sizes, missing: left}


def _spread(own: Mapping[str, int], gpu_count: int, nodes: int) -> dict[str, int]:
    """A node's own split, so many times: as many more copies where it has some, else as many more stages."""
    wide = gpu_count // (own.get(_PIPELINE, 1) * own.get(_COPIES, 1))
    sizes = {_TENSOR: max(1, wide), **own}
    more = _COPIES if own.get(_COPIES, 1) > 1 else _PIPELINE
    return {**sizes, more: sizes.get(more, 1) * nodes}


def _within(own: Mapping[str, int], gpu_count: int, on_one: int) -> dict[str, int]:
    """A split over all GPUs whose layers' parts would lie on several nodes, with stages there instead: what the parts
    exchange in every layer is more than a network between nodes carries. Copies lie within a node as they are.
    """
    wide = own.get(_TENSOR) or gpu_count // (own.get(_PIPELINE, 1) * own.get(_COPIES, 1))
    narrow = math.gcd(wide, on_one) if wide and own.get(_COPIES, 1) == 1 else wide
    if narrow == wide:
        return dict(own)
    return {**own, _TENSOR: narrow, _PIPELINE: own.get(_PIPELINE, 1) * (wide // narrow)}


def node_options(job: ServeJob) -> dict[str, Any]:
    """The options by which this node finds the others; none of a node that is alone.

    Copies are joined by options that every version has; --nnodes is for one copy that spans nodes.
    """
    group = job.group
    if group.count == 1:
        return {}
    address = group.address or _UNNAMED
    worker: dict[str, Any] = {"headless": True} if group.rank else {}
    copies = _sizes_in(job.args).get(_COPIES, 1)
    if copies > 1:
        local = copies // group.count
        # one API server: it alone talks to the copies of all nodes, and counts what they do
        part = {"data-parallel-start-rank": local * group.rank} if group.rank else {"api-server-count": 1}
        return {"data-parallel-size-local": local, "data-parallel-address": address,
                "data-parallel-rpc-port": group.port, **part, **worker}  # fmt: skip
    return {"nnodes": group.count, "node-rank": group.rank, "master-addr": address, "master-port": group.port,
            "distributed-executor-backend": "mp", **worker}  # fmt: skip


def stages_on_a_cpu(job: ServeJob, options: Mapping[str, Any]) -> Iterator[str]:
    """A warning for what vLLM's CPU build cannot do: what a stage takes from the one before is made in a warm-up, which
    it leaves out where it compiles nothing (seen with 0.32: cpu_worker.py, _should_warm_up_model; where it compiles,
    two stages on two nodes answer).
    """
    on_host = platform_for(job.gpus[0]).explicit_cache
    staged = job.group.count > 1 and _sizes_in(job.args).get(_PIPELINE, 1) > 1
    if staged and on_host and options.get("enforce-eager"):
        yield ("vLLM's CPU build fails at the first request of a model in stages, unless it compiles: AIM_ENGINE_ARGS="
               f'{{"tensor-parallel-size": {job.group.count}}} divides each layer instead, {{"enforce-eager": false}} '
               "compiles, for which there must be a g++")  # fmt: skip


def of_this_node(job: ServeJob, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those of an API, on a node that has none."""
    return {name: value for name, value in options.items() if not job.group.rank or name not in _OF_THE_API}
