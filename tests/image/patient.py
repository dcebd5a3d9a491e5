"""A container to be harmed: the parts of it by name, signals to each of them, requests that run meanwhile, and what it
left when it has ended.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aim_engine.runtime.processes import Identity, identify, is_alive
from scripts.long_model import long_prompt
from scripts.serving import is_open
from scripts.streams import Stream
from tests.image.containers import Container, docker

STREAM_TOKENS, PROMPT_TOKENS = 8000, 20000
STATE, TERMINATION_LOG = "/tmp/aim-engine-0/8000", "/dev/termination-log"
# Run inside: the pids of every part, and a signal to the first process of one of them. The engine's own server is the
# child of supervisord that is none of ours; its children name themselves (vLLM: VLLM::EngineCore, VLLM::Worker).
_PARTS = """
import json, os, sys
NAMES = {"core": "VLLM::EngineCor", "worker": "VLLM::Worker"}
found, parents = {}, {}
for name in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open(f"/proc/{name}/stat").read()
        words = open(f"/proc/{name}/cmdline").read().split("\\0")
    except OSError:
        continue
    title, fields = line[line.index("(") + 1:line.rindex(")")], line[line.rindex(")") + 2:].split()
    if fields[0] in "ZX":
        continue
    parents[int(name)] = int(fields[1])
    ours = next((words[i + 1] for i, word in enumerate(words[:-1]) if word.endswith("/runtime/__main__.py")), "")
    theirs = [part for part, start in NAMES.items() if title.startswith(start)]
    part = ours or "".join(theirs)
    found.setdefault(part, []).append(int(name))
daemons = found.get("supervisord", [])
servers = [pid for pid in found.pop("", []) if parents[pid] in daemons]
found |= {"server": servers} if servers else {}
if len(sys.argv) > 2:
    os.kill(found[sys.argv[1]][0], int(sys.argv[2]))
print(json.dumps(found))
"""


class Patient(Container):
    """A container that has its last words in a file of the host, as Kubernetes would have them."""

    def __init__(self, image: str, folder: Path, *command: str, options: Sequence[str] = ()) -> None:
        self.termination_log = folder / f"termination-log-{time.monotonic_ns()}"
        self.termination_log.touch()
        self.termination_log.chmod(0o666)
        mount = ("--volume", f"{self.termination_log}:{TERMINATION_LOG}")
        super().__init__(image, *command, options=(*mount, *options))
        self._seen: set[Identity] = set()
        self._urls: dict[int, str] = {}

    def url(self, port: int, scheme: str = "http") -> str:
        """Asked of Docker once: of one that has ended it does not tell."""
        self._urls[port] = self._urls.get(port) or super().url(port, scheme)
        return self._urls[port]

    def parts(self, part: str = "", signum: int = 0) -> dict[str, list[int]]:
        """The pids of its parts, as it counts them; with a signal to one of them, if one is named."""
        more = (part, str(int(signum))) if part else ()
        said = docker("exec", "--user", "0", self.id, "python3", "-I", "-S", "-c", _PARTS, *more).stdout
        found: dict[str, list[int]] = json.loads(said)
        return found

    def signal(self, part: str, signum: int) -> int:
        """Send it, and say to which process."""
        return self.parts(part, signum)[part][0]

    def remember_processes(self) -> None:
        """Those that run now, as the host counts them."""
        titles, *rows = docker("top", self.id, "-eo", "pid,comm").stdout.splitlines()
        assert titles.split()[0] == "PID"
        self._seen |= {identity for row in rows if (identity := identify(int(row.split()[0])))}
        assert self._seen, "docker top shows no process that is on this host"

    def left(self) -> list[Identity]:
        return [identity for identity in self._seen if is_alive(identity)]

    def attempts(self) -> list[dict[str, Any]]:
        """Every start so far, and how it ended."""
        status, text = self.get("/status")
        found: list[dict[str, Any]] = json.loads(text)["attempts"] if status == 200 else []
        return found

    def kept_attempts(self) -> list[dict[str, Any]]:
        """The same, of one that has ended."""
        argv = ["docker", "cp", f"{self.id}:{STATE}/attempts.json", "-"]
        packed = subprocess.run(argv, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            file = archive.extractfile("attempts.json")
            assert file
            found: list[dict[str, Any]] = json.load(file)["attempts"]
        return found

    def phase(self) -> str:
        try:
            return str(json.loads(self.get("/health/ready")[1])["phase"])
        except (ValueError, KeyError):
            return ""

    def published(self) -> list[int]:
        return [urlsplit(self.url(port)).port or 0 for port in (8000, 8080)]

    def ended(self, seconds: float = 60) -> tuple[int, dict[str, Any]]:
        """Its exit code and its last words, which stand in two places; nothing of it is left."""
        ports = self.published()
        code = self.wait(seconds)
        words = self.words()
        assert words["code"] == code
        assert json.loads(self.termination_log.read_text()) == words
        assert self.left() == []
        assert [port for port in ports if is_open(port)] == []
        return code, words


def address(container: Container, port: int = 8000) -> tuple[str, int]:
    found = urlsplit(container.url(port))
    return str(found.hostname), int(found.port or 0)


def streaming(patient: Patient, tokens: int = STREAM_TOKENS) -> Stream:
    """A stream that has begun."""
    asking = Stream(address(patient), "Hello", tokens)
    asking.start()
    until = time.monotonic() + 30
    while len(asking.chunks) <= 5 and asking.is_alive():  # until() asks Docker too, which takes as long as a stream
        assert time.monotonic() < until, "the stream has not begun"
        time.sleep(0.01)
    return asking


def prefilling(patient: Patient) -> Stream:
    """A prompt that takes seconds, none of which is in the prefix cache."""
    asking = Stream(address(patient), long_prompt(PROMPT_TOKENS), 5)
    asking.start()
    time.sleep(0.4)
    return asking


@contextmanager
def during(patient: Patient, work: str) -> Iterator[Stream | None]:
    """What is under way while the block runs (`idle`, `streaming` or `prefilling`); its end is waited for."""
    if work == "idle":
        yield None
        return
    asking = streaming(patient) if work == "streaming" else prefilling(patient)
    assert asking.is_alive(), f"it was over too soon: {asking.status} {asking.error}"
    assert work == "streaming" or not asking.chunks, "it is not in its prompt any more"
    yield asking
    asking.join(120)
