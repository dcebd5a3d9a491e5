"""routes.py and http_server.py: what is said, and that it is said whatever clients do."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends.counters import NAMES, read_counters
from aim_engine.runtime import http_server
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.exposition import ENGINE_METRICS, escape_label
from aim_engine.runtime.health import Observation, Verdict
from aim_engine.runtime.http_server import HealthServer
from aim_engine.runtime.log import Log
from aim_engine.runtime.poller import Poller
from aim_engine.runtime.routes import ROUTES, Snapshot, reply
from aim_engine.runtime.sidecar import Sidecar
from aim_engine.runtime.state import State

from .server import fake_plan

READY = Verdict(phase="ready", ready=True)
LOADING = Verdict(phase="loading", reason="loading the weights", hint="wait")
HUNG = Verdict(phase="failed", live=False, hung=True, reason="stands still")
TIMELINE = (
    {"at": 100.0, "phase": "planning"},
    {"at": 101.0, "phase": "starting"},
    {"at": 101.5, "event": "exec", "pid": 7},
    {"at": 102.0, "phase": "starting"},
    {"at": 110.0, "phase": "ready"},
)


def snapshot(verdict: Verdict = READY, **changes: Any) -> Snapshot:
    values: dict[str, Any] = {
        "verdict": verdict,
        "plan": {"recipe_id": 'a"b\\c\nd', "model_id": "org/x", "gpus": [1]},
        "pid": 7,
        "timeline": TIMELINE,
        "attempts": ({"number": 1, "monotonic": 3.0, "failure": None},),
        "counters": {"running": 2.0},
        "now": 120.0,
        **changes,
    }
    return Snapshot(**values)


@pytest.mark.parametrize(
    ("verdict", "live", "startup", "ready"), [(READY, 200, 200, 200), (LOADING, 200, 503, 503), (HUNG, 503, 200, 503)]
)
def test_health_routes(verdict: Verdict, live: int, startup: int, ready: int) -> None:
    timeline = TIMELINE if verdict is not LOADING else TIMELINE[:4]
    answers = [reply(f"/health/{name}", snapshot(verdict, timeline=timeline)) for name in ("live", "startup", "ready")]
    assert [answer.status for answer in answers] == [live, startup, ready]
    assert json.loads(answers[2].body) == {"phase": verdict.phase, "reason": verdict.reason, "hint": verdict.hint}


def test_a_later_start_says_why_it_is_made() -> None:
    attempts = ({"number": 1, "failure": {"message": "it hung"}}, {"number": 2, "failure": None})
    for path in ("/health/ready", "/status"):
        told = json.loads(reply(path, snapshot(LOADING, attempts=attempts)).body)
        assert told["reason"] == f"{LOADING.reason} (attempt 2, after: it hung)"
        assert json.loads(reply(path, snapshot(READY, attempts=attempts)).body)["reason"] == READY.reason


def test_status_and_plan() -> None:
    status = json.loads(reply("/status", snapshot()).body)
    assert [(entry["phase"], entry["seconds"]) for entry in status["timeline"]] == [
        ("planning", 1.0),
        ("starting", 9.0),
        ("ready", 10.0),
    ]
    assert status["uptime_seconds"] == 20.0
    assert status["attempts"] == [{"number": 1, "failure": None}]
    assert status["engine"] == {"running": 2.0}
    assert json.loads(reply("/plan", snapshot()).body)["gpus"] == [1]


def test_metrics_are_prometheus_text() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    text = reply("/metrics", snapshot()).body.decode()
    samples = {
        (sample.name, sample.labels.get("phase")): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    info = next(f for f in parser.text_string_to_metric_families(text) if f.name == "aim_engine_info")
    assert samples["aim_engine_ready", None] == 1
    assert samples["aim_engine_phase", "ready"] == 1
    assert samples["aim_engine_phase", "loading"] == 0
    assert samples["aim_engine_start_seconds", None] == 10
    assert info.samples[0].labels["recipe_id"] == 'a"b\\c\nd'


def test_what_the_engine_counts_has_our_names() -> None:
    """By one name for every engine, and without the key that the engine's own /metrics asks for."""
    text = reply("/metrics", snapshot(counters={"running": 2.0, "waiting": 3.0, "kv_cache_usage": 0.25})).body.decode()
    assert "\naim_engine_requests_running 2.0\n" in text
    assert "\naim_engine_requests_waiting 3.0\n" in text
    assert "\naim_engine_kv_cache_usage_ratio 0.25\n" in text
    assert "aim_engine_generation_tokens_total" not in text  # not known yet
    assert "\naim_engine_start_time_seconds 100.0\n" in text


