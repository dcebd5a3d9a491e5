"""What one container is: what `docker inspect` says of it in, an `Endpoint` out.

Its labels say what it serves; ports and states are the engine's own. Asks nobody anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from aim_engine.deploy.inside import API_PORT, HEALTH_PORT, log_file
from aim_engine.deploy.secrets import INSIDE, OF_A_USER, SECRETS
from aim_engine.deploy.spec import LABEL

_LONGEST_TEXT = 256
_EVERY_ADDRESS = ("", "0.0.0.0", "::")
_DRAIN_SECONDS = 60  # AIM_DRAIN_TIMEOUT's default
_STOP_MARGIN_SECONDS = 30  # beyond the drain, as in deploy/spec.py
_NEVER = "0001-01-01"  # how Go writes a time that has not come


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One of our containers. `address`, `port` and `health_port` are where its host reaches it; a port is None where
    none is published, and `every_address` says that they are published on all of the host's. `inner_port` and
    `inner_health_port` are the same within its `networks`, which are its addresses by the networks' names; `published`
    are its ports on the host, from wherever it is reached. `state`, `state_error` and `docker_health` are Docker's
    words. `stop_seconds` is how long a stop may take, `certificate`, `key_file` and `log_file` are files of the host:
    what the API shows, the key that it asks for, and where its log is copied to; `model_folder` is one too, and
    `served_model` the model's name in requests. `secrets` is the name of the folder that its launch made for its
    secrets, `devices` are the host's device files that it was given. Replicas of one launch have one `replica_group`,
    in which each is of another number.
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
    docker_health: str | None = None
    finished_at: str | None = None
    state_error: str = ""
    out_of_memory: bool = False
    stop_seconds: int = 0
    inner_port: int = API_PORT
    inner_health_port: int = HEALTH_PORT
    networks: Mapping[str, str] = field(default_factory=dict)
    every_address: bool = False
    certificate: str | None = None
    key_file: str | None = None
    published: tuple[int, ...] = ()
    log_file: str | None = None
    secrets: str | None = None
    devices: tuple[str, ...] = ()
    replica_group: str | None = None
    replica: int | None = None
    served_model: str = ""
    model_folder: str | None = None

    @property
    def url(self) -> str | None:
        """Where the API is, or None where no port is published."""
        return f"{self.scheme}://{self.address}:{self.port}" if self.port else None

    @property
    def api_url(self) -> str | None:
        """What OpenAI's clients call `base_url`."""
        return f"{self.url}/v1" if self.url else None

    @property
    def health_url(self) -> str | None:
        """Where the health sidecar is; it speaks plain HTTP always."""
        return f"http://{self.address}:{self.health_port}" if self.health_port else None

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "paused", "restarting")

    @property
    def has_ended(self) -> bool:
        return self.state in ("exited", "dead")  # in all other states, `created` too, it has its GPUs

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "url": self.url, "api_url": self.api_url, "health_url": self.health_url}


# --- from what docker inspect says -------------------------------------------------------------------------------


def endpoint_of(inspected: Mapping[str, Any]) -> Endpoint:
    """What `docker inspect` says of one container, as an `Endpoint`; odd labels and absent keys do no harm."""
    labels, state, config = _labels(inspected), _map(inspected, "State"), _map(inspected, "Config")
    said = {name.removeprefix(LABEL): printable(text) for name, text in labels.items() if name.startswith(LABEL)}
    word = printable(state.get("Status", "")) or "unknown"
    return Endpoint(
        name=printable(str(inspected.get("Name", "")).removeprefix("/")),
        container_id=printable(inspected.get("Id", "")),
        model=said.get("model") or said.get("checkpoint") or printable(_variables(inspected).get("AIM_MODEL", "")),
        recipe=said.get("recipe", ""),
        backend=said.get("backend", ""),
        precision=said.get("precision", ""),
        metric=said.get("metric", ""),
        gpu_type=said.get("gpu-type", ""),
        gpu_count=_number(said.get("gpu-count")) or 0,
        gpus=tuple(filter(None, map(printable, re.split(r"[,\s]", labels.get(f"{LABEL}gpus", ""))))),
        **_addresses(inspected, said),
        scheme="https" if said.get("scheme") == "https" else "http",
        image=printable(config.get("Image", "")),
        version=said.get("version", ""),
        state=word,
        # Docker says 0 of what has not ended yet
        exit_code=_number(state.get("ExitCode")) if word in ("exited", "dead") else None,
        started_at=_time(state.get("StartedAt")),
        created_at=_time(inspected.get("Created")),
        restarts=_number(inspected.get("RestartCount")) or 0,
        docker_health=_docker_health(state),
        finished_at=_time(state.get("FinishedAt")),
        state_error=printable(state.get("Error") or ""),
        out_of_memory=state.get("OOMKilled") is True,
        stop_seconds=_number(config.get("StopTimeout")) or _drain_seconds(inspected) + _STOP_MARGIN_SECONDS,
        networks=_networks(inspected),
        certificate=_mounted(inspected, "AIM_TLS_CERT"),
        key_file=_mounted(inspected, "AIM_API_KEY_FILE"),
        secrets=_secrets(inspected, labels.get(SECRETS)),
        log_file=printable(log_file(_mounted(inspected, "AIM_LOG_DIR"), _variables(inspected)) or "", longest=4096)
        or None,
        devices=_devices(inspected),
        replica_group=said.get("replica-group"),
        replica=_number(said.get("replica")),
        served_model=said.get("served-model") or _served_model(_variables(inspected).get("AIM_MODEL", "")),
        model_folder=_model_folder(inspected),
    )


def _served_model(model: str) -> str:
    """What the API calls the model of a container that does not say it: a folder's own name, or as it was asked for."""
    return printable(PurePosixPath(model).name if model.startswith("/") else model)


