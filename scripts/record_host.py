"""Records a host: the tree that the hardware detectors read comes in, a redacted copy of those few files goes out.

Run it as scripts/record-host. Plain Python from 3.8 on, because it runs on hosts that have nothing else. The list of
the driver's files is the detector's own (aim_engine/hardware/kfd_read.py).
"""

from __future__ import annotations

import argparse
import getpass
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 60.0
NODE_TEXTS = ("unique_id", "hive_id")  # in a node's `properties`
SECRET = re.compile(r"serial|uuid|unique_id|hive", re.IGNORECASE)  # in the names of amdsmi's values
LEFT_OUT = ("holders", "asked_by", "processes", "process_list", "pid", "container_name")
# What the detectors read of the host itself (aim_engine/hardware/cpu.py).
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
    if "gpus" in raw:
        files["amdsmi.json"] = json.dumps(redaction.answer(raw), indent=1) + "\n"
    nodes = {} if reading is None else present_nodes(reading)
    for path, text in sorted(files.items()):
        write(folder / path, redaction.sweep(text))
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
    """aim_engine/hardware of the checkout, or of the installed package where this file is alone."""
    folder = CHECKOUT / "aim_engine" / "hardware"
    found = None if folder.is_dir() else importlib.util.find_spec("aim_engine")
    return Path(str(found.origin)).parent / "hardware" if found else folder


def read_driver(root: Path) -> dict[str, Any] | None:
    """kfd_read.py's answer, from a process of its own: a wedged driver may never answer it. None when it did not."""
    command = [sys.executable, str(hardware_folder() / "kfd_read.py"), str(root)]
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
        from aim_engine.hardware.amd_ask import ask_raw
    except ImportError as error:
        return {"reason": f"this is no whole checkout: {error}"}
    return dict(ask_raw(os.environ, LIMIT_SECONDS))


def driver_files(reading: dict[str, Any], redaction: Redaction) -> dict[str, str]:
    """The driver's files without what names this host, its parts or its processes."""
    saved = {}
    for path, text in reading["files"].items():
        if path.startswith(("sys/class/kfd/kfd/proc/", "proc/")) and not path.startswith("proc/sys/"):
            continue
        if path.endswith("/unique_id"):
            saved[path] = redaction.hexadecimal(text)
        elif path.endswith("/properties"):
            saved[path] = re.sub(
                rf"^({'|'.join(NODE_TEXTS)}) (\d+)$",
                lambda m: f"{m[1]} {redaction.number(int(m[2]))}",
                text,
                flags=re.M,
            )
        else:
            saved[path] = text
    return saved


def host_files(root: Path) -> dict[str, str]:
    """The host's own files; of the CPUs' descriptions the first, as the others repeat it."""
    saved = {}
    lists = (root / "sys/devices/system/node").glob("node[0-9]*/cpulist")
    for path in [*(root / name for name in HOST_FILES), *lists]:
        text = read(path)
        if text is not None:
            saved[str(path.relative_to(root))] = text
    first_core = (read(root / "proc/cpuinfo") or "").split("\n\n")[0]
    saved["proc/cpuinfo"] = first_core + "\n\n"
    return saved


def read(path: Path) -> str | None:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(65536)
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


class Redaction:
    """Made-up ids for real ones: as long, and the same for the same, whichever way they are written."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.texts: dict[str, str] = {}
        self.names = [name for name in (platform.node(), str(Path.home()), user_name()) if len(name) > 3]

    def number(self, value: int) -> int:
        """Zero says that there is none."""
        if value <= 0:
            return value
        least = max(10 ** (len(str(value)) - 1), 16 ** (len(f"{value:x}") - 1))
        return self.numbers.setdefault(value, least + len(self.numbers) + 1)

    def hexadecimal(self, text: str) -> str:
        """Any text whose longest part is up to 16 hex digits ("0x...", "GPU-...")."""
        return re.sub(r"(?<![0-9a-zA-Z])(0x)?([0-9a-fA-F]{6,16})(?![0-9a-zA-Z])", self._hex, text)

    def _hex(self, match: re.Match[str]) -> str:
        return (match[1] or "") + f"{self.number(int(match[2], 16)):0{len(match[2])}x}"

    def text(self, text: str) -> str:
        """A serial number or uuid; "N/A" and the like stay."""
        if text.strip().upper() in ("N/A", "NONE", "UNKNOWN") or not text.strip("0xX- \n"):
            return text
        if re.fullmatch(r"(GPU-|0x)?[0-9a-fA-F]{6,16}\s*", text):
            return self.hexadecimal(text)
        if text not in self.texts:
            digits = f"{len(self.texts) + 1:0{sum(letter.isalnum() for letter in text)}d}"
            made_up = iter(digits)
            self.texts[text] = "".join(next(made_up) if letter.isalnum() else letter for letter in text)
        return self.texts[text]

    def variables(self, given: dict[str, str]) -> dict[str, str]:
        """The visibility variables, whose words are indices, ids of GPUs, or mistakes. Spaces matter to their readers.

        Called last: an id that was met before, or the beginning of one, becomes what that became.
        """
        return {name: re.sub(r"[^,\s]+", self._word, text) for name, text in given.items()}

    def _word(self, match: re.Match[str]) -> str:
        word = match[0]
        if re.fullmatch(r"-?[0-9]{1,5}|all|none|void", word):
            return word
        identity = re.fullmatch(r"(GPU-|0x)([0-9a-f]{1,16})", word, re.IGNORECASE)
        if identity is None:
            return self.text(word)
        begin = identity[2].lower()
        known = [made_up for value, made_up in self.numbers.items() if f"{value:016x}".startswith(begin)]
        # what begins several ids becomes what begins all made-up ones
        return identity[1] + (f"{known[0]:016x}" if len(known) == 1 else "1" if known else self._unknown(begin))

    def _unknown(self, digits: str) -> str:
        return f"{self.number(int(digits, 16)):0{len(digits)}x}"

    def answer(self, value: Any, key: str = "") -> Any:
        """amdsmi's answer without ids; lists and objects are gone through."""
        if isinstance(value, dict):
            return {name: self.answer(inner, name) for name, inner in value.items() if name not in LEFT_OUT}
        if isinstance(value, list):
            return [self.answer(inner, key) for inner in value]
        if SECRET.search(key) and isinstance(value, int) and not isinstance(value, bool):
            return self.number(value)
        if not isinstance(value, str):
            return value
        return self.text(value) if SECRET.search(key) else self.nameless(value)

    def nameless(self, text: str) -> str:
        """A library's sentence or path without this host, its user and the user's folder."""
        if " " in text or "/" in text:
            for name in self.names:
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(left out)", text)
        return text

    def sweep(self, text: str) -> str:
        """What is left of the real ones elsewhere."""
        for value, made_up in self.numbers.items():
            for old, new in (
                (f"{value:x}", f"{made_up:x}"),
                (f"{value:X}", f"{made_up:X}"),
                (str(value), str(made_up)),
            ):
                if len(old) > 9:
                    text = text.replace(old, new)
        return text


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return ""


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
