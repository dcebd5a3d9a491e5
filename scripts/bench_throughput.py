"""Measure tokens per second through our image, through its base image's vLLM in a container, and through the same vLLM
command bare on this host. All three live through a whole round, and while one works the others are stopped dead: an
idle vLLM looks for work fifty times a second, and our own processes would burden the others too. Bare on the host run
the very files of the base image, as root may have it by chroot(1): another build of Python is some percent off. Each
engine computes on the last core and all else is on the first, or a start's luck with the cores would be measured.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from aim_engine.runtime.processes import Process, descendants, look, send
from scripts import serving
from scripts.bench_bare import BareCommand, bare, with_options
from scripts.bench_container import (
    CACHE,
    PYTHON,
    WEIGHTS,
    Container,
    built_image,
    remove_leftovers,
    removed,
    run_bare,
    run_image,
    scratch,
)
from scripts.bench_load import STREAMS, requests_for, tokens_per_second
from scripts.bench_numbers import BenchError, Result, in_turns, result, say
from scripts.bench_serve import MODEL, Run, ended, first_answer

SETTLE_SECONDS = 0.3  # after a thaw
ROUNDS, TURNS = 12, 6
TOLERANCE = 0.03
VERSIONS = (
    "import platform; from importlib.metadata import version; "
    "print('Python', platform.python_version() + ', torch', version('torch'))"
)


# The same process throughout, so that its id is the server's: each of these gives way to the next.
_BARE = """
root=$1
for name in proc dev sys; do mount --rbind "/$name" "$root/$name"; done
mount --bind "$2" "$root$3"
mount --bind "$4" "$root$5"
shift 5
exec chroot "$root" "$@"
"""


class Side(Protocol):
    """A running server. Frozen, it neither works nor costs anything."""

    @property
    def address(self) -> tuple[str, int]: ...

    @property
    def pid(self) -> int: ...

    @property
    def python(self) -> str: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def run(self, *command: str) -> str: ...


class HostServer:
    """A server that runs bare on this host, of the files below `root`."""

    def __init__(self, run: Run, root: str) -> None:
        self.address = ("127.0.0.1", run.port)
        self.pid = run.server.process.pid
        self.python = PYTHON
        self._root = root

    def freeze(self) -> None:
        for process in _tree(self.pid):
            send(process.identity, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in _tree(self.pid):
            send(process.identity, signal.SIGCONT)

    def run(self, *command: str) -> str:
        done = subprocess.run(["chroot", self._root, *command], capture_output=True, text=True, check=True)
        return done.stdout.strip()


@dataclass(frozen=True, kw_only=True)
class Round:
    """One start of each side: its samples in tokens per second, in their order, and what each runs on."""

    samples: Mapping[str, Sequence[float]]
    notes: Mapping[str, str]

    def rate(self, side: str) -> float:
        return statistics.median(self.samples[side])

    def ratio(self, above: str, below: str) -> float:
        """The median of the ratios of samples that stand side by side: both met the same mood of the machine."""
        pairs = zip(self.samples[above], self.samples[below], strict=True)
        return statistics.median(a / b for a, b in pairs)


def bench_throughput(rounds: int | None) -> list[Result]:
    """Of the image, which is built first, of its base, and of the same command bare on this host."""
    if os.geteuid() != 0 or len(_here()) < 2:
        raise BenchError(
            "to run the image's files bare on the host takes root, and to keep engine and client apart two cores"
        )
    base = built_image()
    try:
        return throughput_rows(base, rounds or ROUNDS)
    finally:
        remove_leftovers()


def throughput_rows(base: str, rounds: int) -> list[Result]:
    """Every round starts each side anew: where the kernel puts a process' memory makes one start some percent quicker
    or slower than another, for as long as it lives. The versions of Python are in the names, for they may differ.
    """
    found = [_round(base, number) for number in range(1, rounds + 1)]
    notes = found[-1].notes
    ratios = {
        "tokens per second: image / bare on this host": (1.0, "image", "bare on this host"),
        "tokens per second: image / base image": (1.0, "image", "base image"),
        "tokens per second: base image / bare on this host": (None, "base image", "bare on this host"),
    }
    return [
        *(result(f"tokens per second: {name} ({note})", "tokens/s", None, [one.rate(name) for one in found])
          for name, note in notes.items()),
        *(result(name, "×", goal, [one.ratio(above, below) for one in found], TOLERANCE if goal else None)
          for name, (goal, above, below) in ratios.items()),
    ]  # fmt: skip


def _round(base: str, number: int) -> Round:
    with ExitStack() as stack:
        sides = _start_all(base, stack)
        threads = _threads(sides)
        notes = {name: f"{side.run(side.python, '-c', VERSIONS)}, {threads[name]} engine threads"
                 for name, side in sides.items()}  # fmt: skip
        for side in sides.values():
            _pin(side.pid)
            side.freeze()
        stack.enter_context(_on_first_core())
        rates = [_sample(side, 1) for _ in range(2) for side in sides.values()]  # the first of each is the warm-up
        requests = requests_for(rates[-1])
        samples = in_turns({name: partial(_sample, side, requests) for name, side in sides.items()}, TURNS)
    found = Round(samples=samples, notes=notes)
    say(f"round {number}: " + ", ".join(f"{name} {found.rate(name):,.0f} tokens/s" for name in samples)
        + f"; image / bare {found.ratio('image', 'bare on this host'):.3f}"
        + f", image / base {found.ratio('image', 'base image'):.3f}")  # fmt: skip
    return found


def _start_all(base: str, stack: ExitStack) -> dict[str, Side]:
    """One after the other, each until it answers. The bare ones get the command of the image's plan."""
    # one thread: two on one core would each spin while the other has the work
    one_core = {"VLLM_CPU_OMP_THREADS_BIND": str(_here()[-1]), "OMP_NUM_THREADS": "1"}
    image = run_image(stack.enter_context(scratch()), concurrency=STREAMS, env=one_core)
    stack.enter_context(removed(image)).first_answer()
    command = bare(image.command(), PYTHON)
    command = replace(command, env={**command.env, **one_core})
    there = run_bare(base, stack.enter_context(scratch()), command)
    stack.enter_context(removed(there)).first_answer()
    host = stack.enter_context(_on_host(stack.enter_context(scratch()), there, command))
    return {"image": image, "base image": there, "bare on this host": host}


