"""A run under test: plan in, a real process tree with ports, state and output to look at out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aim_engine.runtime.processes import descendants

from .ports import free_ports

ROOT = Path(__file__).parents[2]
SERVE_PLAN = Path(__file__).with_name("serve_plan.py")
FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


def fake_plan(
    folder: Path, *arguments: str, ladder: Sequence[Mapping[str, Any]] = (), **runtime: Any
) -> dict[str, Any]:
    """A plan that starts the fake engine; `runtime` replaces values of the plan's runtime part."""
    port, health_port = free_ports(2)
    base = f"http://127.0.0.1:{port}"
    return {
        "recipe_id": 'fake "quoted"',
        "model_id": "org/fake",
        "huggingface_id": "org/fake",
        "backend": "fake",
        "precision": "bf16",
        "ladder": list(ladder),
        "command": {
            "argv": [sys.executable, "-I", "-S", str(FAKE_ENGINE), "--port", str(port), *arguments],
            "env": {"ADDED": "yes"},
            "unset": ["REMOVED"],
            "served_names": ["fake"],
            "urls": {
                "base": base,
                "health": f"{base}/health",
                "metrics": f"{base}/metrics",
                "models": f"{base}/v1/models",
                "load": f"{base}/load",
                "probe": f"{base}/v1/completions",
            },
            "probe_body": {"model": "fake", "prompt": "Hello", "max_tokens": 1},
        },
        "runtime": {
            "state_dir": str(folder / "state"),
            "cache_dir": str(folder / "cache"),
            "host": "127.0.0.1",
            "port": port,
            "health_port": health_port,
            "log_level": "info",
            "log_format": "text",
            "start_timeout_seconds": 60.0,
            "hang_timeout_seconds": 120.0,
            "drain_timeout_seconds": 10.0,
            "keep_alive": False,
            "fallback": True,
            "max_retries": 0,
            **runtime,
        },
    }


class Server:
    """A started run. `stop` at the end, always."""

    def __init__(
        self,
        plan: Mapping[str, Any],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        prefix: Sequence[str] = (),
    ) -> None:
        file = folder / "given-plan.json"
        file.write_text(json.dumps(plan))
        self.begin(plan, folder, [*prefix, sys.executable, str(SERVE_PLAN), str(file)],
                   {**os.environ, **(environment or {})})  # fmt: skip

    def begin(self, plan: Mapping[str, Any], folder: Path, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start it; of the plan the ports and the state folder are used, of the environment all."""
        self.plan = plan
        self.state = Path(plan["runtime"]["state_dir"])
        self._out, self._err = folder / "stdout", folder / "stderr"
        self.started = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=dict(environment),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def words(self) -> dict[str, Any]:
        """The last line of stderr."""
        value: dict[str, Any] = json.loads(self.err.strip().splitlines()[-1])
        return value

    def get(self, path: str, *, engine: bool = False, body: Any = None, seconds: float = 5) -> tuple[int, str]:
        """Ask the sidecar, or the engine; status 0 is no answer."""
        port = self.plan["runtime"]["port" if engine else "health_port"]
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status")[1] or "{}")
        return found

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> float:
        """Wait for `condition`; how long it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"not reached in {seconds} s:\n{self.out}\n{self.err}"
            time.sleep(0.01)
        return time.monotonic() - began

    def until_ready(self, seconds: float = 60) -> float:
        return self.until(lambda: self.get("/health/ready")[0] == 200, seconds)

    def read(self, name: str) -> Any:
        file = self.state / name
        return json.loads(file.read_text()) if file.exists() else None

    def server_pid(self) -> int:
        file = self.state / "server.pid"
        return int(file.read_text().split()[0]) if file.exists() else 0

    def behave(self, **what: Any) -> None:
        self.get("/behave", engine=True, body=what)

    def tree(self) -> set[int]:
        """Everything below the parent."""
        return {process.identity.pid for process in descendants(self.process.pid)}

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def wait(self, seconds: float = 45) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end in {seconds} s:\n{self.out}\n{self.err}") from None

    def stop(self) -> None:
        """End it whatever it takes; leave nothing."""
        below = self.tree()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                below |= self.tree()
                self.process.kill()
                self.process.wait()
                for pid in below:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
