"""The budget of a start follows from the plan, and can be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.deploy.kubernetes.startup import startup_of, weights_bytes
from aim_engine.deploy.kubernetes.wishes import Pace
from aim_engine.plan import Plan
from tests.deploy.planning import cpu_plan, planned

QWEN_BYTES = 65_524_246_528


def test_the_reckoning() -> None:
    """60 s of processes, 900 s of compiling, 218 s to read and 655 s to download 65.5 GB; half as much again."""
    found = startup_of(planned(), Pace(), downloads=True)
    assert found.warm_seconds == 1770  # (60 + 900 + 218) * 1.5 = 1767
    assert found.cold_seconds == 2750  # (60 + 900 + 218 + 655) * 1.5 = 2749.5
    assert found.probe_seconds == 2750 + 1770
    said = " ".join(found.sentences())
    for words in ("655 s to download 61.0 GiB at 100 MB/s", "218 s to read", "900 s to compile", "2750 s", "1770 s"):
        assert words in said


def test_faster_disks_and_networks_are_believed() -> None:
    fast = Pace(network=10**10, disk=10**10, compile_seconds=30)
    assert startup_of(planned(), fast, downloads=True).probe_seconds < 400


def test_without_a_download() -> None:
    found = startup_of(planned(), Pace(), downloads=False)
    assert found.cold_seconds == found.warm_seconds
    assert "download" not in " ".join(found.sentences())


def test_what_was_asked_for_is_the_budget() -> None:
    found = startup_of(planned(start_timeout="1234.5"), Pace(), downloads=True)
    assert (found.cold_seconds, found.probe_seconds) == (1240, 2480)
    assert "AIM_START_TIMEOUT" in " ".join(found.sentences())


@pytest.mark.parametrize("plan", [planned(gpu_count="1"), planned(gpu_count="8"), planned(metric="throughput")])
def test_the_weights_are_those_of_one_copy(plan: Plan) -> None:
    """Whole on one GPU, in eighths, or a copy on each GPU."""
    found = weights_bytes(plan)
    assert found is not None
    assert QWEN_BYTES <= found < QWEN_BYTES * 1.01


def test_files_that_were_listed_say_how_much_there_is_to_read() -> None:
    """What is loaded may be less: weights are quantised on the way, or left out."""
    assert weights_bytes(replace(planned(), checkpoint_bytes=10**11)) == 10**11


def test_no_graphs_take_less() -> None:
    eager = planned(engine_args='{"enforce-eager": true}')
    assert (
        startup_of(eager, Pace(), downloads=False).cold_seconds
        < startup_of(planned(), Pace(), downloads=False).cold_seconds
    )
    assert "300 s to compile" in " ".join(startup_of(cpu_plan(), Pace(), downloads=False).sentences())
