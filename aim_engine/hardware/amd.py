"""AMD GPUs as the driver's own library tells of them: surroundings in, a `Finding` out.

Decides only whether there is anything to ask. Asking is amd_ask.py (a child process, amd_child.py, with a time limit),
understanding the answer amd_answer.py. Knows no recipe or engine.
"""

from __future__ import annotations

from aim_engine.hardware.device_nodes import ABSENT, ABSENT_HINT, is_sign_of_gpu
from aim_engine.hardware.inventory import Finding, Surroundings

# Set for the mock that AMD ships with amdsmi (rocm-systems, projects/amdsmi/tests/mock_backend) and by our own tests:
# there the library stands for hardware that this machine does not have.
_MOCK = "AMDSMI_MOCK_STATE_DIR"


class AmdSmiDetector:
    """Asks amdsmi. Costs next to nothing where there is no sign of an AMD GPU."""

    name = "amdsmi"
    vendor = "amd"

    def detect(self, surroundings: Surroundings) -> Finding:
        mocked = _MOCK in surroundings.environment
        if not mocked and not is_sign_of_gpu(surroundings.root):
            return Finding(source=self.name, reason=ABSENT, hint=ABSENT_HINT)
        if not mocked and not surroundings.is_live:
            return Finding(source=self.name, reason="amdsmi cannot be asked about a recorded host")
        return _ask(surroundings, mocked)


def _ask(surroundings: Surroundings, mocked: bool) -> Finding:
    from aim_engine.hardware import amd_answer, amd_ask  # here: most machines never come this far

    ending = amd_ask.run_child(surroundings.environment, surroundings.timeout_seconds)
    if ending.answer is None:
        return amd_answer.blocked(*amd_ask.explain(ending, surroundings.timeout_seconds))
    return amd_answer.read_answer(ending.answer, surroundings.root, check_nodes=not mocked)
