"""What was asked: flags and AIM_* variables in, one frozen `Request` out, with the origin of every value.

`SETTINGS` is the only declaration of a setting: its names, flag, default, legal values and meaning. The command
line, the README's table and the checks are all made from it. Nothing here looks at hardware, recipes or the disk,
except to tell a local model folder from a hub id.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aim_engine.errors import InputError
from aim_engine.values import (
    EVIDENCE_LEVELS,
    METRICS,
    PRECISIONS,
    RefusedError,
    choice,
    integer,
    json_object,
    model_text,
    names_a_folder,
    path_text,
    seconds,
    secret_text,
    switch,
    text_line,
)

Origin = Literal["flag", "environment", "default"]

_AUTO_OR_PRECISION = ("auto", *PRECISIONS)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

MAX_GPU_COUNT = 8
DEFAULT_CACHE_DIR = "~/.cache/aim-engine"

_URI = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# What Kubernetes injects for each service of a namespace (documented as "Docker-style service links").
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: the variable and its aliases, the flag, the default as it would be typed, and what it means."""

    variable: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str
    legal: str = ""
    aliases: tuple[str, ...] = ()
    extra_flags: tuple[str, ...] = ()
    secret: bool = False
    switch: bool = False

    @property
    def flag(self) -> str:
        """`--gpu-count` for AIM_GPU_COUNT."""
        return "--" + self.field.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable, *self.aliases)


