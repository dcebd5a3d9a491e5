"""The options of `vllm serve`: a job in, every option with its value and who set it out, and the words they become.

Also what an option is called in the installed version. Knows no environment and no device.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aim_engine.backends import vllm_platforms as platforms
from aim_engine.backends.base import Complaint, ServeJob
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.errors import CatalogError, EngineRefusedError, InputError

# Set by AIM Engine, from settings of its own; given among the engine's arguments they would contradict those.
_OWNED = {
    "model": "AIM_MODEL",
    "host": "AIM_HOST",
    "port": "AIM_PORT",
    "served-model-name": "AIM_MODEL",
    "max-model-len": "AIM_MAX_MODEL_LEN",
    "api-key": "AIM_API_KEY",
    "tensor-parallel-size": "AIM_GPU_COUNT",
    "data-parallel-size": "AIM_GPU_COUNT",
    "pipeline-parallel-size": "AIM_GPU_COUNT",
    "download-dir": "AIM_CACHE_DIR",
    "shutdown-timeout": "AIM_DRAIN_TIMEOUT",
    "hf-token": "HF_TOKEN",
    "ssl-certfile": "AIM_TLS_CERT",
    "ssl-keyfile": "AIM_TLS_KEY",
    "uds": "AIM_PORT",
}
_GUARD = "aim_engine.runtime.guard.Guard"
# Options that may be given many times with one value each; any other list is one option with many values.
_REPEATED = ("middleware",)


# A recipe may say how the model is split over GPUs and how long its context is; the rest is not its to set.
_RECIPE_MAY = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size", "max-model-len")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


# Options whose values the plan reckons with: what each may be, and how to say so.
_LEGAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "gpu-memory-utilization": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "max-model-len": (lambda v: _is_whole(v) or v in (-1, "auto"), "a whole number of tokens, or auto"),
    "max-num-batched-tokens": (_is_whole, "a whole number of at least 1"),
    "max-num-seqs": (_is_whole, "a whole number of at least 1"),
    "block-size": (_is_whole, "a whole number of at least 1"),
    "enforce-eager": (lambda v: v is None or isinstance(v, bool), "true or false"),
    "kv-cache-dtype": (lambda v: isinstance(v, str), "a word such as fp8"),
}


def _wrong_values(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options with a value they cannot have: (name, what it must be)."""
    for name, (legal, words) in _LEGAL.items():
        if name in options and not legal(options[name]):
            yield name, f"must be {words}, not {json.dumps(options[name])}"


