"""Several nodes: what is placed on each, which split is refused, when one would do, and when more are proposed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.backends import vllm
from aim_engine.catalog.recipe import Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import product_by_name
from aim_engine.selection.candidate import Situation
from aim_engine.selection.select import Selection, select
from tests.building import CARD, GIB, MODEL, ROCM, here, recipe, request, situation, variant

LARGE = replace(CARD, weights_bytes={"bf16": 1800 * GIB})


def spread(where: Situation, engine: Engine | None = ROCM) -> Selection:
    """The selection by a backend that can be spread over nodes."""

    def over_nodes(one: Variant, nodes: int, there: int) -> Variant:
        return vllm.over_nodes(one, nodes, there, where.request.engine_args, engine)

    def terms(one: Variant, gpu: Gpu) -> ServingTerms:
        return vllm.read_terms(one.args, where.request.engine_args, gpu, where.engine)

    return select(replace(where, over_nodes=over_nodes), terms, derive=vllm.derive)


def winner(where: Situation) -> Any:
    found = spread(where).winner
    assert found is not None
    return found.candidate


def test_whole_nodes_are_used_and_each_holds_its_part() -> None:
    one, two = (winner(situation(asked=request(nodes=nodes))) for nodes in ("1", "2"))
    assert (two.nodes, two.gpu_count, two.tensor_parallel_size, two.pipeline_parallel_size) == (2, 8, 8, 2)
    weights = [next(line for line in found.ledger.lines if line.name == "weights") for found in (one, two)]
    assert weights[1].bytes * 2 == pytest.approx(weights[0].bytes, rel=1e-6)
    assert two.ledger.kv_bytes < one.ledger.kv_bytes, "each keeps its own layers' cache"
    quick = winner(situation(asked=request(nodes="2", metric="throughput")))
    assert (quick.gpu_count, quick.replicas) == (8, 1), "no copies beside: each would be a part of one"


def test_a_made_recipe_takes_whole_nodes_too() -> None:
    made = vllm.derive(CARD, MODEL, product_by_name("MI300X"))
    assert made is not None
    assert winner(situation(made, asked=request(nodes="2"))).gpu_count == 8
    assert winner(situation(made, asked=request(nodes="2", gpu_count="2"))).gpu_count == 2


def test_where_one_node_would_do_it_is_said() -> None:
    notes = spread(situation(asked=request(nodes="2"))).notes
    assert any("one node holds it (plain on 8 x MI300X)" in note for note in notes)
    needed = spread(situation(asked=request(nodes="2"), card=LARGE))
    assert needed.winner is not None
    assert not any("one node holds it" in note for note in needed.notes)


def test_a_split_that_is_not_all_gpus_is_refused_with_both_numbers() -> None:
    found = spread(situation(asked=request(nodes="2", engine_args='{"tensor-parallel-size": 6}')))
    assert found.winner is None
    assert found.refusal is not None
    assert found.refusal.error_class == "Input"
    assert "2 nodes with 8 GPUs each are 16 GPUs" in found.refusal.message


def test_the_user_s_split_is_reckoned_with() -> None:
    found = winner(situation(asked=request(nodes="2", engine_args='{"tensor-parallel-size": 16}')))
    assert (found.tensor_parallel_size, found.pipeline_parallel_size) == (16, 1)
    copies = winner(situation(asked=request(nodes="2", engine_args='{"data-parallel-size": 2}')))
    assert (copies.tensor_parallel_size, copies.copies) == (8, 2)
    alone = winner(situation())
    assert copies.ledger.lines[0].bytes == alone.ledger.lines[0].bytes, "each node holds a whole one"


def test_more_nodes_are_proposed_where_no_node_is_large_enough() -> None:
    def changes(on: str, engine: Engine | None = ROCM) -> dict[str, str]:
        made = vllm.derive(LARGE, MODEL, product_by_name("MI300X"))
        assert made is not None
        found = spread(situation(made, on=here(on), card=LARGE), engine)
        return {change.kind: change.setting for change in found.changes}

    assert changes("MI300X:8")["nodes"] == "AIM_NODES=2"
    assert "nodes" not in changes("MI300X:8", replace(ROCM, version="0.10.2+rocm641")), "it has no --nnodes"
    small = vllm.derive(CARD, MODEL, product_by_name("MI210"))
    assert small is not None
    near = {change.kind for change in spread(situation(small, on=here("MI210:1"))).changes}
    assert near >= {"gpus"}
    assert "nodes" not in near, "more GPUs in the same machine come first"


def test_a_proposed_number_of_nodes_does() -> None:
    made = vllm.derive(LARGE, MODEL, product_by_name("MI300X"))
    assert made is not None
    change = next(one for one in spread(situation(made, card=LARGE)).changes if one.kind == "nodes")
    assert "2 nodes like this one (--nodes 2)" in change.sentence
    assert spread(change.changed).winner is not None


def test_another_engine_s_variants_are_left_alone() -> None:
    odd = variant(8, backend="sglang", args={"tp-size": 8})
    found = spread(situation(recipe(variant(8), odd), asked=request(nodes="2")))
    assert found.winner is not None
    assert [one.candidate.variant.args for one in found.judged if one.candidate.variant.backend == "sglang"] == [
        {"tp-size": 8}
    ]


def test_what_was_measured_on_one_node_is_not_taken_for_two() -> None:
    occasions = [winner(situation(asked=request(nodes=nodes))).occasion for nodes in ("1", "2")]
    assert occasions[0] != occasions[1]
    assert "nodes 2" in occasions[1].terms
