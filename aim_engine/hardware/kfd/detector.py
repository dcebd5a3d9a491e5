"""AMD GPUs as the kernel's compute driver shows them in /sys: surroundings in, a `Finding` out.

The layer to fall back on where amdsmi is missing or broken, and the one that reads a recorded host. Reading is
read.py (on a live machine in a child process with a time limit), understanding answer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aim_engine.hardware.amd.signs import without_driver
from aim_engine.hardware.device_nodes import DEVICES, OR_ELSE, is_sign_of_gpu
from aim_engine.hardware.inventory import Finding, Surroundings

if TYPE_CHECKING:
    from aim_engine.hardware.amd.ask import Ending

SOURCE = "kfd"


class KfdDetector:
    """Reads the KFD topology. Costs next to nothing where there is no sign of an AMD GPU."""

    name = SOURCE
    vendor = "amd"

    def detect(self, surroundings: Surroundings) -> Finding:
        if not is_sign_of_gpu(surroundings.root):
            return without_driver(SOURCE, surroundings.root)
        if surroundings.is_live:
            return _ask_child(surroundings)
        from aim_engine.hardware.kfd.read import read_tree  # here: most machines never come this far

        return understand(read_tree(str(surroundings.root)), surroundings.environment)


def _ask_child(surroundings: Surroundings) -> Finding:
    """A read of /sys waits for the driver, for ever if that is wedged."""
    from aim_engine.hardware.amd import ask
    from aim_engine.hardware.kfd import read

    script = Path(read.__file__)
    ending = ask.run_child(surroundings.environment, surroundings.timeout_seconds, script=script)
    return finding_of_child(ending, surroundings.environment, surroundings.timeout_seconds)


def finding_of_child(ending: Ending, environment: Mapping[str, str], timeout_seconds: float) -> Finding:
    """What the child's answer amounts to, or why there is none."""
    if ending.answer is not None:
        return understand(ending.answer, environment)
    if ending.status is None:
        return _blocked(
            f"the KFD topology in /sys was not read within {timeout_seconds:g} seconds; the driver may be wedged",
            "look at `dmesg | grep amdgpu` on the host and reboot it if a GPU hangs; AIM_DETECT_TIMEOUT waits longer",
        )
    return _blocked(
        f"the KFD topology in /sys could not be read: exit status {ending.status} ({ending.last_words})",
        "see whether python3 can be started here, and the memory and process limits of this container",
        certain=False,
    )


def understand(reading: Mapping[str, Any], environment: Mapping[str, str]) -> Finding:
    """The finding that read.py's answer amounts to, as the environment's visibility variables leave it.

    Raises:
        InputError: those variables contradict each other.
    """
    from aim_engine.hardware.kfd.answer import gpus_and_notes
    from aim_engine.hardware.visibility import as_seen

    if reading["kfd_nodes"] is None:
        return _no_topology(reading)
    gpus, notes = gpus_and_notes(reading)
    foreign = _unreadable(reading)
    if not gpus:
        return _no_gpu(foreign)
    if foreign:
        notes = (*notes, f"{foreign} of {len(reading['kfd_nodes'])} KFD nodes cannot be read: they are not ours to use")
    closed = "" if any(gpu.usable for gpu in gpus) else f"none of the {len(gpus)} AMD GPUs can be used"
    found = Finding(
        source=SOURCE,
        gpus=gpus,
        reason=closed,
        hint=notes[0] if closed and notes else "",
        notes=notes,
        driver_version=_driver_version(reading["files"]),
    )
    return as_seen(found, environment)


def _blocked(reason: str, hint: str, *, certain: bool = True) -> Finding:
    """There is an AMD GPU, or a sign of one, that cannot be used: the search ends here."""
    return Finding(source=SOURCE, reason=reason, hint=hint + OR_ELSE, blocking=True, certain=certain)


def _no_topology(reading: Mapping[str, Any]) -> Finding:
    if reading["driver"]:
        return _blocked(
            "the amdgpu driver is loaded, but its KFD topology in /sys is hidden from this process",
            f"a sandboxed runtime or a masked /sys hides it; use the default runtime: {DEVICES}",
        )
    return _blocked(
        "/dev/kfd is here, but no KFD topology in /sys: the amdgpu driver is not loaded, or all of /sys is masked",
        "on the host: sudo modprobe amdgpu, then look at `dmesg | grep amdgpu`; in a container use the default runtime",
    )


def _no_gpu(foreign: int) -> Finding:
    if foreign:
        return _blocked(
            f"the KFD topology lists {foreign} nodes that this process may not read: the container was started without "
            "the GPUs' render nodes",
            f"start the container with its devices: {DEVICES}",
        )
    return _blocked(
        "the amdgpu driver is loaded, but its KFD topology lists no GPU",
        "look at `dmesg | grep -e amdgpu -e kfd` on the host: the GPU failed to start, or cannot compute",
    )


def _unreadable(reading: Mapping[str, Any]) -> int:
    """Nodes whose folder is there and whose content is not ours: the device cgroup hides them."""
    from aim_engine.hardware.kfd.read import node_path, number

    files: Mapping[str, str] = reading["files"]
    return sum(number(files.get(f"{node_path(node)}/gpu_id")) is None for node in reading["kfd_nodes"])


def _driver_version(files: Mapping[str, str]) -> str | None:
    """Only a driver that was built outside of the kernel (DKMS) has a version of its own."""
    from aim_engine.hardware.kfd.answer import printable
    from aim_engine.hardware.kfd.read import DRIVER

    version = printable(files.get(f"{DRIVER}/version", ""))
    release = printable(files.get("proc/sys/kernel/osrelease", ""))
    return version or (f"{release} (in-tree)" if release else None)
