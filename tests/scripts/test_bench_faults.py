"""What the benchmarks of stops, kills and steady load make of what they saw. Measures nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts import bench_drain, bench_recover, bench_steady
from scripts.bench_numbers import BenchError
from scripts.long_model import CONTEXT, long_prompt, longer
from scripts.serving import free_ports
from scripts.streams import Stream

TOKEN = {"choices": [{"text": "a", "finish_reason": None}]}
LAST = {"choices": [{"text": "b", "finish_reason": "length"}]}
STREAMS: dict[str, tuple[int, list[Any]]] = {
    "finished": (200, [TOKEN, LAST, "[DONE]"]),
    "refused": (503, []),
    "cut": (200, [TOKEN, TOKEN]),
}


class Engine(BaseHTTPRequestHandler):
    """Answers with the stream that the prompt names."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, chunks = STREAMS[asked["prompt"]]
        self.send_response(status)
        self.end_headers()
        for chunk in chunks:
            text = chunk if isinstance(chunk, str) else json.dumps(chunk)
            self.wfile.write(f"data: {text}\n\n".encode())

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@pytest.fixture
def engine() -> Iterator[tuple[str, int]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield "127.0.0.1", server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("became", STREAMS)
def test_what_became_of_a_stream(engine: tuple[str, int], became: str) -> None:
    stream = Stream(engine, became, 2)
    stream.run()
    assert stream.became == became
    assert (stream.has_begun, stream.error) == (True, "")


def test_an_error_in_the_stream_is_no_end() -> None:
    """vLLM ends the stream of a dead engine with [DONE] all the same."""
    stream = Stream(("127.0.0.1", 1), "x", 2)
    stream.status = 200
    stream.chunks = [json.dumps(TOKEN), json.dumps({"error": {"message": "EngineCore died", "code": 500}}), "[DONE]"]
    assert stream.became == "cut"


def test_where_nobody_listens() -> None:
    stream = Stream(("127.0.0.1", free_ports(1)[0]), "x", 2)
    stream.run()
    assert stream.became == "unheard"
    assert "refused" in stream.error


# --- drain -----------------------------------------------------------------------------------------------------------


def a_stop(finished: int = 50, refused: int = 5, cut: int = 0, code: int = 0) -> bench_drain.Stop:
    counted = {"finished": finished, "refused": refused, "cut": cut}
    return bench_drain.Stop(became=Counter(counted), receipt=counted, code=code, unready_seconds=0.1,
                            end_seconds=9.0)  # fmt: skip


@pytest.mark.parametrize(
    ("stop", "numbers"),
    [
        (a_stop(), [0, 0, 0]),
        (a_stop(finished=48, cut=2), [2, 0, 0]),
        (a_stop(refused=4), [0, 1, 0]),
        (bench_drain.Stop(became=Counter(finished=50, refused=5), receipt={"finished": 49, "refused": 5, "cut": 1},
                          code=0, unready_seconds=0.1, end_seconds=9.0), [0, 0, 1]),
        (a_stop(code=143), [0, 0, 1]),
    ],
)  # fmt: skip
def test_the_rows_of_a_stop(stop: bench_drain.Stop, numbers: list[float]) -> None:
    rows = bench_drain.rows([a_stop(), stop])
    assert [row.value for row in rows[:3]] == numbers
    assert [row.verdict for row in rows[:3]] == ["missed" if number else "ok" for number in numbers]


# --- recover ---------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_recovery() -> None:
    one = bench_recover.Round(start=16.0, core_seen=0.4, core_ready=15.0, server_seen=0.2, server_ready=17.0,
                              verdict=18.0)  # fmt: skip
    rows = {row.name: row for row in bench_recover.rows([one])}
    assert rows["recover: core killed to ready again / warm start"].verdict == "ok"
    assert rows["recover: server killed to ready again / warm start"].verdict == "missed"
    assert rows["recover: core killed to ready 503"].value == 400.0
    assert [row.verdict for name, row in rows.items() if "verdict" in name] == ["ok"]


# --- steady ----------------------------------------------------------------------------------------------------------


def timeline(folder: Path, *phases: str, failures: tuple[str, ...] = ()) -> Path:
    lines = [{"phase": phase} for phase in phases] + [{"event": "exec"}]
    (folder / "timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    attempts = [{"failure": {"class": name}} for name in failures] + [{"failure": None}]
    (folder / "attempts.json").write_text(json.dumps({"attempts": attempts}))
    return folder


def test_verdicts_are_what_came_after_it_was_ready(tmp_path: Path) -> None:
    assert bench_steady.verdicts(timeline(tmp_path, "starting", "loading", "ready")) == []
    hung = timeline(tmp_path, "starting", "ready", "failed", "restarting", failures=("EngineHung",))
    assert bench_steady.verdicts(hung) == ["failed", "restarting", "EngineHung"]


def test_the_rows_of_a_steady_load() -> None:
    seen = bench_steady.Seen(
        answers=Counter({"live 200": 10, "ready 200": 8, "ready 503": 1, "live 0": 1}),
        requests=Counter(finished=7, cut=1), prompt_tokens=6000, slowest_seconds=0.2,
    )  # fmt: skip
    rows = bench_steady.rows(seen, 60, ["failed"])
    assert [(row.value, row.verdict) for row in rows] == [
        (1, "missed"), (2, "missed"), (0.2, "ok"), (1, "missed"), (100, "–"),
    ]  # fmt: skip
    with pytest.raises(BenchError, match="no load"):
        bench_steady.rows(bench_steady.Seen(), 60, [])


def test_a_model_for_long_prompts(tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (model / name).write_text('{"max_position_embeddings": 2048, "model_max_length": 2048, "kept": 1}')
    (tmp_path / "made").mkdir()
    made = longer(model, tmp_path / "made")
    assert json.loads((made / "config.json").read_text()) == {
        "max_position_embeddings": CONTEXT, "model_max_length": 2048, "kept": 1,
    }  # fmt: skip
    assert json.loads((made / "tokenizer_config.json").read_text())["model_max_length"] == CONTEXT
    assert len(long_prompt(100)) == 100
