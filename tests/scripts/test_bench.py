"""What scripts/bench does with its samples, with a plan's command and with an engine's log. Measures nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.bench_bare import bare
from scripts.bench_load import SAMPLE_SECONDS, STREAMS, TOKENS, requests_for, tokens_of
from scripts.bench_numbers import BenchError, Result, as_rows, difference, in_turns, ratio, result
from scripts.bench_phases import ANSWER, EXEC, log_lines, phases
from scripts.bench_throughput import Round

ROOT = Path(__file__).parents[2]


def number(value: float, goal: float | None, tolerance: float | None = None) -> Result:
    return Result(name="x", value=value, unit="×", goal=goal, tolerance=tolerance, runs=1, low=value, high=value)


@pytest.mark.parametrize(
    ("value", "goal", "tolerance", "verdict", "text"),
    [
        (7.0, None, None, "–", "–"),
        (1.0, 1.0, None, "ok", "<= 1 ×"),
        (1.01, 1.0, None, "missed", "<= 1 ×"),
        (0.2, 1.0, None, "ok", "<= 1 ×"),
        (0.98, 1.0, 0.03, "ok", "1 ± 0.03 ×"),
        (1.02, 1.0, 0.03, "ok", "1 ± 0.03 ×"),
        (0.96, 1.0, 0.03, "missed", "1 ± 0.03 ×"),
        (1.04, 1.0, 0.03, "missed", "1 ± 0.03 ×"),
    ],
)
def test_a_goal(value: float, goal: float | None, tolerance: float | None, verdict: str, text: str) -> None:
    found = number(value, goal, tolerance)
    assert (found.verdict, found.goal_text) == (verdict, text)


def test_measures_take_turns() -> None:
    order: list[str] = []
    samples = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b", "a", "b"]
    assert {name: len(found) for name, found in samples.items()} == {"a": 2, "b": 2}


def test_a_result_is_the_median_of_its_runs() -> None:
    found = result("x", "s", 1.0, [3.0, 1.0, 2.0])
    assert (found.value, found.low, found.high, found.runs) == (2.0, 1.0, 3.0, 3)


def test_a_ratio_is_that_of_the_medians_and_its_range_that_of_the_turns() -> None:
    found = ratio("x", 1.0, [2.0, 4.0, 6.0], [1.0, 4.0, 8.0])
    assert (found.value, found.low, found.high, found.verdict) == (1.0, 0.75, 2.0, "ok")


def test_a_round_compares_samples_that_stand_side_by_side() -> None:
    found = Round(samples={"a": [10.0, 5.0, 1.1], "b": [10.0, 5.0, 1.0]}, notes={})
    assert (found.rate("a"), found.ratio("a", "b")) == (5.0, 1.0)
    slower = Round(samples={"a": [8.0, 4.0, 0.8], "b": [10.0, 5.0, 1.0]}, notes={})
    assert slower.ratio("a", "b") == 0.8


def test_a_difference_is_that_of_the_medians_and_its_range_that_of_the_turns() -> None:
    found = difference("x", "s", 1.0, [2.0, 4.0, 6.0], [1.0, 1.5, 2.0])
    assert (found.value, found.low, found.high, found.verdict) == (2.5, 1.0, 4.0, "missed")


def test_the_table() -> None:
    assert as_rows([number(0.98765, 1.0, 0.03), number(1234.5, None)])[2:] == [
        "| x | 0.988 × | 1 ± 0.03 × | ok | 1: 0.988 to 0.988 |",
        "| x | 1,234 × | – | – | 1: 1,234 to 1,234 |",
    ]


# --- the bare command ------------------------------------------------------------------------------------------------

COMMAND = {
    "argv": [
        *("/opt/aim-engine/venv/bin/python", "-P", "-m", "vllm", "serve", "/models/tiny", "--host", "0.0.0.0"),
        *("--port", "8000", "--middleware", "aim_engine.runtime.guard.Guard", "--middleware", "of.somebody.Else"),
    ],
    "env": {"HF_HOME": "/workspace/model-cache", "PYTHONPATH": "/workspace/model-cache/metadata"},
    "unset": ["VLLM_PORT"],
    "files": [{"path": "/workspace/model-cache/metadata/x", "text": "words"}],
}


def test_the_same_command_with_another_python_and_without_what_is_ours() -> None:
    there = bare(COMMAND, "python3")
    assert " ".join(there.argv) == (
        "env -u VLLM_PORT python3 -P -m vllm serve /models/tiny --host 0.0.0.0 --port 8000 "
        "--middleware of.somebody.Else"
    )
    assert there.env == COMMAND["env"]


def test_the_same_command_elsewhere(tmp_path: Path) -> None:
    moved = {"/workspace/model-cache": str(tmp_path), "/models/tiny": "/here/model"}
    here = bare(COMMAND, "python3", moved=moved, options={"--host": "127.0.0.1", "--port": "81"})
    assert " ".join(here.argv[3:]).startswith("python3 -P -m vllm serve /here/model --host 127.0.0.1 --port 81 ")
    assert here.env == {"HF_HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}/metadata"}
    here.write_files({})
    assert (tmp_path / "metadata/x").read_text() == "words"


def test_files_are_written_where_a_container_will_see_them(tmp_path: Path) -> None:
    bare(COMMAND, "python3").write_files({"/workspace/model-cache": str(tmp_path)})
    assert (tmp_path / "metadata/x").read_text() == "words"


# --- a start's phases ------------------------------------------------------------------------------------------------

LOG = """\
2026-11-21T20:00:03.093176808Z (APIServer pid=8) INFO non-default args: {'model': 'x'}
2026-11-21T20:00:10.5Z (APIServer pid=8) INFO Resolved architecture: Qwen3ForCausalLM
Loading safetensors checkpoint shards: 100% Completed | 1/1
2026-11-21T20:00:16Z (EngineCore pid=9) INFO Initializing a V1 LLM engine (v0.32.0) with config: y
2026-11-21T20:00:17Z (EngineCore pid=9) INFO init engine (profile, create kv cache, warmup model) took 0.01 s
"""


def test_a_line_without_a_time_is_left_out() -> None:
    lines = log_lines(LOG)
    assert len(lines) == 4
    assert lines[1][0] - lines[0][0] == pytest.approx(7.406823, abs=1e-5)
    assert lines[2][1].endswith("with config: y")


def test_phases_add_up_to_the_whole_start() -> None:
    """What is not said, the model's load here, is part of the next one."""
    lines = log_lines(LOG)
    start = lines[2][0] - 16
    found = phases(lines, start=start, executed=start + 1, answered=start + 20)
    assert found == pytest.approx(
        {
            EXEC: 1.0,
            "imports of the API server": 2.093176,
            "model inspection": 7.406824,
            "imports of the engine process": 5.5,
            "KV cache, warm-up or compilation": 1.0,
            ANSWER: 3.0,
        },
        abs=1e-5,
    )
    assert sum(found.values()) == pytest.approx(20)


