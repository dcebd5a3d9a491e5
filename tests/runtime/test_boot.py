"""Whole runs: boot, supervisord, the server, watch and sidecar as real processes around a fake engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.front_end import Told, read_front_ends
from aim_engine.runtime.processes import descendants, look

from .server import Server, fake_plan

Serve = Callable[..., Server]


def alive(pids: set[int]) -> list[int]:
    """Those that run still; a zombie is only a line in a table."""
    return [pid for pid in pids if (found := look(pid)) is not None and found.state != "Z"]


def test_a_run_becomes_ready_tells_so_and_drains(serve: Serve) -> None:
    server = serve(environment={"REMOVED": "1", "AIM_API_KEY": "s3cret", "HF_TOKEN": "hf_s3cret"})
    server.until_ready()
    environment = json.loads(server.get("/env", engine=True)[1])
    status, plan, metrics = server.status(), server.get("/plan")[1], server.get("/metrics")[1]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert environment["ADDED"] == "yes"
    assert not [name for name in environment if name == "REMOVED" or name.startswith(("AIM_RUNTIME", "SUPERVISOR"))]
    assert status["timeline"][0]["phase"] == "planning"
    assert status["timeline"][-1]["phase"] == "ready"
    assert json.loads(plan) == server.plan
    assert "aim_engine_ready 1" in metrics
    assert "s3cret" not in json.dumps(status) + plan + metrics + server.out + server.err
    assert server.words() == {"class": "Drained", "code": 0, "message": "stopped as SIGTERM asked", "hint": "",
                              "retryable": False}  # fmt: skip
    assert "Starting to load model fake" in server.out
    assert not (server.state / "supervisor.sock").exists()
    assert server.err.splitlines()[-2].endswith(" aim boot: stopped: drained, exit code 0")


def test_the_processes_around_the_engine_are_small_and_quick(serve: Serve) -> None:
    server = serve()
    server.until_ready()
    around = {server.process.pid, *server.tree()} - {server.server_pid()}
    memory = 0
    for pid in around:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory += int(line.split()[1])
    entries = [json.loads(line) for line in (server.state / "timeline.jsonl").read_text().splitlines()]
    executed = next(entry["monotonic"] for entry in entries if entry.get("event") == "exec")
    assert len(around) == 4
    assert memory < 60_000
    assert executed - server.started < 5


def test_requests_in_flight_finish(serve: Serve) -> None:
    server = serve()
    server.until_ready()
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(server.get("/slow?seconds=1", engine=True)))
    asking.start()
    time.sleep(0.2)
    server.signal(signal.SIGTERM)
    draining = server.until(lambda: json.loads(server.get("/health/ready")[1] or "{}").get("phase") == "draining", 1)
    assert server.get("/health/ready")[0] == 503
    assert server.get("/health/live")[0] == 200
    assert server.wait() == 0
    asking.join()
    assert answers == [(200, "finished")]
    assert draining < 0.5


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_drain_that_takes_too_long_is_cut(serve: Serve, signum: int, code: int) -> None:
    server = serve(drain_timeout_seconds=0.3)
    server.until_ready()
    threading.Thread(target=lambda: server.get("/slow?seconds=20", engine=True), daemon=True).start()
    time.sleep(0.2)
    server.signal(signum)
    assert server.wait() == code
    assert server.words()["class"] == "Killed"


@pytest.mark.parametrize(("working", "code", "error_class"), [(0, 0, "Drained"), (1, 143, "Killed")])
def test_an_engine_slow_to_end_itself_cuts_nothing_where_nothing_was_in_flight(
    serve: Serve, working: int, code: int, error_class: str
) -> None:
    """The guard's receipt, written here, says what was in flight; that the engine does not end is of no matter."""
    server = serve(drain_timeout_seconds=0.0)
    server.until_ready()
    threading.Thread(target=lambda: server.get("/slow?seconds=20", engine=True), daemon=True).start()
    time.sleep(0.2)
    told(server, 1, Told(stopping=True, working=working))
    server.signal(signal.SIGTERM)
    assert server.wait() == code
    assert (server.words()["class"], server.words()["receipt"]["cut"]) == (error_class, working)


