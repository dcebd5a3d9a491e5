"""What the runtime reads from plan.json: the plan's JSON in, a frozen `Contract` out.

The rest of the plan is passed on untouched (the sidecar's /plan). Knows nothing of how a plan is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aim_engine.errors import InternalError


@dataclass(frozen=True, kw_only=True)
class Command:
    """How the server is started and talked to."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    unset: tuple[str, ...]
    files: tuple[tuple[str, str], ...]  # path and text of small files that must be there first
    links: tuple[tuple[str, str, str], ...]  # folder to make links in, folder to link to, and the files' pattern
    health_url: str
    metrics_url: str
    load_url: str
    probe_url: str
    probe_body: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Something to give up after one of these failures: what of the command is otherwise then."""

    name: str
    failures: tuple[str, ...]
    gives_up: str
    options: Mapping[str, tuple[str, ...]]
    env: Mapping[str, str]
    unset: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contract:
    """How a run behaves."""

    command: Command
    model: str  # the checkpoint: a hub id, or the path of a folder
    state_dir: str
    cache_dir: str
    image_cache: str | None
    tls_files: tuple[str, ...]  # certificate and key, or nothing
    host: str
    port: int
    health_port: int
    log_level: str
    log_format: str
    start_timeout_seconds: float
    stall_timeout_seconds: float | None  # None for each phase's own limit, 0 for none
    hang_timeout_seconds: float
    drain_timeout_seconds: float
    keep_alive: bool
    max_retries: int
    sanity: bool = False  # fixed questions before it is ready
    canary_every_seconds: float = 0.0
    computes_on_host: bool = False
    nodes: int = 1
    node_rank: int = 0
    leader_address: str = ""
    leader_port: int = 0
    ladder: tuple[Rung, ...] = ()
    given_up: tuple[str, ...] = ()  # names of rungs that are taken from the start


def _rung(rung: Mapping[str, Any]) -> Rung:
    return Rung(
        name=rung["name"],
        failures=tuple(rung["failures"]),
        gives_up=rung["gives_up"],
        options={name: tuple(words) for name, words in rung["options"].items()},
        env=dict(rung["env"]),
        unset=tuple(rung["unset"]),
    )


def _seconds_or_none(value: Any) -> float | None:
    return None if value is None else float(value)


def _group(words: Mapping[str, Any] | None) -> dict[str, Any]:
    """Which of several nodes this is."""
    if not words:
        return {}
    return {"nodes": int(words["nodes"]), "node_rank": int(words["rank"]), "leader_address": str(words["address"]),
            "leader_port": int(words["port"])}  # fmt: skip


def read_contract(plan: Mapping[str, Any]) -> Contract:
    """The part of the plan that the runtime acts on.

    Raises:
        InternalError: the plan lacks something; plans are made by us.
    """
    try:
        command, runtime, urls = plan["command"], plan["runtime"], plan["command"]["urls"]
        return Contract(
            command=Command(
                argv=tuple(command["argv"]),
                env=dict(command["env"]),
                unset=tuple(command.get("unset", ())),
                files=tuple((file["path"], file["text"]) for file in command.get("files", ())),
                links=tuple((each["folder"], each["source"], each["pattern"]) for each in command.get("links", ())),
                health_url=urls["health"],
                metrics_url=urls["metrics"],
                load_url=urls["load"],
                probe_url=urls["probe"],
                probe_body=dict(command["probe_body"]),
            ),
            model=plan.get("huggingface_id", ""),
            state_dir=runtime["state_dir"],
            cache_dir=runtime["cache_dir"],
            image_cache=runtime.get("image_cache"),
            tls_files=tuple(runtime.get("tls_files", ())),
            host=runtime["host"],
            port=int(runtime["port"]),
            health_port=int(runtime["health_port"]),
            log_level=runtime.get("log_level", "info"),
            log_format=runtime.get("log_format", "text"),
            start_timeout_seconds=float(runtime["start_timeout_seconds"]),
            stall_timeout_seconds=_seconds_or_none(runtime.get("stall_timeout_seconds")),
            hang_timeout_seconds=float(runtime["hang_timeout_seconds"]),
            drain_timeout_seconds=float(runtime["drain_timeout_seconds"]),
            keep_alive=bool(runtime.get("keep_alive", False)),
            sanity=bool(runtime.get("sanity", False)),
            max_retries=int(runtime.get("max_retries", 0)) if runtime.get("fallback", True) else 0,
            canary_every_seconds=float(runtime.get("canary_seconds", 0.0)),
            computes_on_host=bool(runtime.get("computes_on_host", False)),
            **_group(runtime.get("group")),
            ladder=tuple(map(_rung, plan.get("ladder", ()))),
            given_up=tuple(plan.get("given_up", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InternalError(f"the plan is incomplete: {error!r}", hint="please report this with the plan") from error
