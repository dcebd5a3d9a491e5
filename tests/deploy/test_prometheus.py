"""Targets for Prometheus: the file's format, how it is replaced, and a real Prometheus where one is installed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.deploy.prometheus import check_target, targets, write_targets
from aim_engine.errors import CacheError
from tests.deploy.running import Answering, ended, endpoint

Start = Callable[[dict[str, Any]], Answering]


def test_a_target_for_each_that_runs_and_can_be_reached() -> None:
    known = [endpoint("one", ports=(1, 2)), endpoint("unpublished"), endpoint("ended", state=ended(0), ports=(3, 4))]
    assert targets(known) == [{"targets": ["127.0.0.1:2"], "labels": {
        "container": "one", "model": "/models/tiny", "recipe": "cpu-any-bf16", "backend": "vllm", "precision": "bf16",
        "gpu_count": "0"}}]  # fmt: skip


def test_it_is_written_where_something_changed_and_can_be_read_by_all(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    assert write_targets(path, [endpoint(ports=(1, 2))])
    assert not write_targets(path, [endpoint(ports=(1, 2))])
    assert write_targets(path, [])
    assert json.loads(path.read_text()) == []
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "targets.json"
    many = [endpoint(f"one-{index}", ports=(1, 2)) for index in range(200)]
    write_targets(path, many)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_targets(path, many[:1])
            write_targets(path, many)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {len(json.loads(path.read_text())) for _ in range(300)} <= {1, 200}
    finally:
        stop.set()
        writer.join()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="cannot be written: No such file"):
        write_targets(tmp_path / "none" / "targets.json", [])


# --- the real one ----------------------------------------------------------------------------------------------------

PROMETHEUS = shutil.which("prometheus")


def _configuration(folder: Path, targets_file: Path) -> Path:
    path = folder / "prometheus.yml"
    path.write_text(json.dumps({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "aim", "file_sd_configs": [{"files": [str(targets_file)],
                                                                    "refresh_interval": "1s"}]}],
    }))  # fmt: skip
    return path


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is not installed")
def test_promtool_accepts_it(tmp_path: Path) -> None:
    targets_file = tmp_path / "targets.json"
    write_targets(targets_file, [endpoint(ports=(1, 2), labels={"model": 'a"b\\c/\u00e9'})])
    checked = subprocess.run(["promtool", "check", "config", _configuration(tmp_path, targets_file)],
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.skipif(not PROMETHEUS, reason="prometheus is not installed (Debian: apt-get install prometheus)")
def test_a_real_prometheus_scrapes_the_targets(tmp_path: Path, answering: Start) -> None:
    assert PROMETHEUS
    metrics = "# HELP aim_engine_ready 1 while ready.\n# TYPE aim_engine_ready gauge\naim_engine_ready 1\n"
    sidecar = answering({"/metrics": metrics})
    targets_file = tmp_path / "targets.json"
    write_targets(targets_file, [endpoint("aim-one", ports=(1, sidecar.port))])
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    argv = [PROMETHEUS, f"--config.file={_configuration(tmp_path, targets_file)}",
            f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            found = _until_scraped(port)
        finally:
            running.terminate()
    assert found["metric"]["container"] == "aim-one"
    assert found["metric"]["model"] == "/models/tiny"
    assert found["value"][1] == "1"


def _until_scraped(port: int, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=aim_engine_ready") as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            continue
        if result:
            return result[0]
    raise AssertionError(f"nothing was scraped within {seconds:g} s")


def test_a_link_stays_one(tmp_path: Path) -> None:
    link, real = tmp_path / "link.json", tmp_path / "there" / "real.json"
    real.parent.mkdir()
    link.symlink_to(real)
    check_target(link)
    assert write_targets(link, [endpoint(ports=(1, 2))])
    assert link.is_symlink()
    assert json.loads(real.read_text())[0]["targets"] == ["127.0.0.1:2"]
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_a_target_that_can_never_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="there is no folder"):
        check_target(tmp_path / "none" / "x.json")
    with pytest.raises(CacheError, match="no file that you may write"):
        check_target(tmp_path)