def test_a_server_without_work_has_time_to_end_itself_however_short_the_drain(serve: Serve) -> None:
    """It says so by answering what its guard does not count."""
    server = serve(drain_timeout_seconds=0.5)
    server.until_ready()
    answers: list[str] = []
    asking = threading.Thread(target=lambda: answers.append(server.get("/slow?seconds=2", engine=True)[1]), daemon=True)
    asking.start()
    time.sleep(0.2)
    told(server, server.server_pid(), Told(stopping=True))
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    asking.join(5)
    assert answers == ["finished"]


def told(server: Server, pid: int, what: Told) -> None:
    """As the guard of a front end with that pid tells it."""
    folder = server.state / "tmp"
    folder.mkdir(exist_ok=True)
    new = folder / "new"
    new.write_text(json.dumps(what._asdict()))
    new.replace(folder / f"front-end-{pid}.json")


def test_the_server_hears_of_a_stop_when_no_front_end_has_work_any_more(serve: Serve) -> None:
    """Two of them told that they have, and one that is dead; one tells nothing, and is waited for a second."""
    server = serve(drain_timeout_seconds=60)
    server.until_ready()
    fronts = sorted(server.tree())[:3]
    for front in fronts:
        told(server, front, Told(working=1))
    server.signal(signal.SIGTERM)
    server.until((server.state / "stop").exists)
    told(server, 2**22 + 1, Told(stopping=True, working=1, cut=1))
    for front in fronts[:2]:
        told(server, front, Told(stopping=True, working=1))
    engine = server.server_pid()
    time.sleep(2.5)
    assert Path(f"/proc/{engine}").exists()
    told(server, fronts[0], Told(stopping=True, finished=1))
    time.sleep(0.5)
    assert Path(f"/proc/{engine}").exists()
    told(server, fronts[1], Told(stopping=True, finished=1))
    server.wait(10)
    assert server.words()["receipt"] == {"finished": 2, "refused": 0, "cut": 2}


def test_who_has_work_to_the_last_is_cut_and_told_how_to_have_more_time(serve: Serve) -> None:
    server = serve(drain_timeout_seconds=1.5)
    server.until_ready()
    told(server, server.server_pid(), Told(stopping=True, working=1))
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 143
    words = server.words()
    assert "requests in flight did not finish within 1.5 s" in words["message"]
    assert "AIM_DRAIN_TIMEOUT" in words["hint"]


def test_an_engine_that_ends_in_the_middle_of_a_drain_is_said_to(serve: Serve) -> None:
    server = serve(drain_timeout_seconds=30)
    server.until_ready()
    told(server, server.server_pid(), Told(stopping=True, working=1))
    server.signal(signal.SIGTERM)
    server.until((server.state / "stop").exists)
    time.sleep(0.3)
    os.kill(server.server_pid(), signal.SIGKILL)
    assert server.wait(10) == 143
    assert "the engine ended before its requests did (0 finished, 0 refused, 1 cut)" in server.words()["message"]
    assert "log" in server.words()["hint"]


def test_a_second_signal_ends_the_wait(serve: Serve) -> None:
    server = serve(drain_timeout_seconds=60)
    server.until_ready()
    threading.Thread(target=lambda: server.get("/slow?seconds=20", engine=True), daemon=True).start()
    time.sleep(0.2)
    server.signal(signal.SIGTERM)
    server.until((server.state / "stop").exists)
    below = server.tree()
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 143
    assert not alive(below)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7])
def test_a_signal_at_any_time_ends_the_run(serve: Serve, after: float) -> None:
    server = serve("--delay", "30", "--child")
    server.until(server.state.exists)
    time.sleep(after)
    below = server.tree()
    server.signal(signal.SIGTERM)
    assert server.wait(12) == 0, server.err
    assert server.words()["class"] == "Drained"
    server.until(lambda: not alive(below), 2)  # a supervisord that waited sees its planner's end a moment later


