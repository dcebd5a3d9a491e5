"""The options of sglang's server: a job in, every option with its value and who set it out, and the words they become.

An option may be written by any of its names (tp, tp-size, tensor-parallel-size). Knows no environment and no device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.backends import sglang_versions as versions
from aim_engine.backends.base import MOST_WHOLE, Complaint, ServeJob
from aim_engine.backends.vllm_versions import Version, parse_version
from aim_engine.catalog.recipe import ArgumentValue
from aim_engine.errors import CatalogError, EngineRefusedError, InputError

# Set by AIM Engine, from settings of its own.
_OWNED = {
    "model-path": "AIM_MODEL",
    "host": "AIM_HOST",
    "port": "AIM_PORT",
    "served-model-name": "AIM_MODEL",
    "context-length": "AIM_MAX_MODEL_LEN",
    "api-key": "AIM_API_KEY",
    "admin-api-key": "AIM_API_KEY",
    "tp-size": "AIM_GPU_COUNT",
    "dp-size": "AIM_GPU_COUNT",
    "pp-size": "AIM_GPU_COUNT",
    "download-dir": "AIM_CACHE_DIR",
    "revision": "AIM_REVISION",
    "ssl-certfile": "AIM_TLS_CERT",
    "ssl-keyfile": "AIM_TLS_KEY",
    "ssl-keyfile-password": "AIM_TLS_KEY",
}
_RECIPE_MAY = ("tp-size", "pp-size", "dp-size", "context-length", "revision")
# With these sglang listens in other places or processes, where no guard asks for the key, or is no server of its own.
_OUT_OF_HANDS = frozenset({
    "config", "tokenizer-worker-num", "grpc-mode", "smg-grpc-mode", "grpc-port", "sidecar", "sidecar-args", "use-ray",
    "encoder-only", "nnodes", "node-rank",
})  # fmt: skip
_USERS = "AIM_ENGINE_ARGS"


def _wrong_values(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options that the plan reckons with and that have a value they cannot have: (name, what it must be)."""
    for name, value in options.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if name == "mem-fraction-static" and not (number and 0 < value < 1):
            yield name, f"must be a number above 0 and below 1, not {json.dumps(value)}"
        elif name in _WHOLE and not (
            isinstance(value, int) and number and (1 <= value <= MOST_WHOLE or value in _WHOLE[name])
        ):
            most = f" and at most {MOST_WHOLE}" if number and value > MOST_WHOLE else ""
            yield name, f"must be a whole number of at least 1{most}, not {json.dumps(value)}"
        elif (versions.is_flag(name) or versions.is_switch(name)) and not isinstance(value, (bool, type(None))):
            yield name, f"must be true or false, not {json.dumps(value)}"


# What is reckoned with, and what each may be besides a number of at least 1: sglang's ways to say "off"
_WHOLE: dict[str, tuple[int, ...]] = {
    "context-length": (), "tp-size": (), "dp-size": (), "pp-size": (), "page-size": (), "max-running-requests": (),
    "chunked-prefill-size": (-1,), "max-prefill-tokens": (), "max-total-tokens": (),
}  # fmt: skip


def recipe_complaints(args: Mapping[str, ArgumentValue]) -> Iterator[Complaint]:
    """What speaks against a recipe's options whatever the version."""
    for option, sentence in _wrong_values(named(args)):
        yield Complaint(key=f"args.{option}", kind="value", sentence=sentence)
    seen: dict[str, str] = {}
    for option in args:
        name = versions.canonical(option)
        if name in seen:
            yield _option(option, f"is the same option as {seen[name]}; leave one of them out")
        elif name in _OWNED and name not in _RECIPE_MAY:
            yield _option(option, f"is not for a recipe to set: {_OWNED[name]} does")
        elif name in _OUT_OF_HANDS:
            yield _option(option, "is not for a recipe to set: it would take the server out of AIM Engine's hands")
        elif not versions.was_ever_option(option):
            hint = versions.remedy(option)
            yield _option(option, f"is an option of no known version of sglang{'; ' if hint else ''}{hint}")
        seen[name] = option


def _option(option: str, sentence: str) -> Complaint:
    return Complaint(key=f"args.{option}", kind="option", sentence=sentence)


