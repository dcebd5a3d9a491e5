"""Records a host: the tree that the hardware detectors read comes in, a redacted copy of those few files goes out.

Run it as scripts/record-host. Plain Python from 3.8 on, because it runs on hosts that have nothing else. The list of
the driver's files is the detector's own (aim_engine/hardware/kfd/read.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from scripts.redaction import Redaction  # noqa: E402

LIMIT_SECONDS = 60.0
# What Docker and Podman leave in a container: what mends a host is another thing there (check.py).
CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
# Those that choose among the GPUs, or seem to (aim_engine/hardware/visibility.py).
VARIABLES = (
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "AMD_VISIBLE_DEVICES",
)
# What the detectors read of the host itself (aim_engine/hardware/cpu.py), and of GPUs without a driver (pci.py).
HOST_FILES = ("proc/meminfo", "sys/devices/system/cpu/online", "proc/sys/kernel/numa_balancing")


def main() -> int:
    words = argparse.ArgumentParser(prog="record-host", description="Record this host's AMD GPUs into a folder.")
    words.add_argument("folder", metavar="FOLDER", type=Path, help="where to; empty or not there yet")
    words.add_argument("--root", type=Path, default=Path("/"), help="record the tree at ROOT instead (for tests)")
    asked = words.parse_args()
    if os.path.lexists(str(asked.folder)) and (not asked.folder.is_dir() or any(asked.folder.iterdir())):
        return fail(f"{asked.folder} is not an empty folder", "name one that is not there yet", 10)
    try:
        asked.folder.mkdir(parents=True, exist_ok=True)
        print(record(asked.root, asked.folder))
    except OSError as error:
        return fail(f"{asked.folder} cannot be written: {error}", "name a folder that you may write", 42)
    return 0


def fail(message: str, hint: str, code: int) -> int:
    print(f"record-host: {message}\n  {hint}", file=sys.stderr)
    return code


def record(root: Path, folder: Path) -> str:
    """Write the recording; what was saved, in words."""
    redaction = Redaction()
    reading = read_driver(root)
    raw = ask_amdsmi() if root == Path("/") else {"reason": "amdsmi can only be asked about this machine"}
    files = {} if reading is None else driver_files(reading, redaction)
    files.update(host_files(root))
    if "gpus" in raw:  # all ids are known before anything is written
        raw = redaction.last_of_json(redaction.answer(raw))
    nodes = {} if reading is None else present_nodes(reading)
    files = {path: redaction.last(path, text) for path, text in sorted(files.items())}
    if "gpus" in raw:
        files["amdsmi.json"] = json.dumps(raw, indent=1) + "\n"
    for path, text in files.items():
        write(folder / path, text)
    for path in ["sys", "dev", "proc", *([] if reading is None else folders(reading))]:
        (folder / path).mkdir(parents=True, exist_ok=True)
    marks = [mark for mark in CONTAINER_MARKS if (root / mark).exists()]
    for path in [*nodes, *marks]:
        write(folder / path.lstrip("/"), "")
    variables = redaction.variables(given_variables(root))
    recording = {"recorded_by": "record-host 2", "device_nodes": nodes, "variables": variables}
    write(folder / "recording.json", json.dumps(recording, indent=1) + "\n")
    return in_words(folder, files, recording, reading, raw)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def hardware_folder() -> Path:
    """aim_engine/hardware of the checkout, or of the installed package where scripts/ is alone."""
    folder = CHECKOUT / "aim_engine" / "hardware"
    found = None if folder.is_dir() else importlib.util.find_spec("aim_engine")
    return Path(str(found.origin)).parent / "hardware" if found else folder


def read_driver(root: Path) -> dict[str, Any] | None:
    """kfd/read.py's answer, from a process of its own: a wedged driver may never answer it. None when it did not."""
    command = [sys.executable, str(hardware_folder() / "kfd" / "read.py"), str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
        answer: dict[str, Any] = json.loads(output)
    except (subprocess.TimeoutExpired, ValueError):
        process.kill()  # and not waited for: what waits in the kernel does not end
        return None
    return answer


def ask_amdsmi() -> dict[str, Any]:
    """What amdsmi answers, or the reason why it does not."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs where AIM Engine does not
        return {"reason": "python3 is older than 3.11, with which it is asked"}
    sys.path.insert(0, str(hardware_folder().parent.parent))
    try:
        from aim_engine.hardware.amd.ask import ask_raw
    except ImportError as error:
        return {"reason": f"this is no whole checkout: {error}"}
    return dict(ask_raw(os.environ, LIMIT_SECONDS))


def driver_files(reading: dict[str, Any], redaction: Redaction) -> dict[str, str]:
    """The driver's files without those that are about processes."""
    return {
        path: redaction.driver_file(path, text)
        for path, text in reading["files"].items()
        if path.startswith("proc/sys/") or not path.startswith(("sys/class/kfd/kfd/proc/", "proc/"))
    }


def host_files(root: Path) -> dict[str, str]:
    """The host's own files; of the CPUs' descriptions the first, as the others repeat it."""
    saved = {}
    lists = (root / "sys/devices/system/node").glob("node[0-9]*/cpulist")
    for path in [*(root / name for name in HOST_FILES), *lists, *bus_files(root)]:
        text = read(path)
        if text is not None:
            saved[str(path.relative_to(root))] = text
    first_core = (read(root / "proc/cpuinfo") or "").split("\n\n")[0]
    saved["proc/cpuinfo"] = first_core + "\n\n"
    return saved


def bus_files(root: Path) -> list[Path]:
    """What says that a display adapter of AMD's or NVIDIA's is there: one without a driver shows nowhere else."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        kind = (read(device / "class") or "").strip()
        if (read(device / "vendor") or "").strip() in ("0x1002", "0x10de") and kind.startswith(("0x03", "0x1200")):
            found += [device / name for name in ("vendor", "device", "class")]
    return found


def read(path: Path) -> str | None:
    """A plain file's text: a pipe in its place would be waited for."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        with open(descriptor, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - it is open
            return file.read(65536) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None


def given_variables(root: Path) -> dict[str, str]:
    """This process's, or those that the recorded tree at `root` was recorded with."""
    given: Any = os.environ
    if root != Path("/"):
        given = json.loads(read(root / "recording.json") or "{}").get("variables", {})
    return {name: given[name] for name in VARIABLES if name in given}


def present_nodes(reading: dict[str, Any]) -> dict[str, Any]:
    return {
        path: {key: state[key] for key in ("mode", "group", "opens")}
        for path, state in reading["device_nodes"].items()
        if state["present"]
    }


def folders(reading: dict[str, Any]) -> list[str]:
    """Those that say something by being there: the driver's, and the nodes that could not be read."""
    topology = "sys/class/kfd/kfd/topology/nodes"
    found = ["sys/module/amdgpu"] if reading["driver"] else []
    if reading["kfd_nodes"] is not None:
        found += [topology, *(f"{topology}/{node}" for node in reading["kfd_nodes"])]
    return found


def in_words(
    folder: Path,
    files: dict[str, str],
    recording: dict[str, Any],
    reading: dict[str, Any] | None,
    raw: dict[str, Any],
) -> str:
    gpus = sum(path.endswith("/gpu_id") and text.strip() not in ("", "0") for path, text in files.items())
    unread = (
        0 if reading is None else sum(f"{path}/gpu_id" not in files for path in folders(reading) if path[-1].isdigit())
    )
    lines = [f"recorded into {folder}:"]
    if reading is None:
        lines += [f"  nothing of the driver: it did not answer within {LIMIT_SECONDS:g} seconds"]
    elif gpus:
        lines += [f"  {gpus} AMD GPUs or partitions of GPUs, as the kernel's driver shows them"]
    else:
        lines += ["  no AMD GPU: the driver shows this process none, or is not loaded"]
    lines += [f"  {unread} nodes of the driver that this process may not read"] if unread else []
    lines += [f"  {len(files)} small files, and {len(recording['device_nodes'])} empty stand-ins for device nodes"]
    lines += [f"  {name}={text}, which counts in the recording too" for name, text in recording["variables"].items()]
    lines += ["  amdsmi's own answer" if "amdsmi.json" in files else f"  not amdsmi's answer: {amdsmi_reason(raw)}"]
    lines += [
        "Ids and serial numbers in it are made up; names of hosts, users and processes are left out.",
        "What AIM Engine finds on it:  aim-engine detect --hardware " + str(folder),
        f"It can be attached to an issue:  tar czf host.tar.gz {folder}",
    ]
    return "\n".join(lines)


def amdsmi_reason(raw: dict[str, Any]) -> str:
    return str(raw.get("reason") or raw.get("text") or "it failed")


if __name__ == "__main__":
    sys.exit(main())
