"""The words of the pre-flight checks: what a start `Needs`, the `Site` it is to happen on, and a `Check`, one finding.

In: nothing. Out: frozen values. Knows no plan, and no single check.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from aim_engine.hardware.inventory import Gpu

Outcome = Literal["ok", "warning", "error", "skipped"]
Presence = Literal["whole", "part", "absent", "unknown"]

# The exit codes of the classes of errors.py that a check can end in.
INPUT, DEVICES, MEMORY, ACCESS, DISK = 10, 20, 21, 40, 42


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: a sentence, and where it is not ok the one thing to change. `code` is the exit code of the class of
    failure that an error stands for, and 0 for everything else.
    """

    name: str
    outcome: Outcome
    sentence: str
    remedy: str = ""
    code: int = 0

    def as_json(self) -> dict[str, Any]:
        """`{name, outcome, sentence, remedy, code}`."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights to be served. `folder` is where they lie or will be fetched to, `presence` how much of them is there
    (all of a local folder), `missing_bytes` what is still to be fetched; None where the size is not known. `reckoned`
    marks sizes that do not come from the checkpoint itself. `gated` is None where nobody has said so.
    """

    name: str
    folder: Path
    presence: Presence
    size_bytes: int | None = None
    missing_bytes: int | None = None
    reckoned: bool = False
    gated: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a start needs. With `planned` it is what one plan needs; without, `gpus` are all that are here, and what
    they might be used for is only warned of. `budget_bytes` is what the engine will take of each GPU.
    """

    planned: bool
    cache_dir: Path
    host: str
    port: int
    health_port: int
    gpus: tuple[Gpu, ...] = ()
    tensor_parallel_size: int = 1
    budget_bytes: int | None = None
    checkpoint: Checkpoint | None = None
    has_token: bool = False
    offline: bool = False
    engine_version: str | None = None

    @property
    def accelerators(self) -> tuple[Gpu, ...]:
        """The GPUs that have memory of their own: all but the host's CPU."""
        return tuple(gpu for gpu in self.gpus if gpu.product != "CPU")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A file system: its size and what is free of it for us, in bytes; a size of 0 is no limit at all (tmpfs(5))."""

    size_bytes: int
    free_bytes: int
    read_only: bool = False


def ask_space(path: Path) -> Space:
    """The space of the file system that `path` is on."""
    found = os.statvfs(path)
    return Space(
        size_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def may_use(path: Path) -> bool:
    """Whether we may read and write it. Asks without opening: opening a device may wake it."""
    return os.access(path, os.R_OK | os.W_OK)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The group a file belongs to, by number, and what is granted to whom (st_mode)."""

    group: int
    mode: int


def ask_owner(path: Path) -> Owner:
    """Of a file that is there, or of the folder that keeps us from it: whom that lets in may use what is there."""
    try:
        found = path.stat()
    except PermissionError:
        above = ask_owner(path.parent)
        return Owner(group=above.group, mode=0o660 if above.mode & 0o010 else 0)
    return Owner(group=found.st_gid, mode=found.st_mode)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a start is to happen: the root of the trees to look at and the process's environment and limits
    (`memlock_bytes` None is unlimited, `uid` None not known). What cannot be planted in a tree is asked through the
    functions.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = 0
    memlock_bytes: int | None = None
    space: Callable[[Path], Space] = ask_space
    may_use: Callable[[Path], bool] = may_use
    owner: Callable[[Path], Owner] = ask_owner

    def path(self, name: str) -> Path:
        """`/dev/kfd` below the root."""
        return self.root / name.lstrip("/")

    @property
    def who(self) -> str:
        """Whom files must let in."""
        return "who recorded it" if self.uid is None else f"uid {self.uid}"

    @property
    def in_kubernetes(self) -> bool:
        return "KUBERNETES_SERVICE_HOST" in self.environment

    @property
    def in_container(self) -> bool:
        """Docker and Podman each leave a file; Kubernetes sets variables."""
        marks = (".dockerenv", "run/.containerenv")
        return self.in_kubernetes or any(self.path(mark).exists() for mark in marks)


def this_site(environment: Mapping[str, str]) -> Site:
    """The machine and the process we are."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Site(
        environment=environment, uid=os.getuid(), memlock_bytes=None if soft == resource.RLIM_INFINITY else soft
    )


def recorded_site(root: Path) -> Site:
    """The host that was recorded in that folder, whose stand-ins for device files are anybody's: it says itself how
    those were.
    """
    from aim_engine.hardware import recording  # here: most starts are on no recording

    nodes = recording.device_nodes(root)

    def said(path: Path) -> recording.DeviceNode:
        return nodes.get(f"/{path.relative_to(root)}", recording.DeviceNode())

    def opens(path: Path) -> bool:
        told = said(path).opens
        return may_use(path) if told is None else told

    def owner(path: Path) -> Owner:
        own, told = ask_owner(path), said(path)
        return Owner(group=own.group if told.group is None else told.group,
                     mode=0o660 if told.mode is None else told.mode)  # fmt: skip

    return Site(root=root, uid=None, may_use=opens, owner=owner)


def ok(name: str, sentence: str) -> Check:
    """All is well."""
    return Check(name=name, outcome="ok", sentence=sentence)


def skipped(name: str, why: str) -> Check:
    """Nothing was looked at, or nothing can be said."""
    return Check(name=name, outcome="skipped", sentence=why)


def warning(name: str, sentence: str, remedy: str) -> Check:
    """It will start, but worse than it could, or it may fail."""
    return Check(name=name, outcome="warning", sentence=sentence, remedy=remedy)


def failure(name: str, code: int, sentence: str, remedy: str) -> Check:
    """It cannot start so."""
    return Check(name=name, outcome="error", sentence=sentence, remedy=remedy, code=code)


def in_words(size_bytes: int) -> str:
    """A size for people: "61.0 GiB", or "64 MiB" below one GiB."""
    return f"{size_bytes / 2**30:,.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:,.0f} MiB"
