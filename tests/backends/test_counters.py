"""An engine's Prometheus text, read by our own names."""

from __future__ import annotations

from aim_engine.backends.counters import is_asleep, read_copies, read_counters


def test_counters_are_summed_over_engines() -> None:
    text = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0",model_name="a b} c"} 2.0\n'
        'vllm:num_requests_running{engine="1",model_name="a b} c"} 1.0\n'
        'vllm:iteration_tokens_total_count{engine="0"} 7.0 1700000000\n'
        'vllm:iteration_tokens_total_bucket{le="1"} 5.0\nvllm:broken x\n'
    )
    assert read_counters(text) == {"running": 3.0, "iterations": 7.0}


def test_a_share_is_averaged_over_engines() -> None:
    text = 'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:kv_cache_usage_perc{engine="1"} 0.25\n'
    assert read_counters(text) == {"kv_cache_usage": 0.375}


def test_what_is_no_finite_number_is_left_out() -> None:
    assert read_counters("vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\n") == {}


def test_an_engine_sleeps_when_it_says_that_it_is_not_awake() -> None:
    """As vLLM 0.32 writes it (v1/metrics/loggers.py)."""
    text = ('vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} %s\n'
            'vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="discard_all"} 0.0\n')  # fmt: skip
    assert [is_asleep(text % value) for value in ("1.0", "0.0")] == [False, True]
    assert not is_asleep("")


def test_each_copy_of_the_model_by_its_number() -> None:
    text = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a,engine=\\"9\\""} 2.0
vllm:num_requests_running{engine="1",model_name="a"} 1.0
vllm:num_requests_waiting{model_name="a",engine="1"} 4.0
vllm:num_requests_running{model_name="a"} 9.0
unknown{engine="1"} 5.0
"""
    assert read_copies(text) == {"0": {"running": 2.0}, "1": {"running": 1.0, "waiting": 4.0}}
    assert read_copies("") == {}