SETTINGS: tuple[Setting, ...] = (
    Setting(variable="AIM_MODEL", field="model", aliases=("AIM_MODEL_ID",), parse=model_text, default=None,
            legal="org/name or a folder",
            meaning="The model to serve: a Hugging Face id, or a local folder. Required."),
    Setting(variable="AIM_PRECISION", field="precision", parse=choice(*_AUTO_OR_PRECISION), default="auto",
            legal=" ".join(_AUTO_OR_PRECISION),
            meaning="auto takes what the asked checkpoint holds, and a lower precision only if that cannot fit."),
    Setting(variable="AIM_GPU_COUNT", field="gpu_count", aliases=("AIM_ACCELERATOR_COUNT",), extra_flags=("--gpus",),
            parse=integer(1, MAX_GPU_COUNT, none_word="auto"), default="auto", legal="auto or 1-8",
            meaning="Exactly this many of the visible GPUs."),
    Setting(variable="AIM_METRIC", field="metric", parse=choice(*METRICS), default="latency",
            legal=" ".join(METRICS), meaning="What to tune for."),
    Setting(variable="AIM_BACKEND", field="backend", aliases=("AIM_ENGINE",), parse=text_line, default="vllm",
            legal="vllm or a plug-in", meaning="The engine that serves the model."),
    Setting(variable="AIM_RECIPE", field="recipe", aliases=("AIM_PROFILE_ID",), parse=text_line, default=None,
            legal="a recipe id",
            meaning="Pin one recipe. It is still checked; a mismatch is an error unless AIM_FORCE=1."),
    Setting(variable="AIM_FORCE", field="force", parse=switch, default="0", switch=True, legal="0 1",
            meaning="Use the pinned recipe although a check failed."),
    Setting(variable="AIM_MIN_EVIDENCE", field="min_evidence", parse=choice(*EVIDENCE_LEVELS), default="derived",
            legal=" ".join(EVIDENCE_LEVELS),
            meaning="Choose only among recipes whose evidence is at least this strong."),
    Setting(variable="AIM_MAX_MODEL_LEN", field="max_model_len", parse=integer(1, None, "auto", none_word="recipe"),
            default="recipe", legal="recipe, auto or tokens",
            meaning="Context length in tokens. recipe takes the recipe's; auto the longest that fits."),
    Setting(variable="AIM_CONCURRENCY", field="concurrency", parse=integer(1, 100_000), default="1",
            legal="1 or more", meaning="Requests of full context length that must fit in memory at once."),
    Setting(variable="AIM_ENGINE_ARGS", field="engine_args", parse=json_object, default="{}", legal="a JSON object",
            meaning='Engine options laid over the recipe\'s, for instance {"max-num-seqs": 64}.'),
    Setting(variable="AIM_HOST", field="host", parse=text_line, default="0.0.0.0", legal="an address",
            meaning="The address that the API and the health sidecar listen on."),
    Setting(variable="AIM_PORT", field="port", parse=integer(1, 65535), default="8000", legal="1-65535",
            meaning="Port of the OpenAI-compatible API."),
    Setting(variable="AIM_HEALTH_PORT", field="health_port", parse=integer(1, 65535), default="8080",
            legal="1-65535", meaning="Port of the health sidecar."),
    Setting(variable="AIM_CACHE_DIR", field="cache_dir", aliases=("AIM_CACHE_PATH",), parse=path_text,
            default=DEFAULT_CACHE_DIR, legal="a folder",
            meaning="Weights (Hugging Face layout) and compile caches. The image sets /workspace/model-cache."),
    Setting(variable="AIM_STATE_DIR", field="state_dir", parse=path_text, default=None, legal="a folder",
            meaning="The running server's state: the plan, pids, last words. Unset: a private folder under the "
                    "system's temporary folder."),
    Setting(variable="AIM_RECIPES_DIR", field="recipes_dir", parse=path_text, default=None, legal="a folder",
            meaning="More recipes, looked at before the built-in ones."),
    Setting(variable="AIM_MODELS_DIR", field="models_dir", parse=path_text, default=None, legal="a folder",
            meaning="More model cards, looked at before the built-in ones."),
    Setting(variable="AIM_HARDWARE", field="hardware", aliases=("AIM_GPU_MODEL", "AIM_ACCELERATOR_MODEL"),
            parse=text_line, default="detect", legal="detect, MI300X:8, cpu, a file or a folder",
            meaning="Plan for this hardware instead of what is here: products with counts (MI300X:4,MI325X:4), cpu, "
                    "a file as detect --json prints it, or a folder that scripts/record-host made."),
    Setting(variable="AIM_DETECT_TIMEOUT", field="detect_timeout", parse=seconds(0.1), default="10", legal="seconds",
            meaning="How long asking the driver for the GPUs may take."),
    Setting(variable="AIM_FALLBACK", field="fallback", parse=switch, default="1", switch=True, legal="0 1",
            meaning="0 = never try again with other settings after a failure."),
    Setting(variable="AIM_START_TIMEOUT", field="start_timeout", parse=seconds(1, none_word="auto"), default="auto",
            legal="auto or seconds", meaning="How long a start may take. auto derives it from the model's size."),
    Setting(variable="AIM_HANG_TIMEOUT", field="hang_timeout", parse=seconds(1), default="120", legal="seconds",
            meaning="How long work may stand still before the engine counts as hung."),
    Setting(variable="AIM_DRAIN_TIMEOUT", field="drain_timeout", parse=seconds(0), default="60", legal="seconds",
            meaning="How long requests in flight may finish after a stop was asked for."),
    Setting(variable="AIM_KEEP_ALIVE", field="keep_alive", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = after a fatal error stay up and inspectable: live 200, ready 503 with the reason."),
    Setting(variable="AIM_API_KEY", field="api_key", aliases=("VLLM_API_KEY",), parse=secret_text, default=None,
            legal="a secret", secret=True,
            meaning="Asked for on every route of the API but /health. Environment only, never a flag."),
    Setting(variable="HF_TOKEN", field="hf_token", parse=secret_text, default=None, legal="a secret", secret=True,
            meaning="Hugging Face token for gated models. Environment only, never a flag."),
    Setting(variable="AIM_TLS_CERT", field="tls_cert", parse=path_text, default=None, legal="a file",
            meaning="Certificate chain (PEM) of the API, which then speaks HTTPS. With AIM_TLS_KEY."),
    Setting(variable="AIM_TLS_KEY", field="tls_key", parse=path_text, default=None, legal="a file",
            meaning="The certificate's private key (PEM)."),
    Setting(variable="AIM_OFFLINE", field="offline", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = no network at all."),
    Setting(variable="AIM_IMAGE_CACHE", field="image_cache", parse=path_text, default=None, legal="a folder",
            meaning="What the image's build prepared for the engine's caches. The image sets it."),
    Setting(variable="AIM_LOG_LEVEL", field="log_level", default="info",
            # AMD's operator says CRITICAL when it asks an image for its profiles
            parse=choice(*LOG_LEVELS, also={"critical": "error", "warn": "warning"}),
            legal=" ".join(LOG_LEVELS), meaning="How much AIM Engine itself says."),
    Setting(variable="AIM_LOG_FORMAT", field="log_format", parse=choice(*LOG_FORMATS), default="text",
            legal=" ".join(LOG_FORMATS), meaning="text, or json: one object a line, engine lines included."),
)  # fmt: skip

_BY_VARIABLE = {variable: setting for setting in SETTINGS for variable in setting.variables}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked, complete and checked. `origins` says for every field whether a flag, the environment or the
    default gave it; `warnings` are sentences for the person who asked; `environment` is the process's own, whose
    variables win over a recipe's. Secrets never appear in `repr`.
    """

    model: str | None = None
    precision: str = "auto"
    gpu_count: int | None = None
    metric: str = "latency"
    backend: str = "vllm"
    recipe: str | None = None
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
    start_timeout: float | None = None
    hang_timeout: float = 120.0
    drain_timeout: float = 60.0
    keep_alive: bool = False
    api_key: str | None = field(default=None, repr=False)
    hf_token: str | None = field(default=None, repr=False)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    image_cache: Path | None = None
    offline: bool = False
    log_level: str = "info"
    log_format: str = "text"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: Mapping[str, Origin] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

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


def read_request(flags: Mapping[str, str | None], environment: Mapping[str, str]) -> Request:
    """Lay flags over the environment over the defaults.

    `flags` maps field names to the text typed (None or absent: not typed); `environment` is the process's.

    Raises:
        InputError: a value is not legal; the message names the setting, the value and the legal ones.
    """
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    warnings = list(_unknown_names(environment))
    for setting in SETTINGS:
        origin, name, text = _find(setting, flags, environment, warnings)
        if text is None:
            values[setting.field] = _default(setting)
        else:
            values[setting.field] = _parse(setting, name, text)
        origins[setting.field] = origin
    if values["port"] == values["health_port"]:
        raise InputError(
            f"AIM_PORT and AIM_HEALTH_PORT are both {values['port']}", hint="give the health sidecar a port of its own"
        )
    return Request(**values, environment=dict(environment), origins=origins, warnings=tuple(warnings))


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
        return "default", setting.variable, None
    name, text = given[0]
    for other, other_text in given[1:]:
        if other_text != text:
            warnings.append(f"{other} is ignored because {name} is set too")
    if setting.field in ("port", "health_port") and _URI.match(text):
        warnings.append(f"{name}={text} is ignored: it is a service link injected by Kubernetes, not a port")
        return "default", setting.variable, None
    return "environment", name, text


def _parse(setting: Setting, name: str, text: str) -> Any:
    try:
        return setting.parse(text)
    except RefusedError as refusal:
        shown = "its value" if setting.secret else repr(text if len(text) <= 80 else text[:77] + "...")
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


def settings_table() -> str:
    """The settings as a Markdown table; the README carries it and a test compares the two."""
    rows = ["| variable (accepted alias) | flag | default | values | meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in SETTINGS:
        names = setting.variable + (f" ({', '.join(setting.aliases)})" if setting.aliases else "")
        flags = "MODEL (the argument)" if setting.field == "model" else ", ".join((setting.flag, *setting.extra_flags))
        default = setting.default if setting.default is not None else "–"
        flags = "–" if setting.secret else flags
        rows.append(f"| {names} | {flags} | {default} | {setting.legal} | {setting.meaning} |")
    return "\n".join(rows)
