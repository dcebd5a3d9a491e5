"""AIM_LOG_DIR over whole runs: what the command, the parent and the engine say is in the file too, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .ports import free_ports
from .server import Server

Serve = Callable[..., Server]


def logged(folder: Path, **more: Any) -> dict[str, Any]:
    return {"log_file": str(folder / "one.log"), "log_file_bytes": 100_000, "log_file_count": 50, **more}


def written(folder: Path) -> list[str]:
    """All lines, the oldest file first."""
    files = sorted(folder.glob("one.log.*"), key=lambda one: -int(one.suffix[1:]))
    return "".join(one.read_text() for one in (*files, folder / "one.log")).splitlines()


def test_a_run_and_the_next_one_are_in_the_file_whole(serve: Serve, tmp_path: Path) -> None:
    logs, runs = tmp_path / "logs", list[str]()
    for _ in range(2):
        server = serve("--flood", "3000", **logged(logs))
        server.until_ready()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        out, err = server.out.splitlines(), server.err.splitlines()
        assert len(out) > 3000
        found = written(logs)[len(runs) :]
        assert sorted(found) == sorted([*out, *err])
        assert [line for line in found if line in set(out)] == out
        assert found[-1] == err[-1]
        assert json.loads(found[-1])["class"] == "Drained"
        runs += found
    assert len(list(logs.iterdir())) > 3
    assert all(one.stat().st_size <= 100_000 for one in logs.iterdir())


def test_as_json_it_holds_the_same_objects(serve: Serve, tmp_path: Path) -> None:
    server = serve("--exit", "3", log_format="json", **logged(tmp_path / "logs"))
    server.wait()
    found = written(tmp_path / "logs")
    assert sorted(found) == sorted([*server.out.splitlines(), *server.err.splitlines()])
    assert {json.loads(line).get("source") for line in found} >= {"engine", "watch", None}
    assert json.loads(found[-1]) == server.words()


@pytest.mark.parametrize("trouble", ["no folder", "a link", "taken away"])
def test_a_file_that_cannot_be_written_is_one_warning(serve: Serve, tmp_path: Path, trouble: str) -> None:
    logs = tmp_path / "logs"
    if trouble == "no folder":
        logs.write_text("")
    elif trouble == "a link":
        logs.mkdir()
        (logs / "one.log").symlink_to(tmp_path / "victim")
    server = serve(**logged(logs))
    server.until_ready()
    if trouble == "taken away":
        shutil.rmtree(logs)
        logs.write_text("")
    server.behave(do="exit", code=0, say="the last word")
    server.wait()
    assert "the last word" in server.out
    assert server.err.count("cannot be written by uid") == 1
    assert server.words()["code"] == 51
    assert not (tmp_path / "victim").exists()


def test_without_it_nothing_is_written(serve: Serve, tmp_path: Path) -> None:
    server = serve("--exit", "0")
    server.wait()
    assert list(tmp_path.rglob("*.log*")) == [server.state / "supervisord.log"]


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`aim-engine serve` as a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "aim_engine.cli.main", "serve", *words]
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
               "AIM_LOG_DIR": str(tmp_path / "logs"), **environment}  # fmt: skip
        found = subprocess.Popen(argv, env=env, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)  # fmt: skip
        started.append(found)
        return found

    yield start
    for found in started:
        found.kill()
        found.communicate()


def test_a_refusal_is_in_the_file_as_it_is_on_stderr(command: Any, tmp_path: Path) -> None:
    _, said = command("org/none", "--hardware", "MI300X:1", "--port", "8123", AIM_OFFLINE="1", AIM_NO_SUCH="x",
                      AIM_API_KEY="s3cret").communicate(timeout=60)  # fmt: skip
    found = (tmp_path / "logs" / "org-none-8123.log").read_text()
    assert found == said
    assert "AIM_NO_SUCH is not a setting" in found
    assert json.loads(found.splitlines()[-1])["code"] in (10, 30, 40)
    assert "s3cret" not in found


def test_a_setting_that_is_wrong_is_in_the_file(command: Any, tmp_path: Path) -> None:
    _, said = command("org/none", AIM_PRECISION="fp7", AIM_LOG_NAME="mine").communicate(timeout=60)
    assert (tmp_path / "logs" / "mine.log").read_text() == said
    assert "AIM_PRECISION" in said


@pytest.mark.parametrize("name", ["../x", "/etc/x", ".", "a/b", "a\nb"])
def test_a_name_that_would_leave_the_folder_is_refused(command: Any, tmp_path: Path, name: str) -> None:
    process = command("org/none", AIM_LOG_NAME=name)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 10
    assert "AIM_LOG_NAME" in said
    assert not list(tmp_path.rglob("x*"))


def test_one_that_stays_up_writes_on(command: Any, tmp_path: Path) -> None:
    port, health_port = free_ports(2)
    process = command(
        "org/none", "--hardware", "MI300X:1", "--host", "127.0.0.1", "--port", str(port), "--health-port",
        str(health_port), AIM_KEEP_ALIVE="1", AIM_OFFLINE="1", AIM_LOG_NAME="stays",
        AIM_STATE_DIR=str(tmp_path / "state"),
    )  # fmt: skip
    said = ""
    while "staying up" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGTERM)
    said += process.communicate(timeout=30)[1]
    assert (tmp_path / "logs" / "stays.log").read_text() == said
