"""`aim-engine fit`: a table over all GPUs, line by line for those that are named, and its refusals."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Run

MODEL = "Qwen/Qwen3-32B"


def test_every_gpu(cli: Run) -> None:
    done = cli("fit", MODEL)
    assert done.code == 0
    lines = done.stdout.splitlines()
    row = next(line for line in lines if line.startswith("MI210 ") and "bf16" in line)
    assert row.split()[:7] == ["MI210", "64.0", "GiB", "bf16", "2", "40,960", "39.2"]
    assert "█▓▓▒" in row
    assert any("W7900" in line and "does not compute" in line for line in lines)


def test_one_kind_line_by_line(cli: Run) -> None:
    done = cli("fit", MODEL, "--hardware", "MI300X:8", "--context", "32768", "--concurrency", "16")
    assert done.code == 0
    assert "2 x MI300X in bf16\n" in done.stdout
    assert "  weights         30.5 GiB  computed" in done.stdout
    assert "  kv cache        64.0 GiB  computed  32,768 tokens x 16" in done.stdout
    assert "1 x MI300X in fp8\n" in done.stdout


def test_as_json(cli: Run) -> None:
    found = cli("fit", MODEL, "--precision", "fp8", "--hardware", "MI355X:1", "--json").json
    (row,) = found["fits"]
    assert (row["gpu"], row["precision"], row["gpu_count"], row["max_model_len"]) == ("MI355X", "fp8", 1, 40960)
    assert row["memory"]["fits"]
    assert sum(line["bytes"] for line in row["memory"]["lines"]) == row["memory"]["total_bytes"]


def test_over_nodes_it_counts_the_gpus_of_each(cli: Run) -> None:
    one, two = (
        cli("fit", MODEL, "--precision", "bf16", "--hardware", "MI210:8", "--nodes", nodes, "--json").json
        for nodes in ("1", "2")
    )
    assert (one["nodes"], one["fits"][0]["gpu_count"]) == (1, 2)
    assert (two["nodes"], two["fits"][0]["gpu_count"]) == (2, 1)
    page = cli("fit", MODEL, "--nodes", "2", "--precision", "bf16").stdout
    assert "1 request of full length at once, over 2 nodes" in page
    assert "  of each  " in page


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([MODEL, "--hardware", "RX 9070 GRE:1"], 21, "fits on none of these"),
        (["org/nobody", "--offline"], 30, "the numbers of org/nobody are not known"),
        ([MODEL, "--hardware", "cpu"], 10, "no GPU whose facts are known"),
        ([MODEL, "--context", "x"], 10, "--max-model-len"),
        ([MODEL, "--context", "1000000"], 10, "1,000,000 tokens are more than the model's own 40,960"),
        ([], 10, "no model"),
    ],
)
def test_refused(cli: Run, words: list[str], code: int, message: str) -> None:
    done = cli("fit", *words)
    assert done.code == code
    assert message in done.last_words["message"]
