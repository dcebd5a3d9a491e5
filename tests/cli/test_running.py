"""list, status, logs, stop, restart and watch, against a stand-in Docker Engine and endpoints that answer as told."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.cli.stop import Narration
from aim_engine.deploy.stopping import Progress
from aim_engine.errors import ModelAccessError
from tests.cli.conftest import Run
from tests.deploy.running import READY, Answering, FakeDocker, ended

Ports = tuple[int, int]
METRICS = "vllm:num_requests_running 2\nvllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc 0.25\n"
PLAN = {
    "recipe_id": "cpu-any-bf16", "huggingface_id": "org/checkpoint", "max_model_len": 2048,
    "warnings": ["mind the gap"],
    "evidence": {"level": "derived", "source": "a paper\x1b[2J"},
    "memory": {"lines": [{"name": "weights", "bytes": 3 << 30, "basis": "exact"}],
               "total_bytes": 4 << 30, "budget_bytes": 9 << 30},
}  # fmt: skip
STATUS = {
    **READY, "engine": {"running": 2.0}, "plan": PLAN,
    "timeline": [{"phase": "loading", "at": 1.0, "seconds": 62.0}, {"phase": "ready", "at": 63.0, "seconds": 9.0}],
    "attempts": [{"number": 1, "ended": 2.0, "failure": {"message": "it crashed"}, "evidence": "/c/kept"},
                 {"number": 2, "failure": None}],
}  # fmt: skip


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    server = FakeDocker()
    yield server
    server.close()


@pytest.fixture
def ports() -> Iterator[Ports]:
    """A ready endpoint's API and health ports; a hundred tokens further at every look."""
    counted = iter(range(0, 100_000, 100))
    api, sidecar = Answering(), Answering()
    api.routes = {"/metrics": lambda _: f"{METRICS}vllm:generation_tokens_total {next(counted)}\n"}
    sidecar.routes = {"/status": STATUS, "/plan": PLAN}
    yield api.port, sidecar.port
    api.close()
    sidecar.close()


Aim = Callable[..., Any]


@pytest.fixture
def aim(cli: Run, docker: FakeDocker) -> Aim:
    return lambda *words, **environment: cli(*words, DOCKER_HOST=docker.host, **environment)


