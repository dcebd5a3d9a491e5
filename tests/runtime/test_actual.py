"""actual.py: predicted beside actual. Figures of a GPU's start can only be made up here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aim_engine.backends.figures import CacheFigures
from aim_engine.catalog.measurement import Measurement
from aim_engine.plan import Plan, make_plan
from aim_engine.runtime.actual import Seen, compared, measured_lines
from tests.building import CPU_ENGINE, ROCM, cpu_here, here, request
from tests.deploy.planning import SHIPPED

GIB, MIB = 1024**3, 1024**2


def plan(catalog: Any = SHIPPED, **asked: str) -> Plan:
    found = make_plan(request(**asked), here(), catalog, ROCM)
    assert isinstance(found, Plan), found
    return found


def memory_of(found: Plan) -> dict[str, Any]:
    words: dict[str, Any] = found.as_json()["memory"]
    return words


def on_the_cpu() -> dict[str, Any]:
    found = make_plan(request(), cpu_here(200 * GIB, 190 * GIB), SHIPPED, CPU_ENGINE)
    assert isinstance(found, Plan), found
    return memory_of(found)


def cache_of(blocks: int, tokens: int = 0) -> CacheFigures:
    return CacheFigures(blocks=blocks, block_tokens=16, tokens=tokens, concurrency=1.0)


def after(memory: dict[str, Any], *, activations: float, context: float, graphs: float, said: bool = True) -> Seen:
    """What is seen of an engine that takes so many GiB and gives the cache the rest."""
    rest = int((activations + context + graphs) * GIB)
    blocks = (memory["budget_bytes"] - memory["lines"][0]["bytes"] - rest) // memory["block_bytes"]
    figures = {"activations": int(activations * GIB), "other": int(context * GIB), "graphs": int(0.4 * GIB)}
    return Seen(cache=cache_of(blocks), said=figures if said else {})


def test_the_next_plan_of_a_gpu_comes_to_the_cache_that_the_engine_came_to() -> None:
    first = plan()
    seen = after(memory_of(first), activations=5.58, context=1.38, graphs=0.9)
    lines = measured_lines(memory_of(first), seen)
    assert list(lines) == ["activations", "device context + collectives", "graphs"]
    assert lines["activations"] == int(5.58 * GIB)
    assert first.winner.occasion is not None
    known = Measurement(occasion=first.winner.occasion, lines=lines, date="2026-10-10")
    second = plan(replace(SHIPPED, measurements=(known,)))
    assert second.ledger is not None
    assert seen.cache is not None
    assert second.ledger.capacity.blocks == seen.cache.blocks
    assert measured_lines(memory_of(second), seen) == lines
    assert compared(memory_of(second), seen)["warnings"] == []


def test_without_the_log_s_line_one_figure_stands_for_all() -> None:
    memory = memory_of(plan())
    seen = after(memory, activations=5, context=1, graphs=1, said=False)
    (joint,) = measured_lines(memory, seen).items()
    assert joint[0] == "activations + device context + graphs + collectives"
    assert 7 * GIB <= joint[1] < 7 * GIB + memory["block_bytes"]
    rows = compared(memory, seen)["lines"]
    assert [row["name"] for row in rows] == ["weights", "kv cache", joint[0]]
    assert rows[2]["predicted_bytes"] == sum(line["bytes"] for line in memory["lines"][2:])


def test_weights_that_the_newer_line_has_in_one_figure() -> None:
    memory = memory_of(plan())
    weights = memory["lines"][0]["bytes"]
    seen = after(memory, activations=1, context=1, graphs=1)
    said = {"consumed": weights + 2 * GIB, "activations": GIB}
    lines = measured_lines(memory, replace(seen, said=said))
    assert lines["device context + collectives"] == 2 * GIB
    assert sum(lines.values()) == sum(measured_lines(memory, seen).values())
    known = measured_lines(memory, replace(seen, said={**said, "weights": weights + GIB}))
    assert known["device context + collectives"] == GIB


def test_figures_that_are_rounded_up_never_make_more_than_there_was() -> None:
    memory = memory_of(plan())
    seen = after(memory, activations=2, context=1, graphs=0)
    told = replace(seen, said={"activations": 2 * GIB + 6 * MIB, "other": GIB + 6 * MIB, "graphs": GIB})
    lines = measured_lines(memory, told)
    assert sum(lines.values()) == sum(measured_lines(memory, seen).values())
    assert lines["graphs"] == 0


@pytest.mark.parametrize("other", [-3.58, 0])
def test_an_allocator_that_counts_weights_elsewhere(other: float) -> None:
    memory = memory_of(plan())
    seen = after(memory, activations=2, context=1, graphs=1)
    lines = measured_lines(memory, replace(seen, said={**seen.said, "other": int(other * GIB)}))
    assert lines["device context + collectives"] == 0
    assert min(lines.values()) >= 0


def test_a_cache_of_a_given_size_tells_nothing_of_the_rest() -> None:
    memory = memory_of(plan(engine_args='{"kv-cache-memory-bytes": 1073741824}'))
    assert memory["cache_given"]
    seen = after(memory, activations=2, context=1, graphs=1)
    said = {"activations": 2 * GIB, "device context + collectives": GIB, "graphs": int(0.4 * GIB)}
    assert measured_lines(memory, seen) == said
    assert measured_lines(memory, replace(seen, said={})) == {}


def test_more_cache_than_there_is_memory_is_not_believed() -> None:
    memory = memory_of(plan())
    seen = Seen(cache=cache_of(memory["budget_bytes"] // memory["block_bytes"]), said={"activations": 1, "other": 1})
    assert measured_lines(memory, seen) == {}


def test_processes_are_what_is_held_besides_weights_and_cache() -> None:
    memory = on_the_cpu()
    blocks = memory["capacity"]["blocks"]
    held = memory["lines"][0]["bytes"] + blocks * memory["block_bytes"] + 1200 * MIB
    seen = Seen(cache=cache_of(blocks), resident_bytes=held)
    assert measured_lines(memory, seen) == {"processes": 1200 * MIB}
    assert measured_lines(memory, replace(seen, cache=None)) == {}
    assert measured_lines(memory, replace(seen, resident_bytes=None)) == {}
    assert measured_lines(memory, replace(seen, resident_bytes=GIB)) == {}  # weights are in somebody else's memory


def test_what_is_shown_before_it_is_ready_and_after() -> None:
    memory = on_the_cpu()
    before = compared(memory, None)
    assert [(row["name"], row["actual_bytes"]) for row in before["lines"]] == [
        ("weights", None), ("kv cache", None), ("activations", None), ("processes", None)]  # fmt: skip
    assert before["kv_cache"] == {"predicted": memory["capacity"], "actual": None}
    blocks = memory["capacity"]["blocks"]
    seen = Seen(cache=cache_of(blocks, tokens=5), resident_bytes=200 * GIB)
    after_it = compared(memory, seen)
    rows = {row["name"]: row for row in after_it["lines"]}
    assert rows["kv cache"]["actual_bytes"] == rows["kv cache"]["predicted_bytes"] == blocks * memory["block_bytes"]
    assert rows["activations"]["actual_bytes"] is None
    actual = {"blocks": blocks, "block_tokens": 16, "tokens": 5, "concurrency": 1.0}
    assert after_it["kv_cache"]["actual"] == actual


def test_outside_of_the_range_is_a_warning() -> None:
    memory = on_the_cpu()
    blocks = memory["capacity"]["blocks"]
    held = memory["lines"][0]["bytes"] + blocks * memory["block_bytes"]
    inside, outside = 1200 * MIB, 3000 * MIB
    told = [compared(memory, Seen(cache=cache_of(blocks), resident_bytes=held + size))["warnings"]
            for size in (inside, outside)]  # fmt: skip
    assert told[0] == []
    assert told[1] == ["memory: processes took 3,000 MiB of a device, and 1,126 MiB to 2,048 MiB was predicted"]


def test_one_block_more_than_a_given_cache_should_have_is_a_warning() -> None:
    memory = on_the_cpu()
    blocks = memory["capacity"]["blocks"]
    (told,) = compared(memory, Seen(cache=cache_of(blocks + 1)))["warnings"]
    assert told.startswith(f"memory: the KV cache has {blocks + 1:,} blocks of 128 tokens, and {blocks:,} were predic")


def test_a_gpu_s_cache_may_be_anywhere_in_its_range() -> None:
    memory = memory_of(plan())
    row = compared(memory, None)["lines"][1]
    assert row["low_bytes"] < row["predicted_bytes"] < row["high_bytes"]
    low, size = row["low_bytes"] // memory["block_bytes"], memory["block_bytes"]
    inside, outside = (compared(memory, Seen(cache=cache_of(n)))["warnings"] for n in (low, low - GIB // size))
    assert [any("blocks" in one for one in told) for told in (inside, outside)] == [False, True]


def test_where_a_block_s_size_is_a_guess_its_number_tells_nothing() -> None:
    memory = on_the_cpu()
    memory["lines"][1]["basis"] = "assumed"
    told = memory["lines"][0]["bytes"] + memory["lines"][1]["bytes"]
    seen = Seen(cache=cache_of(3), resident_bytes=told + 1200 * MIB)
    assert measured_lines(memory, seen) == {"processes": 1200 * MIB}
    assert compared(memory, seen)["warnings"] == []
    others = {**memory_of(plan()), "cache_given": False}
    others["lines"][1]["basis"] = "assumed"
    assert measured_lines(others, Seen(cache=cache_of(3), said={"activations": GIB, "other": GIB})) == {}
    told_by_log = measured_lines(others, Seen(said={"activations": GIB, "other": GIB, "kv_cache": 100 * GIB}))
    assert sum(told_by_log.values()) == others["budget_bytes"] - others["lines"][0]["bytes"] - 100 * GIB


@pytest.mark.parametrize("memory", [{}, {"lines": []}, {"lines": [{"name": "weights", "bytes": 3, "basis": "exact"}]}])
def test_a_plan_without_a_ledger(memory: dict[str, Any]) -> None:
    seen = Seen(cache=cache_of(7), said={"weights": 5}, resident_bytes=9)
    assert measured_lines(memory, seen) == {}
    assert compared(memory, seen)["kv_cache"]["actual"]["blocks"] == 7
    assert compared(memory, seen)["warnings"] == []
