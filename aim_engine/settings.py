"""The only declaration of every setting: its names, flag, default, legal values and meaning.

The command line, the README's table and the checks are all made from it. Reads nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aim_engine.values import (
    DEFAULT_PORT_RANGE,
    EVIDENCE_LEVELS,
    METRICS,
    PRECISIONS,
    choice,
    engine_options,
    file_name,
    host_name,
    integer,
    json_object,
    model_text,
    path_text,
    port_range,
    revision_text,
    seconds,
    secret_text,
    size,
    switch,
    text_line,
)

_AUTO_OR_PRECISION = ("auto", *PRECISIONS)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")

MAX_GPU_COUNT = 64  # eight GPUs in eight partitions each
MAX_NODES = 64
DEFAULT_CACHE_DIR = "~/.cache/aim-engine"
_LEAST_LOG_BYTES = 64 * 1024  # as long as one line may be
_MOST_LOG_FILES = 100


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: the variable and its aliases, the flag, the default as it would be typed, and what it means. A
    variable that is empty is not set, unless it may not be empty.
    """

    variable: str
    field: str
    parse: Callable[[str], Any]
    default: str | None
    meaning: str
    legal: str = ""
    aliases: tuple[str, ...] = ()
    extra_flags: tuple[str, ...] = ()
    secret: bool = False
    may_be_empty: bool = True
    switch: bool = False

    @property
    def flag(self) -> str:
        """`--gpu-count` for AIM_GPU_COUNT."""
        return "--" + self.field.replace("_", "-")

    @property
    def is_json(self) -> bool:
        return self.default == "{}"

    @property
    def file_variable(self) -> str | None:
        """The variable that names a file with the value in it, as Docker's and Kubernetes' secrets come; for secrets
        only.
        """
        return f"{self.variable}_FILE" if self.secret else None

    @property
    def variables(self) -> tuple[str, ...]:
        return (self.variable, *self.aliases)


