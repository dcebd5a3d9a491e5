"""What is running: a Docker client in, an `Endpoint` for each of our containers out, whoever launched it.

The containers' labels are the only registry; ports and states are the engine's own. Asks no endpoint anything.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.inside import API_PORT, HEALTH_PORT
from aim_engine.deploy.spec import LABEL
from aim_engine.errors import InputError

if TYPE_CHECKING:
    from docker import DockerClient

# A container that carries one of these is ours. The other labels differ between versions.
_MARKS = ("model", "checkpoint", "recipe")
_LONGEST_TEXT = 256
_SHORTEST_ID = 4  # of the digits of a container's id, as a person types them
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}
_NEVER = "0001-01-01"  # how Go writes a time that has not come


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One of our containers. `address`, `port` and `health_port` are where this host reaches it; a port is None where
    none is published. `state` and `health` are Docker's words. `stop_seconds` is None where the container says none.
    """

    name: str
    container_id: str
    model: str
    recipe: str
    backend: str
    precision: str
    metric: str
    gpu_type: str
    gpu_count: int
    gpus: tuple[str, ...]
    address: str
    port: int | None
    health_port: int | None
    scheme: str
    image: str
    version: str
    state: str
    exit_code: int | None
    started_at: str | None
    created_at: str | None
    restarts: int
    health: str | None = None
    finished_at: str | None = None
    stop_seconds: int | None = None
    networks: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str | None:
        """Where the API is, or None where no port is published."""
        return f"{self.scheme}://{self.address}:{self.port}" if self.port else None

    @property
    def health_url(self) -> str | None:
        """Where the health sidecar is; it speaks plain HTTP always."""
        return f"http://{self.address}:{self.health_port}" if self.health_port else None

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "paused", "restarting")

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "url": self.url, "health_url": self.health_url}


def list_endpoints(client: DockerClient, *, all: bool) -> tuple[Endpoint, ...]:
    """Our containers by name; with `all` those that have ended too."""
    return tuple(sorted(map(endpoint_of, inspect_ours(client, all=all)), key=lambda one: (one.name, one.container_id)))


def inspect_ours(client: DockerClient, *, all: bool) -> Iterator[Mapping[str, Any]]:
    """What `docker inspect` says of each of ours; the containers of others are not looked at."""
    from docker.errors import NotFound

    for container in client.api.containers(all=all):
        if is_ours(container.get("Labels") or {}):
            with suppress(NotFound):  # removed since it was listed
                yield client.api.inspect_container(container["Id"])


def find_endpoint(client: DockerClient, name: str) -> Endpoint:
    """The one that is meant: by its container's name, the beginning of its id, or a model that only it serves.

    Raises:
        InputError: there is none, or there are several.
    """
    return choose(list_endpoints(client, all=True), name)


def choose(endpoints: Iterable[Endpoint], name: str) -> Endpoint:
    """The one of them that is meant.

    Raises:
        InputError: there is none, or there are several.
    """
    known = tuple(endpoints)
    wanted = name.removeprefix("/")
    for meant in (_by_name(known, wanted), _by_id(known, wanted), _by_model(known, wanted)):
        if len(meant) == 1:
            return meant[0]
        if meant:
            names = ", ".join(one.name for one in meant)
            raise InputError(f"{printable(name)} could be any of {len(meant)}: {names}", hint="name one of them")
    raise InputError(f"there is no endpoint {printable(name)}", hint=_near(known, wanted))


def _by_name(known: tuple[Endpoint, ...], wanted: str) -> list[Endpoint]:
    return [one for one in known if one.name == wanted]


def _by_id(known: tuple[Endpoint, ...], wanted: str) -> list[Endpoint]:
    if len(wanted) < _SHORTEST_ID or not re.fullmatch(r"[0-9a-f]+", wanted):
        return []
    return [one for one in known if one.container_id.startswith(wanted)]


def _by_model(known: tuple[Endpoint, ...], wanted: str) -> list[Endpoint]:
    """Those that run, if any do: what has ended is not what a model's name means."""
    serving = [one for one in known if one.model.lower() == wanted.lower() and one.model]
    return [one for one in serving if one.is_running] or serving


def _near(known: tuple[Endpoint, ...], wanted: str) -> str:
    if not known:
        return "no container of AIM Engine is on this host; aim-engine list --all shows them"
    names = {one.name.lower(): one.name for one in known} | {one.model.lower(): one.name for one in known if one.model}
    close = difflib.get_close_matches(wanted.lower(), names, n=3, cutoff=0.5)
    part = [key for key in names if wanted and wanted.lower() in key]
    near = list(dict.fromkeys(names[key] for key in (*close, *part)))[:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}aim-engine list --all shows them all"


# --- from what docker inspect says -------------------------------------------------------------------------------


def is_ours(labels: Mapping[str, str]) -> bool:
    return any(labels.get(LABEL + mark) for mark in _MARKS)