@contextmanager
def _on_host(folder: Path, there: Container, command: BareCommand) -> Iterator[HostServer]:
    """The same command of the same files, but neither a container's namespaces nor its limits; the mounts are seen by
    this process alone, and end with it. With the environment that a container has.
    """
    (port,) = serving.free_ports(1)
    cache, root = folder / "cache", there.inspect("{{.GraphDriver.Data.MergedDir}}")
    cache.mkdir(parents=True)
    command.write_files({CACHE: str(cache)})
    words = with_options(command.argv, {"--host": "127.0.0.1", "--port": str(port)})
    env = dict(word.split("=", 1) for word in _environment(there.pid))
    started = time.monotonic()
    places = (root, str(MODEL), WEIGHTS, str(cache), CACHE)
    argv = ["unshare", "--mount", "sh", "-euc", _BARE, "sh", *places, *words]
    server = serving.start(argv, log=folder / "log", env=env)
    with ended(server):
        run = Run(server, started, port, folder)
        first_answer(run)
        side = HostServer(run, root)
        try:
            yield side
        finally:
            side.thaw()  # what is frozen cannot end; docker rm --force sees to containers


def _environment(pid: int) -> list[str]:
    return [word for word in Path(f"/proc/{pid}/environ").read_text(encoding="utf-8").split("\0") if word]


def _here() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def _pin(pid: int) -> None:
    """The engine's threads to the last core, every other of the tree to the first; what they start inherits it."""
    engine = _engine(pid)
    for process in _tree(pid):
        number = process.identity.pid
        core = _here()[-1 if number == engine else 0]
        for task in Path(f"/proc/{number}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), {core})


@contextmanager
def _on_first_core() -> Iterator[None]:
    """The client beside the servers' own front, on the first core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _sample(side: Side, requests: int) -> float:
    side.thaw()
    try:
        time.sleep(SETTLE_SECONDS)
        return tokens_per_second(side.address, requests)
    finally:
        side.freeze()


def _threads(sides: Mapping[str, Side]) -> dict[str, int]:
    """The threads of each engine process, which must be allowed the same cores, or there is nothing to compare."""
    engines = {name: _engine(side.pid) for name, side in sides.items()}
    cores = {name: _cores(pid) for name, pid in engines.items()}
    if len({*cores.values()}) != 1:
        raise BenchError(f"the engines' threads are not on the same cores: {cores}")
    return {name: len(list(Path(f"/proc/{pid}/task").iterdir())) for name, pid in engines.items()}


def _engine(ancestor: int) -> int:
    """The process with the model; a vLLM that has none of that name works in the ancestor itself."""
    for process in _tree(ancestor):
        pid = process.identity.pid
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").startswith("VLLM::EngineCor"):
            return pid
    return ancestor


def _cores(pid: int) -> tuple[str, ...]:
    """Every list of cores that any of its threads is bound to."""
    texts = [path.read_text(encoding="ascii") for path in Path(f"/proc/{pid}/task").glob("*/status")]
    lines = (line for text in texts for line in text.splitlines() if line.startswith("Cpus_allowed_list:"))
    return tuple(sorted({line.split()[1] for line in lines}))


def _tree(pid: int) -> list[Process]:
    first = look(pid)
    return [*([first] if first else []), *descendants(pid)]
