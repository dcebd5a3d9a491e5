"""measured.py: what an earlier start measured takes the place of what is assumed, for the same of everything only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from aim_engine.backends import vllm
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.measurement import Measurement
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, make_plan
from aim_engine.request import Request
from aim_engine.selection.memory import GIB
from tests.building import CARD, CPU_ENGINE, ROCM, cpu_here, here, request
from tests.deploy.planning import SHIPPED

LINES = {"activations": 3 * GIB, "device context + collectives": 2 * GIB, "graphs": GIB // 2}
DATE = "2026-10-10T12:00:00Z"


def planned(
    asked: Request | None = None, inventory: Inventory | None = None, catalog: Catalog = SHIPPED, engine: Any = ROCM
) -> Plan:
    found = make_plan(asked or request(), inventory or here(), catalog, engine)
    assert isinstance(found, Plan), found
    return found


def knowing(plan: Plan, lines: Mapping[str, int] = LINES) -> Catalog:
    """The catalogue after that plan's engine has become ready and taken these bytes."""
    assert plan.winner.occasion is not None
    return replace(SHIPPED, measurements=(Measurement(occasion=plan.winner.occasion, lines=lines, date=DATE),))


def basis(plan: Plan) -> dict[str, str]:
    assert plan.ledger is not None
    return {line.name: line.basis for line in plan.ledger.lines}


def test_the_next_plan_is_measured() -> None:
    first = planned()
    second = planned(catalog=knowing(first))
    assert second.ledger is not None
    assert basis(second) == {"weights": "computed", "kv cache": "computed", "activations": "measured",
                             "device context + collectives": "measured", "graphs": "measured"}  # fmt: skip
    sizes = {line.name: (line.low_bytes, line.bytes, line.high_bytes) for line in second.ledger.lines[2:]}
    assert sizes == {name: (size, size, size) for name, size in LINES.items()}
    weights = second.ledger.lines[0]
    assert second.ledger.capacity.blocks == (
        (second.ledger.budget_bytes - weights.bytes - sum(LINES.values())) // second.ledger.block_bytes
    )
    assert second.command == first.command


def test_the_plan_says_so() -> None:
    second = planned(catalog=knowing(planned()))
    said = [note for note in second.notes if "measured" in note]
    assert said == ["as measured on this machine on 2026-10-10 with vllm 0.18.1+rocm700: memory of activations, "
                    "device context + collectives, graphs"]  # fmt: skip
    assert not [note for note in planned().notes if "measured" in note]
    words = second.as_json()
    assert [line["basis"] for line in words["memory"]["lines"][2:]] == ["measured"] * 3
    assert words["memory"]["measurement"]["date"] == DATE
    assert words["occasion"]["engine"] == "vllm 0.18.1+rocm700"


@pytest.mark.parametrize(
    "asked",
    [{"gpu_count": "4"}, {"precision": "fp8"}, {"engine_args": '{"enforce-eager": true}'}, {"metric": "throughput"},
     {"engine_args": '{"max-num-batched-tokens": 4096}'}, {"engine_args": '{"max-num-seqs": 17}'},
     {"engine_args": '{"kv-cache-dtype": "fp8"}'}, {"engine_args": '{"speculative-config": {"method": "ngram"}}'}],
)  # fmt: skip
def test_another_placement_or_other_terms_stay_assumed(asked: dict[str, str]) -> None:
    other = planned(request(**asked), catalog=knowing(planned()))
    assert "measured" not in basis(other).values()


@pytest.mark.parametrize(
    "asked", [{"max_model_len": "8192"}, {"concurrency": "3"}, {"port": "9000"},
              {"engine_args": '{"gpu-memory-utilization": 0.5, "enable_auto_tool_choice": false}'}]
)  # fmt: skip
def test_what_changes_no_engine_s_needs_does_not_matter(asked: dict[str, str]) -> None:
    assert "measured" in basis(planned(request(**asked), catalog=knowing(planned()))).values()


def test_another_engine_s_figures_do_not_count() -> None:
    known = knowing(planned())
    for engine in (replace(ROCM, version="0.18.2+rocm700"), replace(ROCM, kernels_version="aiter 0.1.7")):
        assert "measured" not in basis(planned(catalog=known, engine=engine)).values()


def test_where_the_engine_is_not_known_the_plan_doubts() -> None:
    found = planned(catalog=knowing(planned()), engine=None)
    assert "measured" in basis(found).values()
    assert any("which need not be the engine that will run" in note for note in found.notes)


def test_other_devices_figures_do_not_count() -> None:
    known = knowing(planned())
    gpus = tuple(replace(gpu, partition="SPX/NPS4") for gpu in here().gpus)
    others = (replace(here(), gpus=gpus), here("MI300X:4"))
    for inventory in others:
        assert "measured" not in basis(planned(inventory=inventory, catalog=known)).values()


def test_gpus_that_are_not_used_do_not_matter() -> None:
    """A container is given those that it uses, and the next plan may be made outside of it."""
    four = planned(inventory=here("MI300X:4"))
    assert "measured" in basis(planned(request(gpu_count="4"), catalog=knowing(four))).values()


def test_another_revision_s_and_other_files_figures_do_not_count() -> None:
    known = knowing(planned())
    assert "measured" not in basis(planned(request(revision="v2"), catalog=known)).values()
    changed = replace(known, card=replace(CARD, weights_bytes={"bf16": 65_524_246_530}))
    assert "measured" not in basis(planned(catalog=changed)).values()


def test_the_users_variables_count_where_the_recipe_has_them() -> None:
    known = knowing(planned())
    off = replace(request(), environment={"VLLM_ROCM_USE_AITER": "0"})
    recipes = {name for one in planned().judged for name in one.candidate.variant.env}
    if "VLLM_ROCM_USE_AITER" in recipes:
        assert "measured" not in basis(planned(off, catalog=known)).values()
    assert "measured" in basis(planned(replace(request(), environment={"LANG": "C"}), catalog=known)).values()


def test_a_secret_is_not_among_the_terms() -> None:
    given = {"api-key": "s3cret", "hf_token": "s3cret", "max-num-seqs": 3}
    assert vllm.read_terms({}, given, here().gpus[0], ROCM).others == (("max-num-seqs", "3"),)


def test_on_the_cpu_what_a_step_needs_stays_assumed() -> None:
    first = planned(inventory=cpu_here(200 * GIB, 190 * GIB), engine=CPU_ENGINE)
    known = knowing(first, {"processes": GIB})
    found = basis(planned(inventory=cpu_here(180 * GIB, 170 * GIB), catalog=known, engine=CPU_ENGINE))
    assert (found["processes"], found["activations"]) == ("measured", "assumed")


def test_a_figure_for_a_line_that_is_not_there_is_left_out() -> None:
    found = basis(planned(catalog=knowing(planned(), {"processes": GIB})))
    assert "processes" not in found
    assert "measured" not in found.values()


def test_one_figure_for_all_lines_takes_the_place_of_all() -> None:
    joint = {"activations + device context + graphs + collectives": 5 * GIB}
    assert list(basis(planned(catalog=knowing(planned(), joint)))) == ["weights", "kv cache", *joint]
