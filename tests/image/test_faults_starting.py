"""Containers that are harmed, or told to stop, before they serve: each takes seconds, for none becomes ready."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.serving import free_ports, is_open
from tests.faults.fault import Fault, assert_ended, assert_serves_again
from tests.faults.table import fault as row
from tests.image.conftest import serving
from tests.image.containers import docker
from tests.image.patient import Patient

pytestmark = pytest.mark.image

Run = Callable[..., Patient]


@pytest.fixture
def run(image: str, tiny: Path, tmp_path: Path) -> Iterator[Run]:
    """Start one that takes one attempt at most."""
    started: list[Patient] = []

    def start(*command: str, more: tuple[str, ...] = ()) -> Patient:
        options = serving(tiny, "--env", "AIM_FALLBACK=0", "--env", "AIM_OFFLINE=1", *more)
        started.append(Patient(image, tmp_path, *command, options=options))
        return started[-1]

    yield start
    for patient in started:
        docker("rm", "--force", "--volumes", patient.id)


@pytest.fixture
def importing(run: Run) -> Patient:
    """The engine's program has begun, and is being imported."""
    return until_importing(run())


def until_importing(patient: Patient) -> Patient:
    patient.until(lambda: bool(patient.attempts()) and "server" in patient.parts(), 30, "the engine's program begins")
    patient.remember_processes()
    patient.published()  # of one that has ended Docker does not tell
    return patient


# --- while it plans --------------------------------------------------------------------------------------------------


PLANNING = {"term-planning": "TERM", "hup-planning": "HUP"}


@pytest.mark.parametrize("fault", [row(name) for name in PLANNING], ids=lambda fault: fault.id)
def test_a_stop_while_it_plans(image: str, fault: Fault, tmp_path: Path) -> None:
    """The hub, here on loopback, takes the connection and says nothing."""
    signum = PLANNING[fault.id]
    api, health = free_ports(2)
    with socket.create_server(("127.0.0.1", 0)) as hub:
        patient = Patient(image, tmp_path, options=[
            "--network", "host", "--env", "AIM_MODEL=acme/nothing", "--env", "AIM_HARDWARE=cpu",
            "--env", f"HF_ENDPOINT=http://127.0.0.1:{hub.getsockname()[1]}",
            "--env", f"AIM_PORT={api}", "--env", f"AIM_HEALTH_PORT={health}",
        ])  # fmt: skip
        try:
            hub.settimeout(20)
            connection, _ = hub.accept()  # it has asked
            patient.remember_processes()
            docker("kill", "--signal", signum, patient.id)
            code = patient.wait(10)
            connection.close()
            words = patient.words()
            assert json.loads(patient.termination_log.read_text()) == words
        finally:
            docker("rm", "--force", "--volumes", patient.id)
    assert_ended(fault, code, words)
    assert patient.left() == []


# --- while the engine's program is imported --------------------------------------------------------------------------


def tell(*signums: str) -> Callable[[Patient], None]:
    """To its first process, as docker stop does."""

    def harm(patient: Patient) -> None:
        for signum in signums:
            docker("kill", "--signal", signum, patient.id)

    return harm


def harmed(part: str, signum: int, *told: str) -> Callable[[Patient], None]:
    def harm(patient: Patient) -> None:
        patient.signal(part, signum)
        tell(*told)(patient)

    return harm


ENDED: dict[str, Callable[[Patient], None]] = {
    "int-importing": tell("INT"),
    "hup-importing": tell("HUP"),
    "term-importing-frozen-server": harmed("server", signal.SIGSTOP, "TERM"),
    "term-term-importing-frozen-server": harmed("server", signal.SIGSTOP, "TERM", "TERM"),
    "term-importing-frozen-supervisord": harmed("supervisord", signal.SIGSTOP, "TERM"),
    "server-killed-importing": harmed("server", signal.SIGKILL),
    "supervisord-killed-importing": harmed("supervisord", signal.SIGKILL),
}


@pytest.mark.parametrize("fault", [row(name) for name in ENDED], ids=lambda fault: fault.id)
def test_it_ends_with_its_words(importing: Patient, fault: Fault) -> None:
    ENDED[fault.id](importing)
    ended = importing.ended(30)
    attempts = importing.kept_attempts()
    assert len(attempts) == 1
    assert_ended(fault, *ended, attempts if fault.attempts else ())


def test_parts_come_back_and_a_killed_container_leaves_nothing(importing: Patient) -> None:
    """Pid 1 cannot say anything any more: the code is Docker's."""
    fault = row("container-killed-importing")
    (server,) = importing.parts()["server"]
    first = {part: importing.signal(part, signal.SIGKILL) for part in ("watch", "sidecar")}
    importing.until(
        lambda: all(importing.parts().get(part, [old]) != [old] for part, old in first.items()), 15, "other ones"
    )
    assert importing.parts()["server"] == [server]
    importing.until(lambda: len(importing.attempts()) == 1, 10, "the sidecar answers")
    assert_serves_again(row("watch-and-sidecar-killed-importing"), importing.attempts())
    importing.remember_processes()
    ports = importing.published()
    docker("kill", importing.id)
    assert importing.wait(10) == fault.code
    assert importing.left() == []
    assert [port for port in ports if is_open(port)] == []
    assert importing.termination_log.read_text() == ""


def test_the_parent_is_killed_and_something_else_is_pid_1(run: Run) -> None:
    """As under an init, or in a pod that shares its processes: nothing may stay behind."""
    fault = row("boot-killed-importing")
    script = "/opt/aim-engine/entrypoint serve & wait $!; echo ended with $?; sleep 60"
    patient = until_importing(run("-c", script, more=("--entrypoint", "sh")))
    patient.signal("boot", signal.SIGKILL)
    patient.until(lambda: f"ended with {fault.code}" in patient.logs(), 10, "its parent is told")
    patient.until(lambda: len(patient.left()) == 1, 20, "nothing of it is left but the shell")