def test_an_engine_that_is_gone_counts_nothing() -> None:
    """Or what scales would go by a queue that is no longer there."""
    assert (
        "aim_engine_requests_waiting"
        not in reply("/metrics", snapshot(pid=None, counters={"waiting": 3.0})).body.decode()
    )


def test_every_counter_that_is_served_is_one_that_engines_have() -> None:
    known = set(read_counters("\n".join(f"{name} 1" for name in NAMES)))
    assert set(ENGINE_METRICS) <= known


def test_what_was_given_up_is_counted() -> None:
    ladder = [{"name": "context-1", "gives_up": "half of the context"}]
    attempts = ({"number": 1, "failure": {}}, {"number": 2, "failure": None, "without": ["context-1"]})
    text = reply("/metrics", snapshot(plan={"ladder": ladder}, attempts=attempts)).body.decode()
    assert "\naim_engine_given_up 1\n" in text
    assert "\naim_engine_restarts_total 1\n" in text
    assert "\naim_engine_given_up 0\n" in reply("/metrics", snapshot()).body.decode()


def test_metrics_tell_each_phase_of_the_start() -> None:
    phases = [{"phase": "resolve", "seconds": 7.5}, {"phase": "load", "seconds": 1.25}]
    text = reply("/metrics", snapshot(start={"phases": phases})).body.decode()
    assert 'aim_engine_start_phase_seconds{phase="load"} 1.25\n' in text
    assert "start_phase" not in reply("/metrics", snapshot()).body.decode()


def test_labels_are_escaped() -> None:
    assert escape_label('a"b\\c\nd') == 'a\\"b\\\\c\\nd'


@pytest.fixture
def server() -> Iterator[HealthServer]:
    with HealthServer("127.0.0.1", 0, snapshot) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: HealthServer, method: str, path: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def test_routes_over_http(server: HealthServer) -> None:
    for path in ROUTES:
        status, body, headers = ask(server, "GET", path)
        assert (status, len(body)) == (200, int(headers["Content-Length"]))
        status, body, headers = ask(server, "HEAD", path)
        assert (status, body) == (200, b"")
    assert ask(server, "GET", "/health/ready?x=1")[0] == 200
    assert ask(server, "GET", "/health/ready/")[0] == 200
    assert ask(server, "GET", "/nowhere")[0] == 404
    assert ask(server, "POST", "/health/ready")[0] == 405
    assert ask(server, "DELETE", "/plan")[2]["Allow"] == "GET, HEAD"
    assert set(json.loads(ask(server, "GET", "/")[1])["routes"]) == set(ROUTES)