def test_a_starting_engine_that_swallows_a_signal_gets_another(serve: Serve) -> None:
    server = serve("--delay", "30", "--swallow", "1")
    server.until(lambda: "Starting to load" in server.out)
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert 1.5 < time.monotonic() - asked < 5


def test_every_exit_that_was_not_asked_for_is_a_failure(serve: Serve) -> None:
    server = serve()
    server.until_ready()
    died = time.monotonic()
    server.behave(do="exit", code=0)
    server.until(lambda: server.read("last-words.json"), 3)
    noticed = time.monotonic() - died
    assert server.wait() == 51
    assert noticed < 1
    assert server.words()["message"] == "the engine ended while it served, with exit status 0"
    assert server.words()["retryable"] is True


def test_a_new_server_is_not_told_of_by_the_front_ends_of_another(serve: Serve) -> None:
    """Their pids may be somebody else's by then, who would seem to stand still; so also after a container was killed,
    whose state folder outlives it.
    """
    server = serve(max_retries=2, hang_timeout_seconds=2.0)
    server.until_ready()
    told(server, os.getpid(), Told(load=3, working=3))
    server.behave(do="kill")
    server.until(lambda: len(server.read("attempts.json")["attempts"]) == 2, 10)
    server.until_ready()
    assert read_front_ends(str(server.state / "tmp")) == []
    time.sleep(3)
    assert server.get("/health/ready")[0] == 200


def test_a_signal_that_killed_the_engine_is_named(serve: Serve) -> None:
    server = serve()
    server.until_ready()
    server.behave(do="kill")
    assert server.wait() == 51
    assert "killed by SIGKILL" in server.words()["message"]


def test_a_crash_is_tried_again(serve: Serve, tmp_path: Path) -> None:
    server = serve("--exit", "1", "--once", str(tmp_path / "once"), max_retries=2)
    server.until(lambda: server.status().get("phase") == "restarting", 5)
    server.until_ready()
    status = server.status()
    assert [attempt["failure"] and attempt["failure"]["class"] for attempt in status["attempts"]] == [
        "EngineCrashed",
        None,
    ]
    assert "aim_engine_restarts_total 1" in server.get("/metrics")[1]
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_an_engine_that_outlives_its_process_is_started_again_at_once(serve: Serve) -> None:
    """vLLM's API server looks for its core every five seconds only."""
    server = serve("--child", max_retries=1)
    server.until_ready()
    first = server.server_pid()
    time.sleep(1)  # the watch has seen it ready
    server.behave(do="lose", sick=True)
    assert server.until(lambda: server.server_pid() != first, 8) < 4
    server.until_ready()
    assert server.status()["attempts"][0]["failure"]["message"] == (
        "the engine ended while it served, after a process of it had died"
    )
    assert "trying again now (retry 1 of 1)" in server.err
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_an_engine_that_is_well_without_a_child_serves_on(serve: Serve) -> None:
    server = serve("--child", max_retries=1)
    server.until_ready()
    first = server.server_pid()
    time.sleep(1)
    server.behave(do="lose", sick=False)
    time.sleep(3)
    assert (server.server_pid(), server.get("/health/ready")[0]) == (first, 200)


def test_orphans_and_their_shared_memory_go_before_another_attempt(serve: Serve) -> None:
    name = f"psm_aim{os.getpid()}"
    server = serve("--child", "--segment", name, max_retries=1)
    server.until_ready()
    first = server.server_pid()
    below = server.tree()
    os.kill(first, signal.SIGKILL)
    server.until(lambda: server.server_pid() != first and server.get("/health/ready")[0] == 200)
    still = [pid for pid in server.tree() if pid in below]
    assert len(still) == 3  # supervisord, watch and sidecar
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not Path("/dev/shm", name).exists()


def test_a_permanent_failure_takes_one_attempt(serve: Serve) -> None:
    text = "ValueError: ... Based on the available memory, the estimated maximum model length is 1024. Try"
    server = serve("--exit", "1", "--say", text, max_retries=2)
    assert server.wait() == 21
    assert server.words()["class"] == "DoesNotFit"
    assert "1024" in server.words()["hint"]
    assert len(server.read("attempts.json")["attempts"]) == 1