def recipe_complaints(args: Mapping[str, ArgumentValue]) -> Iterator[Complaint]:
    """What speaks against a recipe's options whatever the version."""
    for option, sentence in _wrong_values(args):
        yield Complaint(key=f"args.{option}", kind="value", sentence=sentence)
    for option in args:
        if option in _OWNED and option not in _RECIPE_MAY:
            yield Complaint(
                key=f"args.{option}", kind="option", sentence=f"is not for a recipe to set: {_OWNED[option]} does"
            )
        elif option.startswith("no-"):
            yield Complaint(
                key=f"args.{option}", kind="option", sentence=f"is written as {option.removeprefix('no-')}: false"
            )
        elif not platforms.was_ever_option(option):
            near = difflib.get_close_matches(option, platforms.option_names(None), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield Complaint(
                key=f"args.{option}", kind="option", sentence=f"is an option of no known version of vLLM{hint}"
            )


def serve_options(job: ServeJob, notes: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every option with who set it, weakest first: recipe, the user's AIM_ENGINE_ARGS, then what AIM Engine owns."""
    user = dashed(job.overrides)
    for option, setting in _OWNED.items():
        if option in user:
            raise InputError(f"{_giver(job, option)}: {option} is set by {setting}", hint=f"use {setting} instead")
    for option in user:
        if option in ("config", "headless"):
            raise InputError(
                f"{_giver(job, option)}: {option} would take the server out of our hands", hint="leave it out"
            )
    for option, sentence in _wrong_values(user):
        raise InputError(f"{_giver(job, option)}: {option} {sentence}", hint="correct the value, or leave it out")
    for option, sentence in _wrong_values(job.args):
        raise CatalogError(f"recipe {job.recipe_id}: args.{option} {sentence}", hint="mend the recipe")
    options: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = ((f"recipe {job.recipe_id}", _existing(job, job.args, notes)),
              (_USERS, _checked_user_options(job, user)),
              ("AIM Engine", _owned(job)))  # fmt: skip
    for origin, layer in layers:
        for option, value in layer.items():
            giver = _giver(job, option) if origin == _USERS else origin
            if option in options and options[option] != value and origin == _USERS:
                notes.append(f"{option}: {giver} says {value}, the recipe said {options[option]}")
            if option == "middleware" and option in options:
                value = list(dict.fromkeys([*_as_list(options[option]), *_as_list(value)]))  # noqa: PLW2901 - both apply
            options[option] = value
            origins[f"--{option}"] = giver
    return options, origins


_USERS = "AIM_ENGINE_ARGS"


def _giver(job: ServeJob, option: str) -> str:
    return job.giver(option, _USERS)


def _owned(job: ServeJob) -> dict[str, Any]:
    """What AIM Engine itself sets, as far as the installed version knows it."""
    version = version_of(job)
    wanted: dict[str, Any] = {
        "host": job.host,
        "port": job.port,
        **_revisions(job),
        "ssl-certfile": str(job.tls_cert) if job.tls_cert else None,
        "ssl-keyfile": str(job.tls_key) if job.tls_key else None,
        "served-model-name": list(job.served_names),
        "max-model-len": job.context_tokens,
        "gpu-memory-utilization": job.memory_fraction,
        "data-parallel-size": job.replicas if job.replicas > 1 else None,
        "kv-cache-memory-bytes": _cache_bytes(job),
        "enable-server-load-tracking": True,
        # the sidecar asks these every second; a log of that hides everything else
        "disable-access-log-for-endpoints": "/health,/metrics,/load",
        "shutdown-timeout": int(job.drain_seconds),
        "middleware": [_GUARD],
    }
    return {
        option: value for option, value in wanted.items() if value is not None and platforms.has_option(option, version)
    }


def _revisions(job: ServeJob) -> dict[str, Any]:
    """The model's revision. vLLM asks for the tokenizer at the same one unless told, even in another repository, which
    has no such commit (ModelConfig.__post_init__).
    """
    user = {**job.args, **dashed(job.overrides)}
    if job.revision is None:
        return {}
    elsewhere = user.get("tokenizer") not in (None, job.model) and "tokenizer-revision" not in user
    return {"revision": job.revision} | ({"tokenizer-revision": "main"} if elsewhere else {})


def _cache_bytes(job: ServeJob) -> int | None:
    """The KV cache's size where it must be given: the ledger's, or one GiB for a model of unknown shape."""
    platform = platforms.platform_for(job.gpus[0])
    chosen = {*job.args, *dashed(job.overrides)} & {"kv-cache-memory-bytes", "num-gpu-blocks-override"}
    if not platform.explicit_cache or chosen or "VLLM_CPU_KVCACHE_SPACE" in job.environment:
        return None
    return job.kv_bytes or platforms.GIB


def _existing(job: ServeJob, args: Mapping[str, ArgumentValue], notes: list[str]) -> dict[str, Any]:
    """The recipe's options in the installed version's names; one it does not have is an error that says what to do."""
    kept: dict[str, Any] = {}
    for option, value in args.items():
        if option in _OWNED and option not in _RECIPE_MAY:
            notes.append(f"{option} of recipe {job.recipe_id} is left out: {_OWNED[option]} sets it")
            continue
        try:
            installed = installed_name(option, version_of(job))
        except LookupError as missing:
            raise EngineRefusedError(
                f"recipe {job.recipe_id}: vLLM {_shown_version(job)} has no option {option}", hint=str(missing.args[0])
            ) from None
        if installed is None:
            notes.append(f"{option} no longer exists in vLLM {_shown_version(job)} and is left out; nothing is lost")
            continue
        if installed != option:
            notes.append(f"{option} is called {installed} in vLLM {_shown_version(job)}")
        kept[installed] = value
    return kept


def installed_name(option: str, version: platforms.Version | None) -> str | None:
    """What an option is called in that version; None where it is gone and nothing is lost by that.

    Raises:
        LookupError: that version has nothing of the kind; the text is the remedy.
    """
    renamed = platforms.new_name(option)
    if platforms.has_option(option, version):
        return option
    if renamed and platforms.has_option(renamed, version):
        return renamed
    if platforms.is_without_effect(option):
        return None
    near = difflib.get_close_matches(option, platforms.option_names(version), n=1)
    raise LookupError(platforms.advice(option) or (f"did you mean {near[0]}?" if near else "remove it"))


def _checked_user_options(job: ServeJob, user: dict[str, Any]) -> dict[str, Any]:
    version = version_of(job)
    for option in user:
        if not platforms.has_option(option, version):
            near = difflib.get_close_matches(option, platforms.option_names(version), n=1)
            advice = platforms.advice(option) or (f"did you mean {near[0]}?" if near else "see: vllm serve --help=all")
            raise InputError(f"{_giver(job, option)}: vLLM {_shown_version(job)} has no option {option}", hint=advice)
    return user


def rendered(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as argv: true is a bare flag, false is --no-x, a list many values, a map JSON."""
    for option, value in options.items():
        if value is True or value is None:
            yield f"--{option}"
        elif value is False:
            yield f"--no-{option}"
        elif isinstance(value, list) and option in _REPEATED:
            for one in value:
                yield from (f"--{option}", _word(one))
        elif isinstance(value, list):
            yield from (f"--{option}", *(_word(one) for one in value))
        else:
            # one word, so that a value that begins with a dash is not taken for an option
            word = _word(value)
            yield from ((f"--{option}={word}",) if word.startswith("-") else (f"--{option}", word))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def version_of(job: ServeJob) -> platforms.Version | None:
    return platforms.parse_version(job.engine.version if job.engine else None)


def _shown_version(job: ServeJob) -> str:
    return str(job.engine.version) if job.engine else "(newest known)"


def dashed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {option.replace("_", "-"): value for option, value in options.items()}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
