"""A real Prometheus for tests: what a PodMonitor says and where its pod's ports are in, queries and alerts out."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROMETHEUS = shutil.which("prometheus")
INSTANCE = "app_kubernetes_io_instance"


def scrape_configs(monitor: Mapping[str, Any], addresses: Mapping[str, str], secrets: Mapping[str, Path]) -> list[Any]:
    """A PodMonitor's endpoints as Prometheus' operator would make them, for one pod: `addresses` by the port's name,
    `secrets` the file of each key of the Secret. Once a second, which no cluster needs and a test has no time without.
    """
    instance = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"]
    namespace = monitor["metadata"]["namespace"]
    labels = {"job": f"{namespace}/{monitor['metadata']['name']}", "namespace": namespace, "pod": f"{instance}-0",
              INSTANCE: instance}  # fmt: skip
    found = []
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        config: dict[str, Any] = {
            "job_name": f"{labels['job']}/{endpoint['port']}",
            "metrics_path": endpoint["path"],
            "scheme": endpoint.get("scheme", "http"),
            "scrape_interval": "1s",
            "static_configs": [{"targets": [addresses[endpoint["port"]]], "labels": labels}],
        }  # fmt: skip
        if "authorization" in endpoint:
            credentials = secrets[endpoint["authorization"]["credentials"]["key"]]
            config["authorization"] = {"type": endpoint["authorization"]["type"], "credentials_file": str(credentials)}
        found.append(config)
    return found


class Prometheus:
    """One that runs, for a `with`."""

    def __init__(self, folder: Path, configs: list[Any], rules: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.port = unused.getsockname()[1]
        (folder / "rules.yml").write_text(json.dumps(rules))
        configuration = {
            "global": {"evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": configs,
        }
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        self._log = (folder / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL, stderr=self._log,
        )  # fmt: skip

    def __enter__(self) -> Prometheus:
        self.until(self._is_ready, 60, lambda: "it does not become ready")
        return self

    def _is_ready(self) -> bool:
        """It answers queries with 503 while it reads its data."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()

    def get(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {query}: {error.read().decode()}") from None

    def ask(self, expression: str) -> list[float]:
        """The values of now that are numbers; [] where there is none."""
        found = self.get("query", query=expression)["result"]
        return [value for one in found if not math.isnan(value := float(one["value"][1]))]

    def until(self, condition: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                assert self._process.poll() is None, self._said()
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what()}\n{self._said()}"
            time.sleep(0.3)

    def _said(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text()[-2000:]