def test_what_does_not_fit_is_given_up_rung_by_rung(serve: Serve) -> None:
    text = "ValueError: ... Based on the available memory, the estimated maximum model length is 1024. Try"
    nothing: dict[str, Any] = {"options": {}, "env": {}, "unset": []}
    ladder = [
        {"name": "of no use", "failures": ["cache"], "gives_up": "the first thing", **nothing},
        {"name": "of another kind", "failures": ["kernel"], "gives_up": "nothing", **nothing, "options": {"say": []}},
        {"name": "helps", "failures": ["cache"], "gives_up": "the second thing", "options": {"exit": []},
         "env": {"ADDED": "no"}, "unset": ["HOME_OF_NOBODY"]},
    ]  # fmt: skip
    server = serve("--exit", "1", "--say", text, ladder=ladder)
    server.until_ready()
    status = server.status()
    assert [attempt["without"] for attempt in status["attempts"]] == [[], ["of no use"], ["of no use", "helps"]]
    assert [one["gives_up"] for one in status["given_up"]] == ["the first thing", "the second thing"]
    assert json.loads(server.get("/env", engine=True)[1])["ADDED"] == "no"
    assert "trying again in 1 s, giving up the second thing" in server.err
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_where_nothing_is_left_to_give_up_it_ends(serve: Serve) -> None:
    text = "torch.OutOfMemoryError: HIP out of memory."
    rung = {"name": "x", "failures": ["memory"], "gives_up": "x", "options": {}, "env": {}, "unset": []}
    server = serve("--exit", "1", "--say", text, ladder=[rung])
    assert server.wait() == 21
    assert len(server.read("attempts.json")["attempts"]) == 2
    (earlier,) = server.words()["earlier_attempts"]
    assert (earlier["number"], earlier["class"]) == (1, "DoesNotFit")
    assert "out of memory" in earlier["message"]
    assert f"attempt 1: {earlier['message']}" in server.err


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path)
    plan["command"]["argv"][0] = "/nowhere/vllm"
    server = Server(plan, tmp_path)
    try:
        assert server.wait() == 50
    finally:
        server.stop()
    assert server.words()["message"] == "the engine cannot be started: /nowhere/vllm: No such file or directory"


def test_keep_alive_stays_up_with_the_reason(serve: Serve) -> None:
    server = serve("--exit", "2", keep_alive=True)
    server.until(lambda: server.get("/health/ready")[0] == 503 and server.status().get("phase") == "failed")
    assert server.get("/health/live")[0] == 200
    assert "arguments" in server.status()["reason"]
    server.signal(signal.SIGTERM)
    assert server.wait() == 50
    assert server.words()["class"] == "EngineRefused"


def test_a_start_has_a_time_limit(serve: Serve) -> None:
    server = serve("--delay", "60", start_timeout_seconds=1.0)
    assert server.wait() == 52
    assert "not ready after 1 s" in server.words()["message"]


def test_a_probe_that_fails_keeps_it_unready_with_the_engine_s_words(serve: Serve) -> None:
    server = serve("--probe-error", "Unsupported head dim: 16")
    server.until(lambda: server.status().get("phase") == "probing" and "head dim" in server.status()["reason"])
    assert server.get("/health/ready")[0] == 503
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_hung_engine_is_ended(serve: Serve) -> None:
    server = serve(hang_timeout_seconds=2.0)
    server.until_ready()
    server.behave(do="freeze")
    assert server.wait(20) == 53


def test_the_log_as_json(serve: Serve) -> None:
    text = "(EngineCore pid=7) ERROR 11-21 17:43:00 [core.py:1] so 'ein' █ Fehler"
    server = serve("--say", text, log_format="json")
    server.until_ready()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    lines = [json.loads(line) for line in (server.out + server.err).splitlines()]
    engine = [line for line in lines if line.get("source") == "engine"]
    assert [(line["level"], line["message"]) for line in engine] == [("error", text)]
    assert {"boot", "sidecar"} <= {line.get("source") for line in lines}