def endpoint_of(inspected: Mapping[str, Any]) -> Endpoint:
    """What `docker inspect` says of one container, as an `Endpoint`; odd labels and absent keys do no harm."""
    labels, state, config = _labels(inspected), _map(inspected, "State"), _map(inspected, "Config")
    said = {name.removeprefix(LABEL): printable(text) for name, text in labels.items() if name.startswith(LABEL)}
    address, port, health_port = _addresses(inspected, said)
    word = printable(state.get("Status", "")) or "unknown"
    return Endpoint(
        name=printable(str(inspected.get("Name", "")).removeprefix("/")),
        container_id=printable(inspected.get("Id", "")),
        model=said.get("model") or said.get("checkpoint", ""),
        recipe=said.get("recipe", ""),
        backend=said.get("backend", ""),
        precision=said.get("precision", ""),
        metric=said.get("metric", ""),
        gpu_type=said.get("gpu-type", ""),
        gpu_count=_number(said.get("gpu-count")) or 0,
        gpus=tuple(filter(None, map(printable, labels.get(f"{LABEL}gpus", "").split(",")))),
        address=address,
        port=port,
        health_port=health_port,
        scheme="https" if said.get("scheme") == "https" else "http",
        image=printable(config.get("Image", "")),
        version=said.get("version", ""),
        state=word,
        # Docker says 0 of what has not ended yet
        exit_code=_number(state.get("ExitCode")) if word in ("exited", "dead") else None,
        started_at=_time(state.get("StartedAt")),
        created_at=_time(inspected.get("Created")),
        restarts=_number(inspected.get("RestartCount")) or 0,
        health=printable(_map(state, "Health").get("Status", "")) or None,
        finished_at=_time(state.get("FinishedAt")),
        stop_seconds=_number(config.get("StopTimeout")),
        networks=_networks(inspected),
    )


def _addresses(inspected: Mapping[str, Any], said: Mapping[str, str]) -> tuple[str, int | None, int | None]:
    """The address and both ports. Docker knows them better than the labels: a port may have been left to it."""
    if _map(inspected, "HostConfig").get("NetworkMode") == "host":
        return "127.0.0.1", _inner(inspected, "AIM_PORT", API_PORT), _inner(inspected, "AIM_HEALTH_PORT", HEALTH_PORT)
    now, asked = _map(_map(inspected, "NetworkSettings"), "Ports"), _map(_map(inspected, "HostConfig"), "PortBindings")
    api = _published(now, asked, _inner(inspected, "AIM_PORT", API_PORT))
    health = _published(now, asked, _inner(inspected, "AIM_HEALTH_PORT", HEALTH_PORT))
    host = (api or health or (said.get("address", ""), 0))[0]
    address = _EVERY_ADDRESS.get(host.strip("[]"), host.strip("[]"))
    return f"[{address}]" if ":" in address else address, api and api[1], health and health[1]


def _published(now: Mapping[str, Any], asked: Mapping[str, Any], inner: int) -> tuple[str, int] | None:
    """The host's address and port: those in use, else those asked for."""
    for bindings in (now.get(f"{inner}/tcp"), asked.get(f"{inner}/tcp")):
        for binding in bindings or ():
            port = _number(binding.get("HostPort"))
            if port:
                return printable(binding.get("HostIp") or ""), port
    return None


def inner_ports(inspected: Mapping[str, Any]) -> tuple[int, int]:
    """The ports of the API and of the sidecar inside the container."""
    return _inner(inspected, "AIM_PORT", API_PORT), _inner(inspected, "AIM_HEALTH_PORT", HEALTH_PORT)


def _inner(inspected: Mapping[str, Any], variable: str, default: int) -> int:
    for line in _map(inspected, "Config").get("Env") or ():
        name, _, value = str(line).partition("=")
        if name == variable:
            return _number(value) or default
    return default


def _networks(inspected: Mapping[str, Any]) -> dict[str, str]:
    """The container's own address on each network it is in."""
    networks = _map(_map(inspected, "NetworkSettings"), "Networks")
    found = {name: (one or {}).get("IPAddress") for name, one in networks.items()}
    return {printable(name): printable(address) for name, address in found.items() if address}


def _labels(inspected: Mapping[str, Any]) -> Mapping[str, str]:
    labels = _map(inspected, "Config").get("Labels") or {}
    return {str(name): str(text) for name, text in labels.items()}


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None


def _time(value: Any) -> str | None:
    text = printable(value or "")
    return text if text and not text.startswith(_NEVER) else None


def printable(value: Any) -> str:
    """A stranger's text on one line, without anything a terminal would obey; what is cut off ends in `…`."""
    text = "".join(" " if char.isspace() else char for char in str(value)[: 4 * _LONGEST_TEXT])
    # categories C*: control, format (bidirectional overrides), surrogate, private use, unassigned
    kept = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char)[0] == "C" else char for char in text)
    kept = kept.strip()
    return kept if len(kept) <= _LONGEST_TEXT else kept[: _LONGEST_TEXT - 1] + "…"