COMPARED = {
    "lines": [{"name": "weights", "predicted_bytes": 3 << 30, "actual_bytes": 3 << 30, "basis": "exact"},
              {"name": "activations", "predicted_bytes": 2 << 30, "actual_bytes": None, "basis": "assumed"},
              {"name": "device context + graphs", "predicted_bytes": 3 << 30, "actual_bytes": 5 << 30,
               "basis": "assumed"}],
    "kv_cache": {"predicted": {"blocks": 9, "tokens": 4000}, "actual": {"blocks": 9, "tokens": 3999}},
    "warnings": ["memory: it took more"],
}  # fmt: skip


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_shows_each_with_its_health_and_speed(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-ready", ports=ports, labels={"gpu-count": "4", "gpu-type": "MI300X"})
    docker.add("aim-silent", ports=(1, 2))
    docker.add("aim-ended", state=ended(40))
    done = aim("list")
    assert done.code == 0, done.stderr
    head, ready, silent = done.stdout.splitlines()
    assert head.split() == ["name", "model", "state", "health", "gpus", "up", "tokens/s", "api"]
    assert ready.split()[:4] == ["aim-ready", "/models/tiny", "running", "ready"]
    assert "4 x MI300X" in ready
    assert ready.endswith(f" http://127.0.0.1:{ports[0]}/v1")
    assert "no answer" in silent
    assert "aim-silent: Connection refused" in done.stderr


def test_list_all_for_programs(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-ready", ports=ports)
    docker.add("aim-ended", state=ended(40))
    gone, ready = aim("list", "--all", "--json").json
    assert (gone["state"], gone["exit_code"], gone["tokens_per_second"]) == ("exited", 40, None)
    assert (ready["health"]["word"], ready["phase"], ready["requests_waiting"]) == ("ready", "ready", 1)
    assert ready["tokens_per_second"] == pytest.approx(100, rel=0.3)
    assert ready["uptime_seconds"] > 0


def test_list_shows_what_was_created_and_never_started(aim: Aim, docker: FakeDocker) -> None:
    """It has its GPUs, and a launch that was killed leaves it."""
    docker.add("aim-left", state={"Status": "created", "Running": False, "StartedAt": "0001-01-01T00:00:00Z"})
    docker.add("aim-dead", state={"Status": "dead", "Running": False})
    done = aim("list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", "aim-left"]
    assert "aim-left: created and never started; aim-engine stop aim-left removes it" in done.stderr


def test_list_of_nothing(aim: Aim) -> None:
    done = aim("list")
    assert (done.code, done.stdout) == (0, "")
    assert "no endpoint runs on this host" in done.stderr
    assert aim("list", "--json").json == []


def test_hostile_labels_and_answers_reach_no_terminal(aim: Aim, docker: FakeDocker) -> None:
    sidecar = Answering()
    sidecar.routes = {"/status": {"phase": "load\x1b[2J\x9bing", "reason": "\x1b]0;owned\x07\u202e"}}
    docker.add("aim-evil", labels={"model": "a\x1b[31m\r\nb\x9b"}, ports=(None, sidecar.port))
    for words in (("list",), ("list", "--json"), ("status", "aim-evil"), ("status", "aim-evil", "--json"),
                  ("watch", "--once"), ("watch", "--once", "--json")):  # fmt: skip
        done = aim(*words)
        assert not {char for char in done.stdout + done.stderr if char in "\x1b\x9b\x07\u202e\r"}, words
        assert "aim-evil" in done.stdout
    sidecar.close()


def test_the_key_is_in_nothing_that_is_said(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-ready", ports=ports)
    for words in (("list",), ("status", "aim-ready", "--json"), ("watch", "--once")):
        done = aim(*words, AIM_API_KEY="s3cret-of-this-test")
        assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "words", [("list",), ("status", "x"), ("logs", "x"), ("stop", "x"), ("restart", "x"), ("watch",)]
)
def test_no_docker_is_60(cli: Run, words: tuple[str, ...]) -> None:
    done = cli(*words, DOCKER_HOST="unix:///nonexistent/docker.sock")
    assert done.code == 60
    assert done.last_words["class"] == "Docker"
    assert done.last_words["hint"]


@pytest.mark.parametrize("command", ["status", "logs", "stop", "restart"])
def test_no_such_endpoint_is_10_with_near_names(aim: Aim, docker: FakeDocker, command: str) -> None:
    docker.add("aim-engine-qwen-4gpu")
    done = aim(command, "aim-engine-qwen-2gpu")
    assert done.code == 10
    assert "did you mean aim-engine-qwen-4gpu?" in done.last_words["hint"]


# --- status -----------------------------------------------------------------------------------------------------------


def test_status_says_everything(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-ready", ports=ports, labels={"gpus": "0000:05:00.0", "gpu-count": "1", "gpu-type": "MI300X"})
    done = aim("status", "aim-ready")
    assert done.code == 0, done.stderr
    for words in ("aim-ready: ready", "org/checkpoint", "2,048 tokens", "derived: a paper\ufffd[2J", "(0000:05:00.0)",
                  "2 running, 1 waiting", "25% in use", "loading     1 min 2 s", "1: it crashed",
                  "evidence: /c/kept", "2: it runs",
                  "3.0 GiB  exact", "4.0 GiB  of 9.0 GiB the engine may take", "served as   tiny",
                  f"api         http://127.0.0.1:{ports[0]}/v1\n", "mind the gap"):  # fmt: skip
        assert words in done.stdout, done.stdout


def test_status_shows_what_was_predicted_beside_what_it_took(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    sidecar = Answering()
    sidecar.routes = {"/status": {**STATUS, "memory": COMPARED}, "/plan": PLAN}
    docker.add("aim-ready", ports=(ports[0], sidecar.port))
    shown = aim("status", "aim-ready").stdout
    sidecar.close()
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    for row in ("predicted actual difference basis", "weights 3.0 GiB 3.0 GiB exact exact",
                "activations 2.0 GiB – assumed", "device context + graphs 3.0 GiB 5.0 GiB +2.0 GiB assumed",
                "room for 4,000 3,999 tokens"):  # fmt: skip
        assert row in rows, shown
    assert "memory: it took more" in shown
    assert "4.0 GiB  of 9.0 GiB the engine may take" in shown


@pytest.mark.parametrize(
    "memory", [[], {"lines": "x", "kv_cache": []}, {"lines": [3, {}, {"predicted_bytes": True}], "warnings": {}},
               {"kv_cache": {"predicted": {"tokens": 3}, "actual": None}},
               {"lines": [{"predicted_bytes": 1, "actual_bytes": "x"}]}]
)  # fmt: skip
def test_a_memory_that_says_nothing_leaves_the_plan_s(
    aim: Aim, docker: FakeDocker, ports: Ports, memory: object
) -> None:
    sidecar = Answering()
    sidecar.routes = {"/status": {**STATUS, "memory": memory}, "/plan": PLAN}
    docker.add("aim-ready", ports=(ports[0], sidecar.port))
    shown = aim("status", "aim-ready")
    sidecar.close()
    assert (shown.code, "predicted" in shown.stdout) == (0, False)
    assert "3.0 GiB  exact" in shown.stdout


def test_status_of_one_that_starts_says_how_far_it_is(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    start = {"phase": "load", "words": "loading the weights: 3 of 8 shards", "eta_seconds": 41.0,
             "eta_basis": "the last start",
             "phases": [{"phase": "resolve", "seconds": 7.0}, {"phase": "load", "seconds": 12.0}]}  # fmt: skip
    sidecar = Answering()
    sidecar.routes = {"/status": {**STATUS, "phase": "loading", "ready": False, "start": start}, "/plan": PLAN}
    docker.add("aim-loading", ports=(ports[0], sidecar.port))
    shown = aim("status", "aim-loading").stdout
    late = {**start, "eta_seconds": None}
    sidecar.routes = {"/status": {**STATUS, "phase": "loading", "ready": False, "start": late}, "/plan": PLAN}
    unknown = aim("status", "aim-loading").stdout
    sidecar.close()
    for text in ("Start\n  resolve     7 s", "load        12 s", "3 of 8 shards", "41 s left: the last start"):
        assert text in shown
    assert "time left not known: the last start" in unknown


def test_status_for_programs(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-ready", ports=ports)
    found = aim("status", "aim-ready", "--json").json
    assert found["plan"]["recipe_id"] == "cpu-any-bf16"
    assert found["status"]["timeline"][0]["phase"] == "loading"
    assert found["ending"] is None


def test_status_of_one_that_has_ended_gives_its_last_words(aim: Aim, docker: FakeDocker) -> None:
    words = json.dumps({**ModelAccessError("the model is gated", hint="set HF_TOKEN").as_json(), "evidence": "/c/e"})
    docker.add("aim-ended", state=ended(40), log=((1, "loading\n"), (2, words + "\n")))
    done = aim("status", "aim-ended")
    assert done.code == 0
    assert "exited (40)" in done.stdout
    assert "the model is gated" in done.stdout
    assert "remedy: set HF_TOKEN" in done.stdout
    assert "evidence: /c/e" in done.stdout
    ending = aim("status", "aim-ended", "--json").json["ending"]
    assert (ending["exit_code"], ending["error"]["class"]) == (40, "ModelAccess")
    assert ending["last_words"]["message"] == "the model is gated"


def test_status_of_one_that_does_not_answer_is_61(aim: Aim, docker: FakeDocker) -> None:
    docker.add("aim-silent", ports=(1, 2))
    done = aim("status", "aim-silent")
    assert done.code == 61
    assert "aim-silent: no answer" in done.stdout
    assert "does not answer at http://127.0.0.1:2" in done.last_words["message"]


@pytest.mark.parametrize(
    "odd", [[], "x", 5, {"memory": 5, "evidence": 5, "warnings": 5}, {"memory": {"lines": [5, {}]}}]
)
def test_an_odd_plan_does_no_harm(aim: Aim, docker: FakeDocker, odd: Any) -> None:
    sidecar = Answering()
    sidecar.routes = {"/status": {**READY, "timeline": 5, "attempts": [5], "engine": 5}, "/plan": odd}
    docker.add("aim-odd", ports=(None, sidecar.port))
    assert aim("status", "aim-odd").code == 0
    sidecar.close()


def test_numbers_that_are_none_reach_nobody(aim: Aim, docker: FakeDocker) -> None:
    timeline = (
        '[{"phase": "loading", "seconds": NaN}, {"phase": "x", "seconds": Infinity}, {"phase": "y", "seconds": 3}]'
    )
    sidecar = Answering()
    sidecar.routes = {"/status": f'{{"phase": "ready", "ready": true, "live": true, "timeline": {timeline}}}',
                      "/plan": '{"memory": {"lines": [{"name": "a", "bytes": ' + "9" * 400 + "}]}}"}  # fmt: skip
    docker.add("aim-odd", ports=(None, sidecar.port))
    done = aim("status", "aim-odd")
    assert done.code == 0, done.stderr
    assert "y           3 s" in done.stdout
    told = aim("status", "aim-odd", "--json").stdout
    assert json.loads(told, parse_constant=pytest.fail)["status"]["timeline"][0]["seconds"] is None
    sidecar.close()


def test_a_key_that_cannot_be_sent_is_10(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-one", ports=ports)
    for words in (("list",), ("status", "aim-one"), ("watch", "--once"), ("stop", "aim-one")):
        done = aim(*words, AIM_API_KEY="\u043a\u043b\u044e\u0447")
        assert done.code == 10, done.stderr
        assert "AIM_API_KEY" in done.last_words["message"]
        assert "\u043a\u043b\u044e\u0447" not in done.stdout + done.stderr
    assert len(docker.containers) == 1


def test_status_finds_a_folder_by_its_other_names(
    aim: Aim, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path.resolve() / "models" / "tiny"
    folder.mkdir(parents=True)
    mounts = [{"Type": "bind", "Source": str(folder), "Destination": "/models/tiny"}]
    docker.add("aim-one", labels={"model": "models/tiny"}, Mounts=mounts)
    monkeypatch.chdir(tmp_path)
    for typed in ("models/tiny", "./models/tiny", str(folder), "models/../models/tiny/"):
        done = aim("status", typed)
        assert done.code == 0, done.stderr
        assert f"folder      {folder}\n" in done.stdout
    (folder / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert aim("stop", "models/tiny", "--replicas").code == 10  # the same words for another folder
    assert aim("status", "aim-one", "--json").json["model_folder"] == str(folder)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_logs_keep_the_streams_apart_and_as_they_are(aim: Aim, docker: FakeDocker) -> None:
    docker.add("aim-one", log=((1, "out \x1b[31mred\n"), (2, "error\n"), (1, "more\n")))
    done = aim("logs", "aim-one")
    assert (done.code, done.stdout, done.stderr) == (0, "out \x1b[31mred\nmore\n", "error\n")
    assert aim("logs", "aim-one", "--tail", "1", "-f").stdout == "more\n"


@pytest.mark.parametrize("words", [("--tail", "-3"), ("--tail", "many"), ("--since", "yesterday")])
def test_logs_refuse_what_they_cannot_read(aim: Aim, docker: FakeDocker, words: tuple[str, ...]) -> None:
    docker.add("aim-one")
    done = aim("logs", "aim-one", *(f"{words[0]}={words[1]}",))
    assert done.code == 10, done.stderr


# --- stop and restart -------------------------------------------------------------------------------------------------


def test_logs_that_cannot_be_written_are_a_full_disk(docker: FakeDocker) -> None:
    for stream, name in ((1, "stdout"), (2, "stderr")):
        docker.add("aim-one", log=((stream, "a line\n"),))
        argv = [sys.executable, "-m", "aim_engine.cli.main", "logs", "aim-one"]
        environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": docker.host}
        with Path("/dev/full").open("w") as full:
            streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, name: full}
            done = subprocess.run(argv, **streams, text=True, env=environment, check=False)
        assert done.returncode == 42
        if name == "stdout":
            assert "cannot be written to stdout: No space left on device" in done.stderr
            assert "Traceback" not in done.stderr
            assert "Exception" not in done.stderr


def test_stop_says_where_the_log_stays(aim: Aim, docker: FakeDocker) -> None:
    mounts = [{"Type": "bind", "Source": "/var/log/aim", "Destination": "/workspace/logs"}]
    docker.add(environment=("AIM_LOG_DIR=/workspace/logs", "AIM_LOG_NAME=mine"), Mounts=mounts)
    done = aim("status", "aim-one")
    assert "log file    /var/log/aim/mine.log" in done.stdout
    assert aim("stop", "aim-one").stdout.endswith("; its log stays in /var/log/aim/mine.log\n")


def test_stop_says_what_it_freed(aim: Aim, docker: FakeDocker) -> None:
    docker.add("aim-one", labels={"gpu-count": "2", "gpus": "0000:05:00.0,0000:06:00.0"}, ports=(8000, 8080))
    docker.add("aim-two")
    done = aim("stop", "aim-one")
    assert done.code == 0, done.stderr
    assert done.stdout == (
        "aim-one: stopped after 0 s, removed; freed 2 GPUs (0000:05:00.0, 0000:06:00.0), ports 8000, 8080\n"
    )
    assert len(docker.containers) == 1


def test_stop_all_for_programs(aim: Aim, docker: FakeDocker) -> None:
    docker.add("aim-one")
    docker.add("aim-ended", state=ended(51))
    stranger = docker.add("stranger")
    stranger["Config"]["Labels"] = {}
    found = {one["name"]: one for one in aim("stop", "--all", "--json").json}
    assert set(found) == {"aim-one", "aim-ended"}
    assert found["aim-ended"]["was_running"] is False
    assert list(docker.containers) == [stranger["Id"]]
    done = aim("stop", "--all")
    assert (done.code, done.stderr) == (0, "no endpoint is on this host\n")


def test_stop_replicas_ends_what_was_launched_together(aim: Aim, docker: FakeDocker) -> None:
    for group, number in (("a", 1), ("a", 2), ("b", 1)):
        docker.add(f"{group}-{number}", labels={"replica-group": group, "replica": str(number), "model": "q/w"})
    docker.add("other", labels={"model": "x/y"})
    assert aim("stop", "q/w").code == 10
    assert [one["name"] for one in aim("stop", "a-1", "--replicas", "--json").json] == ["a-1", "a-2"]
    docker.add("a-3", labels={"model": "q/w"})
    assert [one["name"] for one in aim("stop", "Q/w", "--replicas", "--json").json] == ["a-3", "b-1"]
    assert [one["name"] for one in aim("stop", "other", "--replicas", "--json").json] == ["other"]
    assert aim("stop", "--all", "--replicas").code == 2
    assert aim("stop", "other", "--replicas").code == 10


def test_stop_keeps_and_is_patient_as_told(aim: Aim, docker: FakeDocker) -> None:
    docker.add("aim-one")
    assert "kept" in aim("stop", "aim-one", "--keep", "--timeout", "7").stdout
    assert any(path.endswith("/stop?t=7") for _, path, _ in docker.asked)
    assert len(docker.containers) == 1


def test_stop_reports_requests_that_were_cut_short(aim: Aim, docker: FakeDocker) -> None:
    docker.on_stop = lambda one: one["State"].update(ended(143))
    docker.add("aim-one")
    docker.add("aim-two")
    done = aim("stop", "aim-one", "aim-two")
    assert done.code == 143
    assert done.stdout.count("cut short") == 2


def test_stop_tells_progress_of_a_long_one(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    def slowly(one: dict[str, Any]) -> None:
        time.sleep(3.6)
        one["State"].update(ended(0))

    docker.on_stop = slowly
    docker.add("aim-one", ports=ports)
    done = aim("stop", "aim-one")
    assert done.code == 0
    assert "aim-one: 3 requests left, " in done.stderr
    assert "of at most 90 s" in done.stderr


def narrated(lively: bool, *told: tuple[float, int | None]) -> list[str]:
    said: list[str] = []
    narration = Narration(say=said.append, lively=lively)
    for seconds, requests in told:
        narration([Progress(name="a", seconds=seconds, allowed_seconds=90, requests=requests)])
    return said


def test_stop_says_in_a_log_what_changes_and_not_every_second() -> None:
    told = [(float(second), 3 if second < 5 else 1 if second < 30 else None) for second in range(1, 40)]
    assert narrated(False, *told) == [
        "a: 3 requests left, 2 s of at most 90 s", "a: 1 request left, 12 s of at most 90 s",
        "a: finishing, 30 s of at most 90 s",
    ]  # fmt: skip
    assert len(narrated(True, *told)) == 38


@pytest.mark.parametrize(("words", "code"), [((), 2), (("--all", "x"), 2), (("x", "--timeout", "soon"), 10)])
def test_stop_wants_to_know_which(aim: Aim, words: tuple[str, ...], code: int) -> None:
    assert aim("stop", *words).code == code


def test_restart_waits_until_it_is_ready(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-one", ports=ports, state=ended(0))
    done = aim("restart", "aim-one")
    assert done.code == 0, done.stderr
    assert done.stdout == f"aim-one is ready after 0 s at http://127.0.0.1:{ports[0]}/v1\n"
    assert "  ready" in done.stderr
    assert aim("restart", "aim-one", "--detach", "--json").json["ready"] is False


def test_restart_of_one_that_ends_again(aim: Aim, docker: FakeDocker) -> None:
    words = json.dumps(ModelAccessError("the model is gated").as_json())
    docker.add("aim-one", state=ended(40), log=((2, words),))
    docker.on_inspect = lambda one: one["State"].update(ended(40))
    assert aim("restart", "aim-one").code == 40


# --- watch ------------------------------------------------------------------------------------------------------------


def test_watch_once_has_rates(aim: Aim, docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-one", ports=ports, RestartCount=2)
    head, line = aim("watch", "--once").stdout.splitlines()
    assert head.split()[:4] == ["name", "health", "running", "waiting"]
    assert line.split()[:4] == ["aim-one", "ready", "2", "1"]
    assert "25%" in line
    row = aim("watch", "--once", "--json").json
    assert row["tokens_per_second"] == pytest.approx(100, rel=0.4)
    assert (row["restarts"], row["sensors"]["power_watts"]) == (3, None)


def test_watch_keeps_a_file_for_prometheus(aim: Aim, docker: FakeDocker, tmp_path: Path) -> None:
    docker.add("aim-one", ports=(1, 2))
    targets = tmp_path / "targets.json"
    assert aim("watch", "--once", "--prometheus", str(targets)).code == 0
    assert json.loads(targets.read_text())[0]["targets"] == ["127.0.0.1:2"]
    assert aim("watch", "--once", "--prometheus", str(tmp_path / "none" / "x")).code == 42


def test_watch_goes_on_where_a_disk_is_full_and_writes_when_it_is_not(
    docker: FakeDocker, ports: Ports, tmp_path: Path
) -> None:
    """No file may grow (a limit of the kernel's, that this process lifts again) in place of a full disk."""
    docker.add("aim-one", ports=ports)
    targets = tmp_path / "targets.json"
    targets.write_text("[]")
    argv = ["prlimit", "--fsize=0:", sys.executable, "-m", "aim_engine.cli.main", "watch", "--json",
            "--interval", "0.2", "--prometheus", str(targets)]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": docker.host}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout
        assert running.stderr
        warning = running.stderr.readline()
        rows = [json.loads(running.stdout.readline()) for _ in range(4)]
        kept = targets.read_text()
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        wrote = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=10)
    assert "cannot be written: File too large; the old list stays" in warning
    assert "df -h" in warning
    assert ([row["name"] for row in rows], kept) == (["aim-one"] * 4, "[]")
    assert (wrote, rest, running.returncode) == (f"wrote {targets}\n", "", 0)
    assert json.loads(targets.read_text())[0]["targets"] == [f"127.0.0.1:{ports[1]}"]
    assert list(tmp_path.iterdir()) == [targets]


@pytest.mark.parametrize("interval", ["0", "nan", "x", "1e9"])
def test_watch_refuses_other_intervals(aim: Aim, interval: str) -> None:
    assert aim("watch", "--interval", interval).code == 10


def test_watch_streams_objects_until_it_is_interrupted(docker: FakeDocker, ports: Ports) -> None:
    docker.add("aim-one", ports=ports)
    argv = [sys.executable, "-m", "aim_engine.cli.main", "watch", "--json", "--interval", "0.3"]
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": docker.host}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout
        rows = [json.loads(running.stdout.readline()) for _ in range(4)]
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=10)
    assert (running.returncode, stderr) == (0, "")
    assert [row["name"] for row in rows] == ["aim-one"] * 4
    assert rows[3]["tokens_per_second"] > 50


def test_watch_waits_for_a_docker_that_goes_away(docker: FakeDocker) -> None:
    docker.add("aim-one")
    argv = [sys.executable, "-m", "aim_engine.cli.main", "watch", "--json", "--interval", "0.2"]
    environment = {"PATH": os.environ["PATH"], "DOCKER_HOST": docker.host}
    answer = docker.answer
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.readline()
        docker.answer = lambda *_: (500, "application/json", b'{"message": "shutting down"}')  # type: ignore[method-assign]
        assert "waiting until it is back" in running.stderr.readline()
        docker.answer = answer  # type: ignore[method-assign]
        while running.stdout.readline():
            break
        assert json.loads(running.stdout.readline())["name"] == "aim-one"
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)
    assert running.returncode == 0


# --- configs ----------------------------------------------------------------------------------------------------------


def test_configs_are_a_model_s_recipes_with_the_one_that_is_chosen(cli: Run) -> None:
    found = cli("configs", "Qwen/Qwen3-32B", "--hardware", "MI300X:4", "--json").json
    assert (found["model_id"], found["hardware"]["gpus"][0]["product"]) == ("Qwen/Qwen3-32B", "MI300X")
    (chosen,) = [one for one in found["configurations"] if one["chosen"]]
    assert (chosen["gpu_count"], chosen["precision"], chosen["works"]) == (4, "bf16", True)
    assert {one["gpu_count"] for one in found["configurations"]} >= {1, 2, 4, 8}


def test_configs_as_a_table(cli: Run) -> None:
    done = cli("configs", "Qwen/Qwen3-32B", "--hardware", "MI300X:4")
    assert done.code == 0
    assert "qwen3-32b-mi300x-bf16" in done.stdout
    assert cli("configs").code == 10