def test_a_killed_supervisor_ends_everything_and_is_worth_a_restart(serve: Serve) -> None:
    server = serve("--child")
    server.until_ready()
    below = server.tree()
    os.kill(int((server.state / "supervisord.pid").read_text()), signal.SIGKILL)
    assert server.wait() == 51
    assert not alive(below)


def test_the_death_of_the_parent_ends_everything(serve: Serve) -> None:
    server = serve()
    server.until_ready()
    below = server.tree()
    server.signal(signal.SIGKILL)
    server.wait()
    server.until(lambda: not alive(below), 15)


def test_a_watch_that_dies_comes_back_and_knows_the_past(serve: Serve, tmp_path: Path) -> None:
    server = serve("--exit", "1", "--once", str(tmp_path / "once"), max_retries=1)
    server.until_ready()
    watch = next(pid for pid in server.tree() if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"watch\0"))
    os.kill(watch, signal.SIGKILL)
    time.sleep(1.2)
    server.behave(do="exit", code=3)
    assert server.wait() == 51
    assert [attempt["number"] for attempt in server.read("attempts.json")["attempts"]] == [1, 2]
    assert server.words()["hint"] == "the engine's log says more", "what it said before is not known here"
    tail = Path(server.words()["evidence"], "log-tail.txt").read_text()
    assert tail.startswith("the watch was started again meanwhile")


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path)
    with socket.create_server(("127.0.0.1", plan["runtime"]["health_port"])):
        server = Server(plan, tmp_path)
        assert server.wait() == 10
    assert f"AIM_HEALTH_PORT={plan['runtime']['health_port']}" in server.words()["message"]
    assert f"pid {os.getpid()}" in server.words()["message"]


def test_a_folder_with_odd_characters(serve: Serve) -> None:
    with tempfile.TemporaryDirectory(prefix="a b;c%d'e\"f") as odd:
        server = serve(state_dir=odd)
        server.until_ready()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_second_run_in_the_same_folder_is_refused(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    first.until_ready()
    other = tmp_path / "other"
    other.mkdir()
    second = Server(fake_plan(other, state_dir=str(first.state)), other)
    assert second.wait() == 10
    assert "another server uses" in second.words()["message"]
    assert first.get("/health/ready")[0] == 200


def test_a_flood_of_lines_loses_none_and_does_not_grow(serve: Serve, tmp_path: Path) -> None:
    server = serve("--flood", "200000")
    server.until_ready(30)
    supervisord = int((server.state / "supervisord.pid").read_text())
    status = Path(f"/proc/{supervisord}/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
    server.behave(do="exit", code=1, say="ValueError: the last line")
    assert server.wait() == 51
    assert server.words()["details"][-1] == "ValueError: the last line"
    assert sum(line.startswith("line ") for line in server.out.splitlines()) == 200000
    assert peak < 100_000


AS_NOBODY = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
FOR_EVERYBODY = all(place.stat().st_mode & 0o005 == 0o005 for place in Path(sys.executable).resolve().parents)


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None or not FOR_EVERYBODY,
    reason="needs root, setpriv and a Python that others may run",
)
def test_a_user_without_a_name() -> None:
    """OpenShift runs containers as a random uid that is in no passwd file."""
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are for one user alone
    os.chown(folder, 54321, 54321)
    server = Server(fake_plan(folder), folder, prefix=AS_NOBODY)
    try:
        server.until_ready()
        assert server.state.stat().st_uid == 54321
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False).returncode
    != 0,
    reason="needs a PID namespace of its own",
)
@pytest.mark.parametrize("after", [0.0, 0.1, 0.3, 2.0])
def test_as_the_first_process_of_a_container(tmp_path: Path, after: float) -> None:
    server = Server(fake_plan(tmp_path, "--child"), tmp_path, prefix=["unshare", "--pid", "--fork", "--mount-proc"])
    try:
        server.until(server.state.exists)
        time.sleep(after)
        below = server.tree()
        first = next(
            process.identity for process in descendants(server.process.pid) if process.parent == server.process.pid
        )
        os.kill(first.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert not alive(below)
    finally:
        server.stop()