def _model_folder(inspected: Mapping[str, Any]) -> str | None:
    """The host's folder that is the container's AIM_MODEL, which may be below a mounted one: a snapshot of a cache."""
    model = PurePosixPath(_variables(inspected).get("AIM_MODEL", ""))
    binds = [one for one in _maps(inspected.get("Mounts")) if one.get("Type") == "bind" and one.get("Source")]
    places = {PurePosixPath(str(one.get("Destination"))): PurePosixPath(str(one["Source"])) for one in binds}
    over = [place for place in places if model.is_absolute() and model.is_relative_to(place)]
    inner = max(over, key=lambda place: len(place.parts), default=None)
    return None if inner is None else str(places[inner] / model.relative_to(inner))


def _addresses(inspected: Mapping[str, Any], said: Mapping[str, str]) -> dict[str, Any]:
    """The address and both ports. Docker knows them better than the labels: a port may have been left to it."""
    api_port, health_port = _inner(inspected, "AIM_PORT", API_PORT), _inner(inspected, "AIM_HEALTH_PORT", HEALTH_PORT)
    inner = {"inner_port": api_port, "inner_health_port": health_port}
    if _map(inspected, "HostConfig").get("NetworkMode") == "host":
        return {**inner, "address": "127.0.0.1", "port": api_port, "health_port": health_port, "every_address": True,
                "published": (api_port, health_port)}  # fmt: skip
    now, asked = _map(_map(inspected, "NetworkSettings"), "Ports"), _map(_map(inspected, "HostConfig"), "PortBindings")
    api, health = _published(now, asked, api_port), _published(now, asked, health_port)
    host = (api or health or (said.get("address", ""), 0))[0].strip("[]")
    address = "127.0.0.1" if host in _EVERY_ADDRESS else host
    return {
        **inner,
        "address": f"[{address}]" if ":" in address else address,
        "port": api and api[1],
        "health_port": health and health[1],
        "every_address": host in _EVERY_ADDRESS,
        "published": tuple(found[1] for found in (api, health) if found),
    }


def _published(now: Mapping[str, Any], asked: Mapping[str, Any], inner: int) -> tuple[str, int] | None:
    """The host's address and port: those in use, else those asked for."""
    for bindings in (now.get(f"{inner}/tcp"), asked.get(f"{inner}/tcp")):
        for binding in _maps(bindings):
            port = _number(binding.get("HostPort"))
            if port:
                return printable(binding.get("HostIp") or ""), port
    return None


def _inner(inspected: Mapping[str, Any], variable: str, default: int) -> int:
    return _number(_variables(inspected).get(variable)) or default


def _drain_seconds(inspected: Mapping[str, Any]) -> int:
    """The container's own drain timeout: it was started by hand, and Docker's ten seconds would cut requests short."""
    said = _variables(inspected).get("AIM_DRAIN_TIMEOUT", "").partition(".")[0]
    return _number(said) or _DRAIN_SECONDS


def _variables(inspected: Mapping[str, Any]) -> dict[str, str]:
    return dict(str(line).partition("=")[::2] for line in _list(_map(inspected, "Config").get("Env")))


def _networks(inspected: Mapping[str, Any]) -> dict[str, str]:
    """The container's own address on each network it is in."""
    networks = _map(_map(inspected, "NetworkSettings"), "Networks")
    found = {name: _map(networks, name).get("IPAddress") for name in networks}
    return {printable(name): printable(address) for name, address in found.items() if address}


def _docker_health(state: Mapping[str, Any]) -> str | None:
    word = printable(_map(state, "Health").get("Status", ""))
    return word if word not in ("", "none") else None


def _mounted(inspected: Mapping[str, Any], variable: str) -> str | None:
    """The host's file behind the one that a variable of the container names."""
    inside = _variables(inspected).get(variable)
    mounts = (one for one in _maps(inspected.get("Mounts")) if inside and one.get("Destination") == inside)
    return next((str(one["Source"]) for one in mounts if one.get("Source")), None)


def _devices(inspected: Mapping[str, Any]) -> tuple[str, ...]:
    paths = (one.get("PathOnHost") for one in _maps(_map(inspected, "HostConfig").get("Devices")))
    return tuple(printable(path) for path in paths if path)


def _secrets(inspected: Mapping[str, Any], said: str | None) -> str | None:
    """The folder that its secrets are mounted from. The label alone is not believed: an image that was made of the
    container (docker commit) has it too. A container of before there was the label has a folder of its first name.
    """
    inside = [one for one in _maps(inspected.get("Mounts")) if str(one.get("Destination")).startswith(f"{INSIDE}/")]
    folders = [PurePosixPath(str(one.get("Source"))).parent for one in inside]
    ours = (one.name for one in folders if one.name == said or one.parts[-3:-1] == OF_A_USER)
    return next(ours, None)


def _labels(inspected: Mapping[str, Any]) -> Mapping[str, str]:
    return {str(name): str(text) for name, text in _map(_map(inspected, "Config"), "Labels").items()}


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in _list(value) if isinstance(one, Mapping)]


def _number(value: Any) -> int | None:
    text = str(value).strip()
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else None


def _time(value: Any) -> str | None:
    text = printable(value or "")
    return text if text and not text.startswith(_NEVER) else None


def printable(value: Any, *, longest: int = _LONGEST_TEXT) -> str:
    """A stranger's text on one line, without anything a terminal would obey; what is cut off ends in `…`."""
    text = "".join(" " if char.isspace() else char for char in str(value)[: longest + 1])
    # categories C*: control, format (bidirectional overrides), surrogate, private use, unassigned
    kept = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char)[0] == "C" else char for char in text)
    return kept.strip() if len(kept) <= longest else kept[: longest - 1] + "…"
