"""The ladder of a plan: what of the command each rung has otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from aim_engine.decide import planned
from aim_engine.ladder import Rung
from aim_engine.plan import Plan
from tests.building import ROCM, here, request
from tests.deploy.planning import SHIPPED


def ladder(on: str = "MI300X:8", **flags: str) -> dict[str, Rung]:
    found = planned(request(**flags), here(on), SHIPPED, ROCM)
    assert isinstance(found, Plan), found
    return {rung.name: rung for rung in found.ladder}


def test_the_rungs_in_their_order() -> None:
    found = ladder()
    assert list(found) == ["context", "memory share", "kernels", "collectives", "eager"]
    assert found["context"].options == {"max-model-len": ("--max-model-len", "auto")}
    assert found["memory share"].options == {"gpu-memory-utilization": ("--gpu-memory-utilization", "0.85")}
    assert found["eager"].options == {"enforce-eager": ("--enforce-eager",)}
    assert found["collectives"].options == {"disable-custom-all-reduce": ("--disable-custom-all-reduce",)}


def test_kernels_go_with_their_sub_switches() -> None:
    kernels = ladder()["kernels"]
    assert kernels.env == {"VLLM_ROCM_USE_AITER": "0"}
    assert "VLLM_ROCM_USE_AITER_MHA" in kernels.unset
    assert kernels.options == {}


@pytest.mark.parametrize(
    ("flags", "gone"),
    [
        ({"fallback": "0"}, {"context", "memory share", "kernels", "collectives", "eager"}),
        ({"max_model_len": "4096"}, {"context"}),
        ({"engine_args": '{"gpu-memory-utilization": 0.8}'}, {"memory share"}),
        ({"engine_args": '{"enforce-eager": true}'}, {"eager"}),
        ({"engine_args": '{"enforce-eager": false}'}, {"eager"}),
        ({"on": "MI300X:1"}, {"collectives"}),
    ],
)
def test_what_the_user_said_or_the_plan_lacks_is_no_rung(flags: dict[str, Any], gone: set[str]) -> None:
    assert set(ladder()) - set(ladder(**flags)) == gone


def test_more_gpus_are_a_rung_where_fewer_were_chosen() -> None:
    found = ladder("MI300X:4", metric="throughput", gpu_count="1")
    assert "more gpus" not in found, "as many were asked for"
    assert "VLLM_ROCM_USE_AITER" not in dict(ladder("MI300X:1")["eager"].env)


def test_the_plan_tells_it() -> None:
    plan = planned(request(), here(), SHIPPED, ROCM)
    assert isinstance(plan, Plan)
    shown = plan.as_json()["ladder"]
    assert [rung["name"] for rung in shown] == list(ladder())
    assert shown[0]["options"] == {"max-model-len": ["--max-model-len", "auto"]}
