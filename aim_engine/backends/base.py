"""What every engine has in common: `Engine` (what is installed), `ServerCommand` (how to start it) and the `Backend`
contract between a recipe and a command line.

In: a recipe's arguments, the placement on GPUs and the request. Out: argv, environment and URLs. Knows no rules of
selection and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An installed engine: `version` as its distribution says, `platform` the devices it was built for ("rocm",
    "cpu", "cuda", or None when unknown), `launch` the argv prefix that runs its command line here.
    """

    name: str
    version: str | None
    platform: str | None
    distribution: str
    launch: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ServerUrls:
    """Where the running server answers, all on the loopback address."""

    base: str
    health: str
    metrics: str
    models: str
    load: str
    probe: str


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """How to start the server: `argv` in full, `env` to lay over the process's own environment, `unset` names to
    remove from it, and how to talk to it. `probe_body` is the JSON of a request for one token. Holds no secret.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    served_names: tuple[str, ...]
    urls: ServerUrls
    probe_body: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