def test_one_connection_serves_several_requests(server: HealthServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    for _ in range(3):
        connection.request("GET", "/health/live")
        assert connection.getresponse().read()
    connection.close()


def test_many_clients_that_say_nothing_end_by_themselves(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_LONGEST_CONNECTION_SECONDS", 0.2)
    before = threading.active_count()
    idle = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(60)]
    time.sleep(0.3)
    assert threading.active_count() - before <= 32
    server.end_slow_connections()
    time.sleep(0.2)
    assert ask(server, "GET", "/health/live")[0] == 200
    for connection in idle:
        connection.close()


class Failing(Poller):
    """Fails at every look."""

    def look(self) -> Observation:
        raise UnicodeEncodeError("latin-1", "s3cret\N{KEY}", 6, 7, "no such letter")


def test_a_look_that_fails_is_said_once_without_its_text(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = fake_plan(tmp_path)
    contract, state = read_contract(plan), State(str(tmp_path))
    sidecar = Sidecar(state, contract, plan, Failing(state=state, contract=contract, key=None), Log("sidecar"))
    for _ in range(3):
        sidecar.try_to_look()
    said = capfd.readouterr().err
    assert said.count("UnicodeEncodeError") == len(said.splitlines()) == 1
    assert "s3cret" not in said
    assert sidecar.snapshot().verdict.phase == "starting"


class Draining(Poller):
    """Sees a server that drains."""

    def look(self) -> Observation:
        return Observation(at=self.clock(), server=(7, 7), healthy=True, stop_asked=True)


def test_a_server_that_drains_is_not_asked_ten_times_a_second(tmp_path: Path) -> None:
    """What is left of the machine is for the requests in flight, and then for the engine's end."""
    plan = fake_plan(tmp_path)
    contract, state = read_contract(plan), State(str(tmp_path))
    sidecar = Sidecar(state, contract, plan, Draining(state=state, contract=contract, key=None), Log("sidecar"))
    sidecar.look()
    assert sidecar.snapshot().verdict.phase == "draining"
    assert sidecar._pause_seconds() == 1.0


@pytest.mark.parametrize(("inside", "end"), [(False, "/health/ready"), (True, "those that they are published as)")])
def test_the_ports_it_names_are_a_container_s_own(tmp_path: Path, inside: bool, end: str) -> None:
    plan = fake_plan(tmp_path)
    contract, state = read_contract(plan), State(str(tmp_path))
    poller = Failing(state=state, contract=contract, key=None)
    said = Sidecar(state, contract, plan, poller, Log("sidecar"), inside=inside)._addresses()
    assert said.startswith(f"http://127.0.0.1:{contract.port}/v1 serves ")
    assert said.endswith(end)


def test_what_an_engine_has_to_do_and_what_was_kept_of_one() -> None:
    attempts = ({"number": 1, "evidence": "/cache/evidence/x"}, {"number": 2, "failure": None})
    work = {"open": 1.0, "queue": 0.0, "waiting_seconds": 0.0, "still_seconds": 7.5}
    shown = snapshot(attempts=attempts, work=work, canary={"answered": 3, "refused": 0, "silent": 1})
    status = json.loads(reply("/status", shown).body)
    assert (status["work"], status["evidence"]) == (work, "/cache/evidence/x")
    assert status["canary"]["silent"] == 1
    text = reply("/metrics", shown).body.decode()
    assert 'aim_engine_canaries_total{outcome="answered"} 3' in text
    assert "aim_engine_still_seconds 7.5" in text
    assert json.loads(reply("/status", snapshot()).body)["evidence"] is None


class Idle(Poller):
    """Sees a ready server that has nothing to do; its canary is answered by nobody."""

    now = 0.0
    load = 0.0

    def look(self) -> Observation:
        self.now += 10.0
        return Observation(at=self.now, server=(7, 7), healthy=True, probe="", load=self.load, queue=0, iterations=7)


def test_the_canary_of_an_idle_engine_is_not_its_load(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        plan = fake_plan(tmp_path, canary_seconds=15.0, hang_timeout_seconds=30.0)
        plan["command"]["urls"]["probe"] = f"http://127.0.0.1:{frozen.getsockname()[1]}/v1/completions"
        contract, state = read_contract(plan), State(str(tmp_path))
        poller = Idle(state=state, contract=contract, key=None)
        sidecar = Sidecar(state, contract, plan, poller, Log("sidecar"))
        for _ in range(3):
            sidecar.look()
        poller.load = 1.0  # the server counts it
        sidecar.look()
        assert sidecar.snapshot().work["open"] == 0
        poller.load = 2.0  # and somebody else's
        sidecar.look()
        assert sidecar.snapshot().work["open"] == 1
        counted = json.loads((tmp_path / "observations.json").read_text())
        assert [each["open"] for each in counted] == [0, 0, 0, 0, 1]
