"""Counters from an engine's metrics and from the sidecar's status, and the rates between two looks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.counters import Counters, from_metrics, from_status, rates
from tests.building import examples

METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="/models/tiny"} 2.0
vllm:num_requests_running{engine="1",model_name="a b}{ 7"} 1.0
vllm:num_requests_waiting{engine="0",model_name="x"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="x",reason="capacity"} 100.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.1
vllm:generation_tokens_total{engine="0"} 1.5e+03 1795296926000
vllm:generation_tokens_created{engine="0"} 1.7e+09
vllm:e2e_request_latency_seconds_sum 4.5
vllm:e2e_request_latency_seconds_count 3
vllm:prompt_tokens_total NaN
"""


def test_a_real_engine_s_metrics_are_summed_over_its_copies() -> None:
    found = from_metrics(METRICS, at=1.0)
    assert (found.running, found.waiting, found.generation_tokens) == (3.0, 3.0, 1500.0)
    assert found.kv_cache_usage == pytest.approx(0.3)
    assert (found.request_seconds, found.requests) == (4.5, 3.0)
    assert found.prompt_tokens is None


def test_the_sidecar_s_counters() -> None:
    found = from_status(
        {"running": 1, "generation_tokens": 7.0, "iterations": 9, "waiting": "x", "requests": True}, 2.0
    )
    assert found == Counters(at=2.0, running=1.0, generation_tokens=7.0)


@pytest.mark.parametrize("odd", [None, [], "x", 5])
def test_no_counters(odd: Any) -> None:
    assert from_status(odd, 2.0) == Counters(at=2.0)


@examples(200)
@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert from_metrics(text, 0.0).at == 0.0


def test_rates_between_two_looks() -> None:
    before = Counters(at=10.0, generation_tokens=100, requests=2, request_seconds=4.0, prompt_tokens=0)
    after = Counters(at=12.0, generation_tokens=150, requests=4, request_seconds=7.0, prompt_tokens=10)
    found = rates(before, after)
    assert (found.tokens_per_second, found.prompt_tokens_per_second, found.requests_per_second) == (25.0, 5.0, 1.0)
    assert found.request_seconds == 1.5
    assert found.first_token_seconds is None


def test_an_engine_that_was_started_again_counts_from_nothing() -> None:
    assert rates(Counters(at=0, generation_tokens=1000), Counters(at=2, generation_tokens=10)).tokens_per_second == 5.0


def test_no_time_no_rate() -> None:
    assert rates(Counters(at=1, generation_tokens=1), Counters(at=1, generation_tokens=2)).tokens_per_second is None


def test_nothing_finished_has_no_latency() -> None:
    same = Counters(at=1, requests=3, request_seconds=9.0)
    assert rates(same, Counters(at=2, requests=3, request_seconds=9.0)).request_seconds is None
