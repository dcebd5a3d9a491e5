"""A launch, as values: what is asked of the containers (`Wishes`), the whole of it (`Job`), and what was decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aim_engine.deploy.allocation import Allocation
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.looking import Judge
from aim_engine.deploy.reach import Vantage
from aim_engine.deploy.spec import LABEL, ContainerSpec
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal
from aim_engine.request import Request

TOKEN = LABEL + "launch"  # which launch made a container: how one is found whose creation was interrupted
DEVICE_MODES = ("auto", "devices", "cdi", "runtime")

Planner = Callable[[Request, Inventory], Plan | Refusal]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked of the container itself, or of each of several `replicas`; None is what the plan or the engine
    would take. `timeout_seconds` is for becoming ready.
    """

    image: str | None = None
    name: str | None = None
    network: str | None = None
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    shm_bytes: int | None = None
    user: str | None = None
    restart: str = "on-failure:3"
    seccomp: str | None = None
    device_mode: str = "auto"
    extra: Mapping[str, str] = field(default_factory=dict)
    log_options: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    keep: bool = False
    wait: bool = True
    timeout_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A launch: what is asked, what is there, how plans are made of both, and the environment of whoever asks."""

    request: Request
    inventory: Inventory
    planner: Planner
    wishes: Wishes
    environment: Mapping[str, str]
    token: str
    warn: Callable[[str], None] = lambda _text: None
    on_name: Callable[[str], None] = lambda _name: None  # told before anything of that name is made
    on_wait: Callable[[], None] = lambda: None  # told again and again while another launch decides
    judge: Judge | None = None  # who says whether it is ready, in place of its sidecar


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What would be created: the plan for GPUs and ports that are free, and the container under a free name; and where
    whoever decided it stands. `unstarted` are the endpoints that were created and not started.
    """

    plan: Plan
    allocation: Allocation
    spec: ContainerSpec
    place: Vantage = field(default_factory=Vantage)
    unstarted: tuple[Endpoint, ...] = ()
