"""AMD GPUs as the driver's own library tells of them: surroundings in, a `Finding` out.

Decides only whether there is anything to ask, or to read from a recording. Asking is ask.py (a child process,
child.py, with a time limit), understanding the answer answer.py. Knows no recipe or engine.
"""

from __future__ import annotations

import os

from aim_engine.hardware.amd.signs import without_driver
from aim_engine.hardware.device_nodes import is_sign_of_gpu
from aim_engine.hardware.inventory import Finding, Surroundings

# Set for the mock that AMD ships with amdsmi (rocm-systems, projects/amdsmi/tests/mock_backend) and by our own tests:
# there the library stands for hardware that this machine does not have.
MOCK = "AMDSMI_MOCK_STATE_DIR"
# In the folder of a recorded host: what `ask.ask_raw` answered there.
RECORDING = "amdsmi.json"
_MOST_BYTES = 64 * 2**20


class AmdSmiDetector:
    """Asks amdsmi. Costs next to nothing where there is no sign of an AMD GPU."""

    name = "amdsmi"
    vendor = "amd"

    def detect(self, surroundings: Surroundings) -> Finding:
        mocked = MOCK in surroundings.environment
        recording = surroundings.root / RECORDING
        if not mocked and not surroundings.is_live and os.path.isfile(recording):  # noqa: PTH113 - Path.is_file raises
            return _recorded(surroundings)
        if not mocked and not is_sign_of_gpu(surroundings.root):
            return without_driver(self.name, surroundings.root)
        if not mocked and not surroundings.is_live:
            return Finding(source=self.name)  # a recorded host can be read, not asked
        return _ask(surroundings, mocked)


def _ask(surroundings: Surroundings, mocked: bool) -> Finding:
    from aim_engine.hardware import visibility  # here: most machines never come this far
    from aim_engine.hardware.amd import ask
    from aim_engine.hardware.amd.answer import read_answer

    answer = ask.ask_raw(surroundings.environment, surroundings.timeout_seconds)
    found = read_answer(answer, surroundings.root, check_nodes=not mocked)
    return visibility.as_seen(found, surroundings.environment)


def _recorded(surroundings: Surroundings) -> Finding:
    """The device nodes matter only where the recording has any: /dev may have been left out of it."""
    from aim_engine.hardware import visibility
    from aim_engine.hardware.amd import ask
    from aim_engine.hardware.amd.answer import read_answer

    root = surroundings.root
    try:
        with (root / RECORDING).open("rb") as file:
            answer = ask.parse(file.read(_MOST_BYTES))
    except OSError as error:
        answer = {"reason": f"{root / RECORDING} cannot be read: {error.strerror}"}
    found = read_answer(answer, root, check_nodes=os.path.isdir(root / "dev"))  # noqa: PTH112 - Path.is_dir raises
    return visibility.as_seen(found, surroundings.environment)
