"""`aim-engine serve` as a user starts it, on a place with something wrong: a `Given` in, a run to look at out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aim_engine.runtime.state import State
from tests.runtime.ports import free_ports
from tests.runtime.server import ROOT, Server

NOBODY = 54321  # a user id that no passwd entry names


@dataclass(frozen=True, kw_only=True)
class Given:
    """What is wrong: the model, flags and variables beside the usual ones, words before the command, and what happens
    once the engine's process is there.
    """

    model: str = ""
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    meanwhile: Callable[[Server], None] = lambda run: None


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it is made to go wrong: a folder of the test's own, a model that could be served, and what ends with it."""

    folder: Path
    model: Path
    ends: ExitStack

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def copy(self) -> Path:
        """A copy of the model, to be broken."""
        return shutil.copytree(self.model, self.folder / "broken")


class Serve(Server):
    """One `aim-engine serve` on the CPU, with ports and folders of its own."""

    def __init__(self, place: Place, given: Given, environment: Mapping[str, str]) -> None:
        port, health_port = free_ports(2)
        plan = {"runtime": {"port": port, "health_port": health_port, "state_dir": str(place.state)}}
        flags = ["--hardware", "cpu", "--host", "127.0.0.1", "--port", str(port), "--health-port", str(health_port),
                 "--cache-dir", str(place.cache), "--state-dir", str(place.state), *given.flags]  # fmt: skip
        argv = [*given.prefix, sys.executable, "-m", "aim_engine.cli.main", "serve", *flags, "--",
                given.model or str(place.model)]  # fmt: skip
        self.begin(plan, place.folder, argv, {**plain_environment(place.folder), **environment, **given.environment})

    def attempts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (self.read("attempts.json") or {}).get("attempts", [])
        return found

    def phases(self) -> list[str]:
        return [str(entry["phase"]) for entry in State(str(self.state)).timeline() if "phase" in entry]


def plain_environment(home: Path) -> dict[str, str]:
    """Ours, without what would change how it ends."""
    # by names: this runs in threads, and pytest takes one of its variables away meanwhile
    names = (name for name in list(os.environ) if not name.startswith(("AIM_", "HF_", "HUGGING", "VLLM_")))
    ours = {name: text for name in names if (text := os.environ.get(name)) is not None}
    return {**ours, "HOME": str(home), "PYTHONPATH": str(ROOT)}


# --- places --------------------------------------------------------------------------------------------------------


def with_mount(folder: Path, options: str) -> tuple[str, ...]:
    """A prefix by which the command sees a tmpfs there that nobody else does."""
    skip_unless_root("a file system can be mounted")
    words = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@"')
    probe = subprocess.run([*words, options, str(folder), "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no tmpfs can be mounted: {probe.stderr.decode()}")
    return (*words, options, str(folder))


def as_nobody() -> tuple[str, ...]:
    """A prefix by which the command runs as a user without a right."""
    skip_unless_root("another user can be had")
    words = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    if subprocess.run([*words, sys.executable, "-c", "import json"], capture_output=True, check=False).returncode:
        pytest.skip("others may not run this Python")
    return words


def with_memory_group(ends: ExitStack) -> tuple[tuple[str, ...], Path]:
    """A prefix by which the command is in a memory control group of its own (version 1), and the file of its limit."""
    skip_unless_root("a control group can be made")
    group = Path(tempfile.mktemp(prefix="aim-fault-", dir="/sys/fs/cgroup/memory"))  # only mkdir makes one
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")

    def remove() -> None:
        for _ in range(100):  # its dead are counted for a moment
            with suppress(OSError):
                group.rmdir()
                return
            time.sleep(0.1)

    ends.callback(remove)
    return ("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(group)), group / "memory.limit_in_bytes"


def skip_unless_root(what: str) -> None:
    """Skip, and say so: -rs shows it."""
    if os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
        pytest.skip(f"only with root, unshare and setpriv {what}")


# --- runs ------------------------------------------------------------------------------------------------------------

Inject = Callable[[Place], Given]


class Injections(dict[str, Inject]):
    """How each fault of a test file is brought about, by its row's id."""

    def injects(self, name: str) -> Callable[[Inject], Inject]:
        """Keep a function as the injection of that fault."""

        def keep(inject: Inject) -> Inject:
            self[name] = inject
            return inject

        return keep


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    code: int
    words: dict[str, Any]
    attempts: list[dict[str, Any]]
    phases: list[str]
    said: str


def end_of(place: Place, inject: Inject, environment: Mapping[str, str]) -> Outcome:
    """Start it with that fault, and wait until it has ended."""
    with place.ends:
        given = inject(place)
        run = Serve(place, given, environment)
        place.ends.callback(run.stop)
        run.until(lambda: run.server_pid() or run.process.poll() is not None, 60)
        given.meanwhile(run)
        return Outcome(code=run.wait(400), words=run.words(), attempts=run.attempts(), phases=run.phases(),
                       said=run.out + run.err)  # fmt: skip


@contextmanager
def ends_of(
    request: pytest.FixtureRequest, injections: Injections, model: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, Future[Outcome]]]:
    """The ends of the module's faults that were selected, by id. Two at a time, for much of such a run is waiting;
    begun in the order in which they are asked for.
    """
    here = [item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path]
    faults: list[Any] = [item.callspec.params["fault"] for item in here if hasattr(item, "callspec")]
    with open_folder() as folder, ThreadPoolExecutor(2) as pool:
        found = {}
        for name in [fault.id for fault in faults]:
            (folder / name).mkdir()
            place = Place(folder=folder / name, model=model, ends=ExitStack())
            found[name] = pool.submit(end_of, place, injections[name], environment)
        yield found
        pool.shutdown(cancel_futures=True)


@contextmanager
def open_folder() -> Iterator[Path]:
    """One that others may enter: pytest's own are for one user alone."""
    with tempfile.TemporaryDirectory(prefix="aim-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
