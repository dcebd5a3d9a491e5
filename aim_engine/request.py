"""What was asked: flags and AIM_* variables in, one frozen `Request` out, with the origin of every value.

What may be asked is declared in `settings`. Nothing here looks at hardware, recipes or the disk, except to tell a local
model folder from a hub id, and to read the files that hold secrets.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aim_engine.errors import InputError
from aim_engine.secret_shapes import looks_like_one, may_hold_one
from aim_engine.settings import DEFAULT_CACHE_DIR, LOG_FORMATS, LOG_LEVELS, SETTINGS, Setting, settings_table
from aim_engine.values import (
    DEFAULT_PORT_RANGE,
    PortRange,
    RefusedError,
    SecretRefusedError,
    names_a_folder,
    secret_file,
    slug,
)

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "SETTINGS", "Request", "Setting", "read_request", "secrets_from_files",
           "settings_table"]  # fmt: skip

Origin = Literal["flag", "keyword", "hook", "environment", "default"]

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# What Kubernetes injects for each service of a namespace (documented as "Docker-style service links").
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")

_BY_VARIABLE = {name: setting for setting in SETTINGS for name in (*setting.variables, setting.file_variable) if name}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked, complete and checked. `origins` says for every field whether a flag, a program's keyword or hook,
    the environment or the default gave it; `warnings` are sentences for the person who asked; `environment` is the
    process's own, whose variables win over a recipe's. `hooked` names the engine options and variables that a configure
    hook has set. Secrets never appear in `repr`.
    """

    model: str | None = None
    nodes: int = 1
    node_rank: int = 0
    leader_address: str | None = None
    leader_port: int = 29501
    revision: str | None = None
    precision: str = "auto"
    gpu_count: int | None = None
    metric: str = "latency"
    backend: str = "vllm"
    recipe: str | None = None
    expect_plan: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False
    min_evidence: str = "derived"
    max_model_len: int | Literal["auto"] | None = None
    concurrency: int = 1
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    host: str = "0.0.0.0"
    port: int = 8000
    health_port: int = 8080
    cache_dir: Path = Path(DEFAULT_CACHE_DIR)
    state_dir: Path | None = None
    recipes_dir: Path | None = None
    models_dir: Path | None = None
    hardware: str = "detect"
    detect_timeout: float = 10.0
    fallback: bool = True
    forget: bool = False
    start_timeout: float | None = None
    stall_timeout: float | None = None
    hang_timeout: float = 120.0
    canary_seconds: float = 60.0
    drain_timeout: float = 60.0
    sanity: bool = False
    keep_alive: bool = False
    api_key: str | None = field(default=None, repr=False)
    hf_token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    image_cache: Path | None = None
    offline: bool = False
    hub_timeout: float = 10.0
    log_level: str = "info"
    log_format: str = "text"
    log_dir: Path | None = None
    log_name: str | None = None
    log_file_size: int = 50 * 1024**2
    log_file_count: int = 5
    port_range: PortRange = DEFAULT_PORT_RANGE
    engine_registry: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    hooked: frozenset[str] = frozenset()

    @property
    def required_model(self) -> str:
        """The model asked for.

        Raises:
            InputError: no model was named.
        """
        if self.model is None:
            raise InputError(
                "no model was asked for",
                hint="set AIM_MODEL, or name it as the command's argument: Qwen/Qwen3-32B, say",
            )
        return self.model

    @property
    def model_folder(self) -> Path | None:
        """The local folder the model was asked for by, or None for a hub id."""
        if self.model is None or not names_a_folder(self.model):
            return None
        return Path(self.model).expanduser()

    @property
    def log_file(self) -> Path | None:
        """Where a copy of all that the server writes goes, or None."""
        if self.log_dir is None:
            return None
        return self.log_dir.absolute() / f"{self.log_name or log_name(self.model, self.port)}.log"

    def check_nodes(self) -> None:
        """What is said of the nodes does not contradict itself.

        Raises:
            InputError: it does.
        """
        told_by = (one for one in SETTINGS if one.field in ("nodes", "node_rank"))
        for setting in (one for one in told_by if self.origins.get(one.field) == "environment"):
            given = {name: text for name in setting.variables if (text := self.environment.get(name, "").strip())}
            if len(set(given.values())) > 1:
                told = " and ".join(f"{name}={text}" for name, text in given.items())
                raise InputError(f"{told} contradict each other", hint=f"leave {setting.variable} out")
        if self.node_rank >= self.nodes:
            there = f"among {self.nodes} nodes, 0 to {self.nodes - 1}" if self.nodes > 1 else "that of a node alone"
            hint = "set AIM_NODES to how many nodes there are, and AIM_NODE_RANK to which this is"
            raise InputError(f"AIM_NODE_RANK={self.node_rank} is not {there}", hint=hint)

    def check_leader_port(self) -> None:
        """That the leader, which is this node, gathers the others on a port of its own. Not for a plan of what will run
        elsewhere: there the API and the sidecar have ports of their own.

        Raises:
            InputError: it has one of them already.
        """
        if self.nodes == 1 or self.node_rank or self.leader_port not in (self.port, self.health_port):
            return
        other = "AIM_PORT" if self.leader_port == self.port else "AIM_HEALTH_PORT"
        raise InputError(
            f"AIM_LEADER_PORT and {other} are both {self.leader_port}", hint="give the leader another port"
        )

    def group_json(self) -> dict[str, Any] | None:
        """Which of several nodes this is, and where they gather, for a plan's `runtime`."""
        if self.nodes == 1:
            return None
        return {"nodes": self.nodes, "rank": self.node_rank, "address": self.leader_address, "port": self.leader_port}

    def log_file_json(self) -> dict[str, Any]:
        """The same, and how it is rotated, for a plan's `runtime`."""
        path = self.log_file
        return {
            "log_file": str(path) if path else None,
            "log_file_bytes": self.log_file_size,
            "log_file_count": self.log_file_count,
        }


