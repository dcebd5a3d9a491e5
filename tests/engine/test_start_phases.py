"""The real vLLM on a CPU: a download that stands still. What a start shows and how long the second one has left is
tested with the start that test_remembered.py makes.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub import Model, hub_here
from tests.faults.fault import assert_ended
from tests.faults.table import fault as row
from tests.runtime.ports import free_ports
from tests.runtime.server import ROOT

from .test_remembered import ask

pytestmark = pytest.mark.engine


class Served:
    """`aim-engine serve` of a model, in a cache of its own that starts share."""

    def __init__(self, folder: Path, model: str, *more: str, environment: dict[str, str] | None = None) -> None:
        port, self.health_port = free_ports(2)
        self.state, self._log = folder / "state", folder / "log"
        words = [sys.executable, "-m", "aim_engine.cli.main", "serve", model, "--hardware", "cpu", "--cache-dir",
                 str(folder / "cache"), "--host", "127.0.0.1", "--port", str(port), "--health-port",
                 str(self.health_port), "--state-dir", str(self.state), "--fallback=0", *more]  # fmt: skip
        compiled = os.environ.get("VLLM_CACHE_ROOT") or str(Path("~/.cache/vllm").expanduser())
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT), "VLLM_CACHE_ROOT": compiled, **(environment or {})},
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        return ask(f"http://127.0.0.1:{self.health_port}/status")

    def start(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status().get("start") or {}
        return found

    def until(self, condition: Callable[[], Any], seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log[-3000:]
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.05)

    def stop(self) -> None:
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        self.process.wait()


@contextmanager
def served(folder: Path, model: str, *more: str, environment: dict[str, str] | None = None) -> Iterator[Served]:
    folder.mkdir(exist_ok=True)
    server = Served(folder, model, *more, environment=environment)
    try:
        yield server
    finally:
        server.stop()


def with_padding(data: bytes, size: int) -> bytes:
    """A safetensors file with one more tensor of so many bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    end = max(one["data_offsets"][1] for name, one in header.items() if name != "__metadata__")
    header["padding"] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :] + bytes(size)


@contextmanager
def half_downloaded(folder: Path, tiny: Path, *more: str) -> Iterator[tuple[Served, int]]:
    """One that downloads its weights from a hub which stops in the middle; with the size of the whole."""
    files = {path.name: path.read_bytes() for path in tiny.iterdir() if path.is_file()}
    # the hub's client writes in pieces of 10 MiB
    files["model.safetensors"] = with_padding(files["model.safetensors"], 64 * 2**20)
    with hub_here(tiny=Model(files=files, fault="half", fault_at="elsewhere/model.safetensors")) as hub:
        environment = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "0",
                       "HF_HUB_DOWNLOAD_TIMEOUT": "300"}  # fmt: skip
        with served(folder, "org/tiny", *more, environment=environment) as server:
            server.until(lambda: server.start().get("phase") == "download", 300)
            server.until(lambda: (server.start().get("done") or 0) > 20 * 2**20)
            yield server, len(files["model.safetensors"])


def test_a_hub_that_stops_sending_ends_the_start_and_the_bytes_are_named(
    tmp_path: Path, tiny_model: Path, whole_distribution: Path
) -> None:
    with half_downloaded(tmp_path, tiny_model, "--stall-timeout", "8") as (server, size):
        start = server.start()
        assert (start["unit"], start["total"]) == ("bytes", size)
        assert server.process.wait(120) == 52, server.log[-3000:]
        words = json.loads(server.log.strip().splitlines()[-1])
    assert "phase download (downloading the weights: 0.03 of 0.06 GiB)" in words["message"]
    for remedy in ("HTTPS_PROXY", "HF_ENDPOINT", "HF_HUB_DISABLE_XET"):
        assert remedy in words["hint"]


def test_a_stop_while_it_downloads_keeps_what_is_there(
    tmp_path: Path, tiny_model: Path, whole_distribution: Path
) -> None:
    with half_downloaded(tmp_path, tiny_model) as (server, _):
        server.process.terminate()
        code = server.process.wait(30)
        assert_ended(row("term-downloading"), code, json.loads(server.log.strip().splitlines()[-1]))
    (partial,) = (tmp_path / "hub").rglob("*.incomplete")
    assert partial.stat().st_size > 20 * 2**20
