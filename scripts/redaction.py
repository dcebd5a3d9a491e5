"""What a recording of a host must not say: the texts of its files come in, the same without ids and names go out.

For scripts/record_host.py, and like it plain Python from 3.8 on. Made-up ids are as long as the real ones, and the same
for the same, whichever way they are written.
"""

from __future__ import annotations

import getpass
import os
import platform
import re
from pathlib import Path
from typing import Any

LEFT_OUT = "(left out)"
NODE_TEXTS = ("unique_id", "hive_id")  # in a node's `properties`
SECRET = re.compile(r"serial|uuid|unique_id|hive", re.IGNORECASE)  # in the names of amdsmi's values
NEVER_SAVED = ("holders", "asked_by", "processes", "process_list", "pid", "container_name")
VERSIONS = ("driver_version",)  # amdsmi's values that may be the kernel's own, with its builder's name in it
NOBODYS_NAMES = ("root", "localhost")
# Of files with a key in each line: what follows the key, and the keys whose lines are kept, which are those that the
# detectors read and what tells kinds apart.
KEPT = {
    "properties": (" ", (
        "cpu_cores_count", "simd_count", "simd_per_cu", "num_xcc", "gfx_target_version", "vendor_id", "device_id",
        "location_id", "domain", "drm_render_minor", "hive_id", "unique_id", "fw_version", "sdma_fw_version",
        "local_mem_size", "heap_type", "size_in_bytes", "type", "node_from", "node_to", "weight",
    )),
    "uevent": ("=", ("DRIVER", "PCI_CLASS", "PCI_ID", "PCI_SUBSYS_ID", "PCI_SLOT_NAME", "MODALIAS")),
    "meminfo": (":", ("MemTotal", "MemFree", "MemAvailable")),
    "cpuinfo": (":", (
        "processor", "vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features",
        "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision",
    )),
}  # fmt: skip

UUID = re.compile(r"(?<![0-9a-z])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-z])", re.IGNORECASE)
LONG_ID = re.compile(r"(?<![0-9a-z])(?:0x)?[0-9a-f]{16}(?![0-9a-z])", re.IGNORECASE)
AT_A_HOST = re.compile(r"[\w.+-]+@[\w.-]+")
AT_HOME = re.compile(r"(/(?:home|Users)/)[^/\s\"':;,)]+")
OF_A_PROCESS = re.compile(r"\b((?:p|t|pp|pg)id|process(?: id)?|thread)([\s:=#]+)\d+", re.IGNORECASE)
NUMBER_OF_A_PART = re.compile(
    r"\b((?:serial|fru|part|board)(?:[ _](?:number|no|id))?|s/n|uuid|unique[ _]id|hive[ _]id)([\s:=#]+)"
    r"(?=[\w-]*\d)([\w-]{4,})",
    re.IGNORECASE,
)


class Redaction:
    """Made-up ids for real ones, and no names; it remembers what it met, so that it is found elsewhere too."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.texts: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.names = known_names()

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
        if text in self.texts.values():  # made up already
            return text
        if re.fullmatch(r"(GPU-|0x)?[0-9a-fA-F]{6,16}\s*", text):
            return self.hexadecimal(text)
        if text not in self.texts:
            digits = f"{len(self.texts) + 1:0{sum(letter.isalnum() for letter in text)}d}"
            made_up = iter(digits)
            self.texts[text] = "".join(next(made_up) if letter.isalnum() else letter for letter in text)
        return self.texts[text]

    def version(self, text: str) -> str:
        """The numbers that a version begins with: whoever built it may have put a name after them."""
        found = re.match(r"\d+(?:[.-]\d+)*", text.strip())
        kept = found[0] if found else ""
        if kept != text.strip() and len(text.strip()) > 3:
            self.versions[text.strip()] = kept
        return kept

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

    def driver_file(self, path: str, text: str) -> str:
        """One of the driver's files."""
        name = path.rpartition("/")[2]
        if name == "unique_id":
            return self.hexadecimal(text)
        if name in ("version", "osrelease"):
            return self.version(text) + "\n"
        if name == "properties":
            return re.sub(
                rf"^({'|'.join(NODE_TEXTS)}) (\d+)$", lambda m: f"{m[1]} {self.number(int(m[2]))}", text, flags=re.M
            )
        return text

    def answer(self, value: Any, key: str = "") -> Any:
        """amdsmi's answer without ids; lists and objects are gone through."""
        if isinstance(value, dict):
            return {name: self.answer(inner, name) for name, inner in value.items() if name not in NEVER_SAVED}
        if isinstance(value, list):
            return [self.answer(inner, key) for inner in value]
        if SECRET.search(key) and isinstance(value, int) and not isinstance(value, bool):
            return self.number(value)
        if not isinstance(value, str):
            return value
        if key in VERSIONS:
            return self.version(value)
        return self.text(value) if SECRET.search(key) else value

    def last(self, path: str, text: str) -> str:
        """The final pass over everything that is saved, when all ids and names are known."""
        name = path.rpartition("/")[2]
        if name in KEPT:
            return "".join(self._line(line, *KEPT[name]) for line in text.splitlines())
        return self.sweep(self.nameless(text))

    def last_of_json(self, value: Any) -> Any:
        """The same for the texts of a JSON value; its keys are no names."""
        if isinstance(value, dict):
            return {name: self.last_of_json(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.last_of_json(inner) for inner in value]
        return self.sweep(self.nameless(value)) if isinstance(value, str) else value

    def _line(self, line: str, separator: str, kept: tuple[str, ...]) -> str:
        """One line, if its key is one of ours; an empty one keeps its place."""
        key, found, value = line.partition(separator)
        if not line.strip():
            return "\n"
        return f"{key}{found}{self.sweep(self.nameless(value))}\n" if key.strip() in kept else ""

    def nameless(self, text: str) -> str:
        """A text without this host, its users and their folders, processes, and the numbers of parts."""
        for old in sorted(self.versions, key=len, reverse=True):
            text = text.replace(old, self.versions[old])
        text = AT_A_HOST.sub(LEFT_OUT, text)
        for name in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", LEFT_OUT, text, flags=re.IGNORECASE)
        text = AT_HOME.sub(lambda m: m[1] + LEFT_OUT, text)
        text = OF_A_PROCESS.sub(lambda m: f"{m[1]}{m[2]}{LEFT_OUT}", text)
        text = NUMBER_OF_A_PART.sub(lambda m: f"{m[1]}{m[2]}{self.text(m[3])}", text)
        return UUID.sub(lambda m: self.text(m[0]), text)

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
        for serial, made_up_serial in self.texts.items():
            if len(serial) > 5:
                text = re.sub(rf"(?<!\w){re.escape(serial)}(?!\w)", made_up_serial, text, flags=re.IGNORECASE)
        known = {f"{made_up:016x}" for made_up in self.numbers.values()}
        return LONG_ID.sub(lambda m: m[0] if m[0][-16:].lower() in known else self.hexadecimal(m[0]), text)


def known_names() -> list[str]:
    """This host's and its users' names, and where the user's files are; what half the world is called stays."""
    hosts = {platform.node(), os.environ.get("HOSTNAME", "")}
    names = {*hosts, *(host.partition(".")[0] for host in hosts), user_name(), str(Path.home())}
    names |= {os.environ.get(variable, "") for variable in ("SUDO_USER", "LOGNAME", "USER")}
    return sorted(name for name in names if name.strip("/0123456789") and name.strip("/") not in NOBODYS_NAMES)


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return ""