SETTINGS: tuple[Setting, ...] = (
    Setting(variable="AIM_MODEL", field="model", aliases=("AIM_MODEL_ID", "AIM_ID"), parse=model_text, default=None,
            legal="org/name or a folder",
            meaning="The model to serve: a Hugging Face id, or a local folder. Required."),
    Setting(variable="AIM_REVISION", field="revision", parse=revision_text, default=None,
            legal="a branch, tag or commit",
            meaning="Which revision of a hub's model. The plan pins the commit that it was made from."),
    Setting(variable="AIM_PRECISION", field="precision", parse=choice(*_AUTO_OR_PRECISION), default="auto",
            legal=" ".join(_AUTO_OR_PRECISION),
            meaning="auto takes what the asked checkpoint holds if a recipe for it fits, then lower ones."),
    Setting(variable="AIM_GPU_COUNT", field="gpu_count", aliases=("AIM_ACCELERATOR_COUNT",), extra_flags=("--gpus",),
            parse=integer(1, MAX_GPU_COUNT, none_word="auto"), default="auto", legal=f"auto or 1-{MAX_GPU_COUNT}",
            meaning="Exactly this many of the visible GPUs; a partition counts as one."),
    Setting(variable="AIM_NODES", field="nodes", aliases=("LWS_GROUP_SIZE",), parse=integer(1, MAX_NODES), default="1",
            legal=f"1-{MAX_NODES}",
            meaning="Serve one model on so many nodes together, all of them alike; AIM_GPU_COUNT is that of one."),
    Setting(variable="AIM_NODE_RANK", field="node_rank", aliases=("LWS_WORKER_INDEX",), parse=integer(0, MAX_NODES - 1),
            default="0", legal=f"0-{MAX_NODES - 1}",
            meaning="Which of them this is: 0 is the leader, which has the API; the others are workers."),
    Setting(variable="AIM_LEADER_ADDRESS", field="leader_address", aliases=("LWS_LEADER_ADDRESS",), parse=host_name,
            default=None, legal="a host name or an address",
            meaning="Where the other nodes find the leader; its own, too. Needed to serve on several."),
    Setting(variable="AIM_LEADER_PORT", field="leader_port", parse=integer(1, 65535), default="29501", legal="1-65535",
            meaning="The port on which the leader gathers the engines of all nodes."),
    Setting(variable="AIM_METRIC", field="metric", parse=choice(*METRICS), default="latency",
            legal=" ".join(METRICS), meaning="What to tune for."),
    Setting(variable="AIM_BACKEND", field="backend", aliases=("AIM_ENGINE",), parse=text_line, default="vllm",
            legal="vllm, sglang or a plug-in", meaning="The engine that serves the model."),
    Setting(variable="AIM_RECIPE", field="recipe", aliases=("AIM_PROFILE_ID",), parse=text_line, default=None,
            legal="a recipe id",
            meaning="Pin one recipe. It is still checked; a mismatch is an error unless AIM_FORCE=1."),
    Setting(variable="AIM_EXPECT_PLAN", field="expect_plan", parse=json_object, default="{}", legal="a JSON object",
            meaning="What the plan must come to, as render kubernetes writes it; a difference ends it with code 10."),
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
    Setting(variable="AIM_ENGINE_ARGS", field="engine_args", parse=engine_options, default="{}", legal="a JSON object",
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
            meaning="0 = the first failure is the end: nothing is tried again, neither as it was nor with less."),
    Setting(variable="AIM_FORGET", field="forget", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = plan as if nothing had been served here yet: nothing measured, nothing given up."),
    Setting(variable="AIM_START_TIMEOUT", field="start_timeout", parse=seconds(1, none_word="auto"), default="auto",
            legal="auto or seconds", meaning="How long a start may take. auto derives it from the model's size."),
    Setting(variable="AIM_STALL_TIMEOUT", field="stall_timeout", parse=seconds(1, none_word="auto", or_zero=True),
            default="auto", legal="auto or seconds",
            meaning="How long a start may stand still. auto takes each phase's own limit; 0 = any time."),
    Setting(variable="AIM_HANG_TIMEOUT", field="hang_timeout", parse=seconds(1), default="120", legal="seconds",
            meaning="How long work may stand still before the engine counts as hung."),
    Setting(variable="AIM_CANARY_SECONDS", field="canary_seconds", parse=seconds(0), default="60", legal="seconds",
            meaning="How long an engine may have nothing to do before it is asked for one token, to see that it "
                    "still answers; 0 = it is not asked while it is idle."),
    Setting(variable="AIM_DRAIN_TIMEOUT", field="drain_timeout", parse=seconds(0), default="60", legal="seconds",
            meaning="How long requests in flight may finish after a stop was asked for."),
    Setting(variable="AIM_SANITY", field="sanity", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = ask a few fixed questions before ready; answers that are not sane keep it from being ready."),
    Setting(variable="AIM_KEEP_ALIVE", field="keep_alive", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = after a fatal error stay up and inspectable: live 200, ready 503 with the reason."),
    Setting(variable="AIM_API_KEY", field="api_key", aliases=("VLLM_API_KEY",), parse=secret_text, default=None,
            legal="a secret", secret=True, may_be_empty=False,
            meaning="Asked for on every route of the API but /health. Environment only, never a flag; set and empty is "
                    "an error."),
    Setting(variable="HF_TOKEN", field="hf_token", parse=secret_text, default=None, legal="a secret", secret=True,
            meaning="Hugging Face token for gated models. Environment only, never a flag."),
    Setting(variable="AIM_TLS_CERT", field="tls_cert", parse=path_text, default=None, legal="a file",
            meaning="Certificate chain (PEM) of the API, which then speaks HTTPS. With AIM_TLS_KEY."),
    Setting(variable="AIM_TLS_KEY", field="tls_key", parse=path_text, default=None, legal="a file",
            meaning="The certificate's private key (PEM)."),
    Setting(variable="AIM_OFFLINE", field="offline", parse=switch, default="0", switch=True, legal="0 1",
            meaning="1 = no network at all."),
    Setting(variable="AIM_HUB_TIMEOUT", field="hub_timeout", parse=seconds(0.1), default="10", legal="seconds",
            meaning="How long the hub may keep silent while a plan asks it."),
    Setting(variable="AIM_IMAGE_CACHE", field="image_cache", parse=path_text, default=None, legal="a folder",
            meaning="What the image's build prepared for the engine's caches. The image sets it."),
    Setting(variable="AIM_LOG_LEVEL", field="log_level", default="info",
            # AMD's operator says CRITICAL when it asks an image for its profiles
            parse=choice(*LOG_LEVELS, also={"critical": "error", "warn": "warning"}),
            legal=" ".join(LOG_LEVELS), meaning="How much AIM Engine itself says."),
    Setting(variable="AIM_LOG_FORMAT", field="log_format", parse=choice(*LOG_FORMATS), default="text",
            legal=" ".join(LOG_FORMATS), meaning="text, or json: one object a line, engine lines included."),
    Setting(variable="AIM_LOG_DIR", field="log_dir", parse=path_text, default=None, legal="a folder",
            meaning="A folder for a copy of all that the server writes, in a file of its own."),
    Setting(variable="AIM_LOG_NAME", field="log_name", parse=file_name, default=None, legal="a name",
            meaning="That file's name, without .log. Unset: the container's under launch, else model and port."),
    Setting(variable="AIM_LOG_FILE_SIZE", field="log_file_size", parse=size(_LEAST_LOG_BYTES), default="50m",
            legal="a size", meaning="How large that file becomes before it is NAME.log.1 and a new one begins."),
    Setting(variable="AIM_LOG_FILE_COUNT", field="log_file_count", parse=integer(1, _MOST_LOG_FILES), default="5",
            legal=f"1-{_MOST_LOG_FILES}", meaning="How many of these files are kept, the newest included."),
    Setting(variable="AIM_PORT_RANGE", field="port_range", parse=port_range,
            default=str(DEFAULT_PORT_RANGE), legal="FIRST-LAST",
            meaning="Where launch looks for free ports when none is named; the health sidecar's from 8080 on."),
    Setting(variable="AIM_ENGINE_REGISTRY", field="engine_registry", parse=text_line, default=None,
            legal="registry/path, or an image",
            meaning="Where launch takes the image from unless one is named: its name follows; with a tag or a digest "
                    "it is the whole image. Unset, an orchestrator takes its own image."),
)  # fmt: skip


def settings_table() -> str:
    """The settings as a Markdown table; the README carries it and a test compares the two."""
    rows = ["| variable (accepted alias) | flag | default | values | meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in SETTINGS:
        names = setting.variable + (f" ({', '.join(setting.aliases)})" if setting.aliases else "")
        flags = "MODEL (the argument)" if setting.field == "model" else ", ".join((setting.flag, *setting.extra_flags))
        default = setting.default if setting.default is not None else "–"
        flags = "–" if setting.secret else flags
        meaning = setting.meaning
        if setting.file_variable:
            meaning += f" {setting.file_variable} names a file whose first line it is."
        rows.append(f"| {names} | {flags} | {default} | {setting.legal} | {meaning} |")
    return "\n".join(rows)