def test_a_silent_engine_has_two_phases() -> None:
    assert phases([], start=5, executed=6, answered=9) == {EXEC: 1, ANSWER: 3}


# --- the load --------------------------------------------------------------------------------------------------------


def test_the_tokens_of_a_streamed_answer() -> None:
    chunk = 'data: {"choices": [{"text": "a"}], "usage": null}\n\n'
    last = f'data: {{"choices": [], "usage": {{"completion_tokens": {TOKENS}}}}}\n\n'
    assert tokens_of(chunk + last + "data: [DONE]\n\n") == TOKENS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cut short"),
        ("data: [DONE]\n\n", "cut short"),
        ('data: {"choices": []}\n\n', "cut short"),
        ('data: {"usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n', "has 3 tokens"),
        ('data: {"error": {"message": "x"}}\n\ndata: [DONE]\n\n', "has 0 tokens"),
    ],
)
def test_an_answer_that_is_not_whole_is_no_sample(text: str, reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        tokens_of(text)


def test_a_sample_lasts_long_enough() -> None:
    assert requests_for(2000) * STREAMS * TOKENS / 2000 >= SAMPLE_SECONDS
    assert requests_for(0.1) == 1


# --- the command -----------------------------------------------------------------------------------------------------


def test_an_image_cannot_be_measured_without_docker(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts/bench.py", "image"], capture_output=True, text=True,
                          env={"PATH": str(tmp_path)}, check=False)  # fmt: skip
    assert done.returncode == 1
    assert "no Docker Engine answers (there is no docker command)" in done.stderr


def test_all_without_docker_is_everything_else_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from scripts.bench import BENCHMARKS, OF_DOCKER, names_of

    monkeypatch.setenv("PATH", str(tmp_path))
    assert names_of(["all"]) == [name for name in BENCHMARKS if name not in OF_DOCKER]
    assert "NOT MEASURED: launch, image, throughput" in capsys.readouterr().err
    assert names_of(["image", "plan", "image"]) == ["image", "plan"]


def test_help_names_every_benchmark() -> None:
    from scripts.bench import BENCHMARKS

    said = subprocess.run([ROOT / "scripts/bench", "--help"], capture_output=True, text=True, check=True).stdout
    assert f"[{'|'.join(BENCHMARKS)}|all]" in said
