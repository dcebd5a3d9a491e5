"""The fault matrix, what a container may lack: its shared memory, a place to write, memory. No engine is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.fault import Fault, assert_ended
from tests.faults.table import faults_of
from tests.image.conftest import Start, serving

pytestmark = pytest.mark.image

OPTIONS = {
    "no-shared-memory": ["--ipc", "none"],
    "nowhere-to-write": ["--read-only", "--volume", "/workspace/model-cache"],
    "memory-limit-too-small": ["--memory", "512m"],
    "volume-of-another-user": ["--user", "54321", "--volume", "{folder}:/workspace/model-cache"],
}


@pytest.mark.parametrize("fault", faults_of(__file__), ids=lambda fault: fault.id)
def test_what_a_container_lacks_is_found_before_a_start(start: Start, tiny: Path, tmp_path: Path, fault: Fault) -> None:
    container = start(options=serving(tiny, *(word.format(folder=tmp_path) for word in OPTIONS[fault.id])))
    assert_ended(fault, container.wait(60), container.words())


def test_every_injection_has_a_row() -> None:
    assert {fault.id for fault in faults_of(__file__)} == OPTIONS.keys()