def log_name(model: str | None, port: int) -> str:
    """What a server's log is called unless it is told: `qwen-qwen3-32b-8000`, after a folder's own name."""
    words = model or ""
    if words.startswith(("/", ".", "~")):
        words = Path(words).expanduser().absolute().name
    return f"{slug(words)[:100] or 'model'}-{port}"


def read_request(
    flags: Mapping[str, str | None],
    environment: Mapping[str, str],
    *,
    ports_follow: bool = False,
    typed_as: Literal["flag", "keyword"] = "flag",
) -> Request:
    """Lay flags over the environment over the defaults.

    `flags` maps field names to the text typed (None or absent: not typed), or given as a program's keywords;
    `environment` is the process's. With `ports_follow` the ports that were not named will be chosen later.

    A secret that a file holds (AIM_API_KEY_FILE) stands in the request's environment as if it had been set there.

    Raises:
        InputError: a value is not legal; the message names the setting, the value and the legal ones.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    warnings = list(_unknown_names(environment))
    environment = {**environment, **secrets_from_files(environment)}
    for setting in SETTINGS:
        origin, name, text = _find(setting, flags, environment, warnings)
        if origin == "flag" and typed_as == "keyword":
            origin, name = typed_as, setting.field
        if text is None:
            values[setting.field] = _default(setting)
        else:
            values[setting.field] = _parse(setting, name, text)
        origins[setting.field] = origin
    left_open = ports_follow and "default" in (origins["port"], origins["health_port"])
    if values["port"] == values["health_port"] and not left_open:
        raise InputError(
            f"AIM_PORT and AIM_HEALTH_PORT are both {values['port']}", hint="give the health sidecar a port of its own"
        )
    return Request(**values, environment=dict(environment), origins=origins, warnings=tuple(warnings))


def secrets_from_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets that are given as files, under their variables' names.

    Raises:
        InputError: a file cannot be read, holds no secret, or another secret than the variable beside it.
    """
    found = {}
    for setting in SETTINGS:
        name = setting.file_variable
        if name is None or not environment.get(name):
            continue
        try:
            found[setting.variable] = text = secret_file(environment[name])
        except RefusedError as refusal:
            raise InputError(f"{name}={environment[name]}: {refusal}", hint=_SECRET_FILE_HINT) from None
        for other in setting.variables:
            if environment.get(other, text) not in ("", text):
                raise InputError(f"{name} and {other} hold different values", hint="give one of them")
    return found


_SECRET_FILE_HINT = "name a small text file whose first line is the secret, and that this user may read"  # noqa: S105


def _default(setting: Setting) -> Any:
    if setting.default is None:
        return None
    try:
        return setting.parse(setting.default)
    except RefusedError:  # "~" without HOME, for a user id that no passwd entry names
        import tempfile

        return Path(tempfile.gettempdir()) / f"aim-engine-{os.getuid()}" / "cache"


def _find(
    setting: Setting, flags: Mapping[str, str | None], environment: Mapping[str, str], warnings: list[str]
) -> tuple[Origin, str, str | None]:
    """Where the setting's text comes from: (origin, the name it was given by, the text or None)."""
    typed = flags.get(setting.field)
    if typed is not None:
        return "flag", "MODEL" if setting.field == "model" else setting.flag, typed
    given = [(name, environment[name]) for name in setting.variables if environment.get(name, "") != ""]
    if not given:
        _check_empty(setting, environment)
        return "default", setting.variable, None
    name, text = given[0]
    for other, other_text in given[1:]:
        if other_text != text:
            warnings.append(f"{other} is ignored because {name} is set too")
    if setting.field in ("port", "health_port") and _URI.match(text):
        warnings.append(f"{name}={text} is ignored: it is a service link injected by Kubernetes, not a port")
        return "default", setting.variable, None
    return "environment", name, text


def _check_empty(setting: Setting, environment: Mapping[str, str]) -> None:
    """A key that is empty is one that somebody meant to give: a secret without its value, a variable misspelt. Taken
    for none, everybody would be served.
    """
    name = next((one for one in setting.variables if one in environment), None)
    if name is not None and not setting.may_be_empty:
        raise InputError(f"{name} is set and empty", hint=f"give it a value, or unset {name} to serve without a key")


def _parse(setting: Setting, name: str, text: str) -> Any:
    try:
        return setting.parse(text)
    except RefusedError as refusal:
        held = isinstance(refusal, SecretRefusedError) or (setting.is_json and may_hold_one(text))
        hidden = setting.secret or held or looks_like_one(text)
        shown = "its value" if hidden else repr(text if len(text) <= 80 else text[:77] + "...")
        raise InputError(f"{name}: {shown} is not legal", hint=f"{refusal}") from None


def _unknown_names(environment: Mapping[str, str]) -> Iterable[str]:
    """One warning for each AIM_* variable that no setting declares, with the nearest name."""
    for name in sorted(environment):
        if not name.startswith("AIM_") or name in _BY_VARIABLE or _is_service_link(name, environment[name]):
            continue
        near = difflib.get_close_matches(name, [n for n in _BY_VARIABLE if n.startswith("AIM_")], n=1)
        yield f"{name} is not a setting of AIM Engine and is ignored" + (f"; did you mean {near[0]}?" if near else "")


def _is_service_link(name: str, text: str) -> bool:
    return bool(_SERVICE_LINK.search(name) or (name.endswith("_PORT") and _URI.match(text)))
