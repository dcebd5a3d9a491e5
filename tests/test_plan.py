"""The one decision: that it is pure, what its JSON holds, and what it says was left out or put in its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.load import Catalog, catalog_folders, load_catalog
from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import SETTINGS, read_request
from tests.building import CARD, CPU_ENGINE, GIB, MODEL, ROCM, cpu_here, here, recipe, request, variant

SHIPPED = load_catalog(MODEL, catalog_folders())

# Others rely on these: keys may be added, never renamed.
CONTRACT = {
    "recipe_id", "model_id", "huggingface_id", "backend", "precision", "evidence", "metric", "gpu_count",
    "tensor_parallel_size", "data_parallel_size", "max_model_len", "gpus", "memory", "command", "ladder", "origins",
    "candidates",
}  # fmt: skip


def planned(found: Plan | Refusal) -> Plan:
    assert isinstance(found, Plan), found
    return found


def plan(environment: dict[str, str] | None = None, on: Inventory | None = None, **flags: str) -> Plan:
    asked = read_request({"model": MODEL, **flags}, environment or {})
    return planned(make_plan(asked, on or here(), SHIPPED, ROCM))


def test_the_same_inputs_give_the_same_plan() -> None:
    assert plan() == plan()
    assert json.dumps(plan().as_json()) == json.dumps(plan().as_json())


def test_the_plan_as_json_keeps_its_contract() -> None:
    words = json.loads(json.dumps(plan().as_json()))
    assert words.keys() >= CONTRACT
    assert words["memory"].keys() >= {"lines", "total_bytes", "budget_bytes", "fits"}
    assert all(line.keys() >= {"name", "bytes", "basis"} for line in words["memory"]["lines"])
    assert words["command"].keys() >= {"argv", "env"}
    assert words["gpus"][0].keys() >= {
        "index", "product", "device_id", "gfx", "memory_bytes", "memory_free_bytes", "pci_address", "uuid",
        "render_node", "partition"}  # fmt: skip
    for one in words["candidates"]:
        assert one.keys() >= {"recipe_id", "gpu_count", "chosen", "verdicts"}
        assert all(verdict.keys() == {"rule", "passed", "sentence"} for verdict in one["verdicts"])
    assert [one["chosen"] for one in words["candidates"]].count(True) == 1
    assert words["candidates"][0]["chosen"]


def test_a_refusal_as_json_keeps_its_contract() -> None:
    refusal = make_plan(request(), here("MI250:8"), SHIPPED)
    assert isinstance(refusal, Refusal)
    words = json.loads(json.dumps(refusal.as_json()))
    assert words.keys() >= {"error", "candidates"}
    assert words["error"].keys() >= {"class", "code", "message", "hint"}
    assert len(words["candidates"]) == sum(len(one.variants) for one in SHIPPED.recipes)
    assert not any(one["chosen"] for one in words["candidates"])


def test_a_plan_from_a_recorded_inventory_is_the_plan_of_the_inventory() -> None:
    """Up to the engine: what is recorded may be elsewhere, so nothing is known of the engine there."""
    for live in (here(free={0: 150 * GIB}, unusable={7: "closed"}, notes=("a note",)), cpu_here()):
        read_back = Inventory.from_json(json.dumps(live.as_json()), where="a file")
        first, second = (
            make_plan(request(), found, SHIPPED, None) for found in (live, replace(read_back, recorded=True))
        )
        assert first.as_json() == second.as_json()


def test_no_secret_is_in_the_plan() -> None:
    found = plan({"AIM_API_KEY": "hunter2", "HF_TOKEN": "hunter2", "VLLM_API_KEY": "hunter2", "AIM_QQ": "hunter2"})
    assert "hunter2" not in json.dumps(found.as_json())
    assert "hunter2" not in repr(found)
    assert found.as_json()["origins"]["AIM_API_KEY"] == "environment"


def test_every_setting_and_every_option_has_an_origin() -> None:
    origins = plan({"AIM_METRIC": "latency"}, gpu_count="4").as_json()["origins"]
    assert {setting.variable for setting in SETTINGS} <= origins.keys()
    assert (origins["AIM_METRIC"], origins["AIM_GPU_COUNT"], origins["AIM_PRECISION"]) == (
        "environment", "flag", "default")  # fmt: skip
    assert origins["--tensor-parallel-size"] == "recipe qwen3-32b-mi300x-bf16"
    argv = plan({"AIM_METRIC": "latency"}, gpu_count="4").command.argv
    assert all(word in origins for word in argv if word.startswith("--"))


def test_what_the_runtime_needs_is_in_the_plan() -> None:
    runtime = plan(port="9000", health_port="9001", drain_timeout="5", fallback="0").as_json()["runtime"]
    assert (runtime["port"], runtime["health_port"], runtime["drain_timeout_seconds"]) == (9000, 9001, 5.0)
    assert (runtime["state_dir"], runtime["fallback"], runtime["max_retries"]) == (None, False, 0)
    assert plan(state_dir="/s").as_json()["runtime"]["state_dir"] == "/s"


def test_the_budget_of_a_start_grows_with_the_bytes_to_read() -> None:
    assert plan(start_timeout="33").start_timeout_seconds == 33
    one, eight = plan(gpu_count="1"), plan(gpu_count="8")
    assert one.start_timeout_seconds == eight.start_timeout_seconds == 900 + 65_524_246_528 // 100_000_000


def test_a_local_folder_is_served_under_each_of_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    family = recipe(variant(1), model_id="*", huggingface_id="*", gpu_type="CPU")
    catalog = Catalog(recipes=(family,), card=replace(CARD, weights_bytes={"bf16": GIB}))
    found = planned(make_plan(request(model="./mine"), cpu_here(), catalog, CPU_ENGINE))
    assert found.checkpoint == str(tmp_path / "mine")
    assert found.command.served_names == ("./mine", str(tmp_path / "mine"), "mine")
    assert found.as_json()["model_id"] == "./mine"


def test_a_family_serves_the_model_that_was_asked_for() -> None:
    family = recipe(variant(1), model_id="*", huggingface_id="*")
    found = planned(make_plan(request(), here("MI300X:1"), Catalog(recipes=(family,), card=CARD)))
    assert found.checkpoint == MODEL
    assert found.command.served_names == (MODEL,)
    assert not any("is served for" in note for note in found.notes)


def test_a_model_of_unknown_numbers_is_planned_for_with_a_warning() -> None:
    catalog = Catalog(recipes=(recipe(),))
    found = planned(make_plan(request(), here(), catalog))
    assert found.warnings == ("whether it fits in memory was not checked: the model's numbers are not known",)
    assert found.as_json()["memory"] == {"lines": []}
    assert found.context_tokens is None
    asked = planned(make_plan(request(max_model_len="2048"), here(), catalog))
    assert asked.context_tokens == 2048


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"backend": "nothing"}, "AIM_BACKEND"),
        ({"engine_args": '{"port": 1}'}, "port is set by AIM_PORT"),
        ({"engine_args": '{"max-num-seq": 1}'}, "has no option max-num-seq"),
    ],
)
def test_a_request_that_cannot_be_planned_for(flags: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_plan(request(**flags), here(), SHIPPED)


def test_notes_come_in_the_order_of_what_was_done() -> None:
    found = plan(on=here("MI300X:3", unusable={2: "closed"}, notes=("seen",)), engine_args='{"max-num-seqs": 1}')
    assert found.notes == (
        "seen",
        "GPU 2 (MI300X) is not used: closed",
        "the evidence (reported) is for vllm 0.16.0, and vllm 0.18.1+rocm700 is installed",
        "max-num-seqs: AIM_ENGINE_ARGS says 1, the recipe said 512",
    )


def test_everything_in_the_plan_is_plain_json() -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(one) for key, one in value.items())
        if isinstance(value, (list, tuple)):
            return all(plain(one) for one in value)
        return value is None or isinstance(value, (bool, int, float, str))

    assert plain(plan().as_json())


def test_who_wants_no_advice_gets_the_same_verdicts_without_it() -> None:
    asked, found = request(concurrency="9999"), here("MI300X:1")
    advised, plain = (make_plan(asked, found, SHIPPED, advise=advise) for advise in (True, False))
    assert isinstance(advised, Refusal)
    assert isinstance(plain, Refusal)
    assert (plain.judged, plain.error.message) == (advised.judged, advised.error.message)
    assert {change.kind for change in advised.changes} >= {"concurrency"}
    assert plain.changes == ()