def serve_options(job: ServeJob, notes: list[str], warnings: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every option with who set it, weakest first: recipe, the user's AIM_ENGINE_ARGS, then what AIM Engine owns."""
    user = named(job.overrides)
    for option in user:
        if option in _OWNED:
            raise InputError(f"{_giver(job, option)}: {option} is set by {_OWNED[option]}",
                             hint=f"use {_OWNED[option]} instead")  # fmt: skip
        if option in _OUT_OF_HANDS:
            raise InputError(
                f"{_giver(job, option)}: {option} would take the server out of our hands", hint="leave it out"
            )
    for option, sentence in _wrong_values(user):
        raise InputError(f"{_giver(job, option)}: {option} {sentence}", hint="correct the value, or leave it out")
    for option, sentence in _wrong_values(named(job.args)):
        raise CatalogError(f"recipe {job.recipe_id}: args.{option} {sentence}", hint="mend the recipe")
    options: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = ((f"recipe {job.recipe_id}", _of_recipe(job, notes, warnings)), (_USERS, _of_user(job, user)),
              ("AIM Engine", _owned(job)))  # fmt: skip
    for origin, layer in layers:
        for option, value in layer.items():
            giver = _giver(job, option) if origin == _USERS else origin
            if origin == _USERS and options.get(option, value) != value:
                notes.append(f"{option}: {giver} says {value}, the recipe said {options[option]}")
            options[option] = value
            origins[f"--{option}"] = giver
    return options, origins


def _giver(job: ServeJob, option: str) -> str:
    return job.giver(option, _USERS)


def _of_recipe(job: ServeJob, notes: list[str], warnings: list[str]) -> dict[str, Any]:
    """The recipe's options in the installed version's names; one it does not have is an error that says what to do,
    unless the recipe says that it may be left out.
    """
    optional = {versions.canonical(one) for one in job.optional}
    kept: dict[str, Any] = {}
    for option, value in named(job.args).items():
        if (option in _OWNED and option not in _RECIPE_MAY) or option in _OUT_OF_HANDS:
            setting = f": {_OWNED[option]} sets it" if option in _OWNED else ""
            notes.append(f"{option} of recipe {job.recipe_id} is left out{setting}")
        elif installed := versions.installed_name(option, version_of(job)):
            kept[installed] = value
            if installed != option:
                notes.append(f"{option} is called {installed} in sglang {_shown_version(job)}")
        elif option in optional:
            warnings.append(f"{option} of recipe {job.recipe_id} is left out: sglang {_shown_version(job)} has none")
        else:
            raise EngineRefusedError(
                f"recipe {job.recipe_id}: sglang {_shown_version(job)} has no option {option}",
                hint=versions.remedy(option, version_of(job)) or "remove it",
            )
    return kept


def _of_user(job: ServeJob, user: dict[str, Any]) -> dict[str, Any]:
    for option in user:
        if not versions.has_option(option, version_of(job)):
            advice = versions.remedy(option, version_of(job)) or "see: python -m sglang.launch_server --help"
            raise InputError(f"{_giver(job, option)}: sglang {_shown_version(job)} has no option {option}", hint=advice)
    return user


def _owned(job: ServeJob) -> dict[str, Any]:
    """What AIM Engine itself sets. The API key is not among it: see runtime/sglang_server.py."""
    wanted: dict[str, Any] = {
        "host": job.host,
        "port": job.port,
        "revision": job.revision,
        "ssl-certfile": str(job.tls_cert) if job.tls_cert else None,
        "ssl-keyfile": str(job.tls_key) if job.tls_key else None,
        "served-model-name": job.served_names[0],  # it knows one, and answers to any
        "context-length": job.context_tokens if isinstance(job.context_tokens, int) else None,
        "mem-fraction-static": job.memory_fraction,
        "dp-size": job.replicas if job.replicas > 1 else None,
        "tp-size": _width(job),
        "enable-metrics": True,
        # the sidecar asks these every second; a log of that hides everything else
        "uvicorn-access-log-exclude-prefixes": _asked_often(job),
        # its own first request comes without the key; ours, which makes the server ready, does the same work
        "skip-server-warmup": True,
    }
    return {option: value for option, value in wanted.items() if value is not None}


def _asked_often(job: ServeJob) -> list[str] | None:
    option = "uvicorn-access-log-exclude-prefixes"
    there = versions.has_option(option, version_of(job)) and option not in {**named(job.args), **named(job.overrides)}
    return ["/health", "/metrics", "/load"] if there else None


def _width(job: ServeJob) -> int | None:
    """What a recipe that says nothing of it means by its number of GPUs."""
    width = len(job.gpus) // job.replicas
    return None if width == 1 or named(job.args).keys() & {"tp-size", "pp-size", "dp-size"} else width


def named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the name that each is kept under."""
    return {versions.canonical(option.replace("_", "-")): value for option, value in options.items()}


def rendered(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as argv. A flag has no --no-x: what is false is left out, which is every flag's default."""
    for option, value in options.items():
        if value is True or value is None:
            yield f"--{option}"
        elif value is False:
            yield from ((f"--no-{option}",) if versions.is_switch(option) else ())
        elif isinstance(value, list):
            yield from (f"--{option}", *(_word(one) for one in value))
        else:
            # one word, so that a value that begins with a dash is not taken for an option
            word = _word(value)
            yield from ((f"--{option}={word}",) if word.startswith("-") else (f"--{option}", word))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def version_of(job: ServeJob) -> Version | None:
    return parse_version(job.engine.version if job.engine else None)


def _shown_version(job: ServeJob) -> str:
    return str(job.engine.version) if job.engine else "(newest known)"
