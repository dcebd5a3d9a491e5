"""One container that serves, and what is done to it: parts killed, parts stopped, a frozen clock, a flood of lines;
first what it must serve on through, then what costs it an attempt.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.long_model import CONTEXT, longer
from tests.faults.fault import Fault, assert_serves_again
from tests.faults.table import fault as row
from tests.image.conftest import serving
from tests.image.containers import docker
from tests.image.patient import Patient, during

pytestmark = [pytest.mark.image, pytest.mark.long]

HANG_SECONDS, STOPPED_SECONDS = 12, 2.0
VERDICT_SECONDS = HANG_SECONDS + 10
FLOOD_LINES = 100_000


@pytest.fixture(scope="module")
def patient(image: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """With a worker that is a process of its own, as it is where a model needs several GPUs."""
    folder = tmp_path_factory.mktemp("patient")
    patient = Patient(image, folder, options=serving(
        longer(tiny, folder), "--env", f"AIM_MAX_MODEL_LEN={CONTEXT}", "--env", f"AIM_HANG_TIMEOUT={HANG_SECONDS}",
        "--env", "VLLM_ENABLE_V1_MULTIPROCESSING=1", "--env", "AIM_OFFLINE=1", "--shm-size", "1g",
    ))  # fmt: skip
    yield patient
    docker("rm", "--force", patient.id)


@pytest.fixture
def ready(patient: Patient) -> Patient:
    patient.until_ready()
    return patient


# --- what it serves on through ---------------------------------------------------------------------------------------


def killed(part: str) -> Callable[[Patient], None]:
    def harm(patient: Patient) -> None:
        first = patient.signal(part, signal.SIGKILL)
        patient.until(lambda: patient.parts().get(part, [first]) != [first], 15, f"another {part}")

    return harm


def stopped(part: str) -> Callable[[Patient], None]:
    def harm(patient: Patient) -> None:
        patient.signal(part, signal.SIGSTOP)
        time.sleep(STOPPED_SECONDS)
        patient.signal(part, signal.SIGCONT)

    return harm


def paused(patient: Patient) -> None:
    """Everything at once, for longer than a hang may last: the clock jumps for all of it."""
    docker("pause", patient.id)
    time.sleep(HANG_SECONDS + 2)
    docker("unpause", patient.id)


def flooded(patient: Patient) -> None:
    """Lines into the very pipe that the engine writes to, faster than anybody reads them."""
    (server,) = patient.parts()["server"]
    before = patient.logs().count("a line of a flood")
    patient.execute("sh", "-c", f"yes 'a line of a flood' | head -n {FLOOD_LINES} >/proc/{server}/fd/1")
    patient.until(lambda: patient.logs().count("a line of a flood") == before + FLOOD_LINES, 60, "every line is out")


SERVED_ON: dict[str, tuple[str, Callable[[Patient], None]]] = {
    "sidecar-killed-idle": ("idle", killed("sidecar")),
    "sidecar-killed-streaming": ("streaming", killed("sidecar")),
    "watch-killed-idle": ("idle", killed("watch")),
    "watch-killed-streaming": ("streaming", killed("watch")),
    "server-stopped-shortly-idle": ("idle", stopped("server")),
    "server-stopped-shortly-streaming": ("streaming", stopped("server")),
    "server-stopped-shortly-prefilling": ("prefilling", stopped("server")),
    "core-stopped-shortly-idle": ("idle", stopped("core")),
    "core-stopped-shortly-streaming": ("streaming", stopped("core")),
    "core-stopped-shortly-prefilling": ("prefilling", stopped("core")),
    "worker-stopped-shortly-streaming": ("streaming", stopped("worker")),
    "sidecar-stopped-streaming": ("streaming", stopped("sidecar")),
    "watch-stopped-streaming": ("streaming", stopped("watch")),
    "supervisord-stopped-streaming": ("streaming", stopped("supervisord")),
    "everything-paused-streaming": ("streaming", paused),
    "log-flood-streaming": ("streaming", flooded),
}


@pytest.mark.parametrize("fault", [row(name) for name in SERVED_ON], ids=lambda fault: fault.id)
def test_it_serves_on(ready: Patient, fault: Fault) -> None:
    work, harm = SERVED_ON[fault.id]
    (server,) = ready.parts()["server"]
    with during(ready, work) as asking:
        harm(ready)
    ready.until_ready()
    assert asking is None or asking.whole, (asking.status, asking.error, asking.chunks[-2:])
    assert ready.parts()["server"] == [server]
    assert ready.get("/health/live")[0] == 200
    assert_serves_again(fault, ready.attempts())


# --- what costs it an attempt ----------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_costs_an_attempt(ready: Patient) -> None:
    fault, before = row("worker-killed-streaming"), len(ready.attempts()) - 1
    with during(ready, "streaming") as asking:
        ready.signal("worker", signal.SIGKILL)
        ready.until(lambda: ready.get("/health/ready")[0] != 200, 5, "it says that it is not ready")
    assert asking
    assert not asking.whole
    ready.until(lambda: len(ready.attempts()) > before + fault.attempts, 30, "another attempt")
    ready.until_ready()
    assert_serves_again(fault, ready.attempts()[before:])
    with during(ready, "streaming") as asking:
        pass
    assert asking
    assert asking.whole


def test_a_frozen_server_is_found_and_costs_an_attempt(ready: Patient) -> None:
    fault, before = row("server-stopped-idle"), len(ready.attempts()) - 1
    ready.signal("server", signal.SIGSTOP)
    stopped_at = time.monotonic()
    ready.until(lambda: ready.attempts()[before]["failure"] is not None, VERDICT_SECONDS, "the verdict")
    assert time.monotonic() - stopped_at > HANG_SECONDS * 0.9
    ready.until(lambda: len(ready.attempts()) > before + fault.attempts, 30, "another attempt")
    assert_serves_again(fault, ready.attempts()[before:])
