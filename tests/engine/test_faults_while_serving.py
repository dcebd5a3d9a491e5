"""The fault matrix, one real vLLM that serves on: a cache too small for the context, then a disk that is full, then a
state folder that is gone; and it still stops as it should.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.faults.fault import assert_serves_again
from tests.faults.serve import Given, Place, Serve, with_mount
from tests.faults.table import fault

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Its state is on a file system of one MiB that only it sees, and this test through /proc."""
    folder = tmp_path_factory.mktemp("serving")
    small = folder / "small"
    small.mkdir()
    arguments = json.dumps({"kv-cache-memory-bytes": 200_000})
    given = Given(prefix=with_mount(small, "size=1m"), environment={"AIM_ENGINE_ARGS": arguments},
                  flags=("--state-dir", str(small / "state")))  # fmt: skip
    compiled = os.environ.get("VLLM_CACHE_ROOT") or str(Path("~/.cache/vllm").expanduser())
    with ExitStack() as ends:
        found = Serve(Place(folder=folder, model=tiny_model, ends=ends), given, {"VLLM_CACHE_ROOT": compiled})
        ends.callback(found.stop)
        found.state = Path(f"/proc/{found.process.pid}/root{small}/state")
        found.until_ready(500)
        yield found


def served_name(run: Serve) -> str:
    found: str = json.loads(run.get("/v1/models", engine=True)[1])["data"][0]["id"]
    return found


def answers(run: Serve) -> bool:
    body = {"model": served_name(run), "prompt": "Hello", "max_tokens": 2}
    return run.get("/v1/completions", engine=True, body=body, seconds=30)[0] == 200


def serves_on(run: Serve, attempts: int) -> None:
    """Ready, alive and answering, in the same process."""
    assert answers(run)
    assert [run.get(f"/health/{what}")[0] for what in ("live", "ready", "startup")] == [200] * 3
    assert len(run.status()["attempts"]) == attempts


def test_a_context_that_does_not_fit_is_given_up_for_the_longest_that_does(run: Serve) -> None:
    assert_serves_again(fault("cache-smaller-than-the-context"), run.attempts())
    served = json.loads(run.get("/v1/models", engine=True)[1])["data"][0]["max_model_len"]
    assert f"AIM_MAX_MODEL_LEN={served} or less" in run.attempts()[0]["failure"]["hint"]
    assert 0 < served < 2048


def test_a_disk_that_is_full_under_the_state(run: Serve) -> None:
    row, before = fault("state-full"), run.server_pid()
    fill = run.state.parent / "fill"
    with suppress(OSError), fill.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    time.sleep(3)
    serves_on(run, 2 + row.attempts)
    fill.unlink()
    time.sleep(1)
    serves_on(run, 2 + row.attempts)
    assert run.server_pid() == before


def test_a_state_folder_that_is_gone(run: Serve) -> None:
    row, below = fault("state-removed"), run.tree()
    shutil.rmtree(run.state)
    time.sleep(3)
    serves_on(run, row.attempts)
    assert run.tree() == below
    run.signal(signal.SIGTERM)
    assert run.wait(30) == 0
    assert run.words()["class"] == "Drained"
