"""The options of `vllm serve`: a job in, every option with its value and who set it out, and the words they become.

Also what an option is called in the installed version. Knows no environment and no device.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aim_engine.backends import vllm_platforms as platforms
from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.base import MOST_WHOLE, Complaint, ServeJob
from aim_engine.backends.vllm_nodes import SPLITS, node_options, of_this_node
from aim_engine.backends.vllm_translation import Translated, translate
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
    "nnodes": "AIM_NODES",
    "node-rank": "AIM_NODE_RANK",
    "master-addr": "AIM_LEADER_ADDRESS",
    "master-port": "AIM_LEADER_PORT",
}
_OUT_OF_HANDS = ("config", "headless")
_GUARD = "aim_engine.runtime.guard.Guard"
# Options that may be given many times with one value each; any other list is one option with many values.
_REPEATED = ("middleware",)


# A recipe may say how the model is split over GPUs and how long its context is; the rest is not its to set.
_RECIPE_MAY = (*SPLITS, "max-model-len")


_WHOLE = f"a whole number from 1 to {MOST_WHOLE}"
_SIZE = re.compile(r"\d{1,12}(\.\d{1,12})?[kKmMgGtT]?", re.ASCII)  # vllm/engine/arg_utils.py, human_readable_int


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WHOLE


def _is_size(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, str) and bool(_SIZE.fullmatch(value)))


_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")  # ModelDType, vllm/config/model.py

# Options whose values the plan reckons with: what each may be, and how to say so.
_LEGAL: dict[str, tuple[Callable[[Any], bool], str]] = {
    "gpu-memory-utilization": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "max-model-len": (lambda v: _is_whole(v) or v in (-1, "auto"), "a whole number of tokens, or auto"),
    "max-num-batched-tokens": (_is_whole, _WHOLE),
    "max-num-seqs": (_is_whole, _WHOLE),
    "block-size": (_is_whole, _WHOLE),
    "num-gpu-blocks-override": (_is_whole, _WHOLE),
    "kv-cache-memory-bytes": (_is_size, "a whole number of bytes, or one with k, m, g or t"),
    "cpu-offload-gb": (lambda v: _is_number(v) and 0 <= v <= MOST_WHOLE, "a number of GiB, 0 or more"),
    "enforce-eager": (lambda v: v is None or isinstance(v, bool), "true or false"),
    "dtype": (lambda v: v in _DTYPES, f"one of {', '.join(_DTYPES)} (fp8 is a quantization)"),
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
        elif option in _OUT_OF_HANDS:
            sentence = "is not for a recipe to set: it would take the server out of AIM Engine's hands"
            yield Complaint(key=f"args.{option}", kind="option", sentence=sentence)
        elif option.startswith("no-"):
            yield Complaint(
                key=f"args.{option}", kind="option", sentence=f"is written as {option.removeprefix('no-')}: false"
            )
        elif not versions.was_ever_option(option):
            near = next(iter(difflib.get_close_matches(option, versions.option_names(None), n=1)), "")
            hint = f"; did you mean {near}?" if near else ""
            yield Complaint(key=f"args.{option}", kind="option", replacement=near,
                            sentence=f"is an option of no known version of vLLM{hint}")  # fmt: skip


def recipe_words(job: ServeJob, notes: list[str], warnings: list[str]) -> Translated:
    """The recipe's options and variables in the installed version's words; what was changed is told.

    Raises:
        EngineRefusedError: that version has nothing of an option, and the recipe does not say that it may be left out.
    """
    args, shown, who = dict(job.args), f"vLLM {_shown_version(job)}", f"recipe {job.recipe_id}"
    for option in [one for one in args if one in _OWNED and one not in _RECIPE_MAY]:
        del args[option]
        notes.append(f"{option} of {who} is left out: {_OWNED[option]} sets it")
    done = translate(args, job.env, job.optional, version_of(job))
    if done.absent:
        first = done.absent[0]
        details = [f"{change.key}: {change.sentence}" for change in done.absent] if len(done.absent) > 1 else []
        raise EngineRefusedError(f"{who}: {shown} has no option {_name(first.key)}", hint=first.sentence,
                                 details=tuple(details))  # fmt: skip
    notes += [f"{_name(change.key)} {change.sentence} in {shown}" for change in done.renamed]
    notes += [f"{_name(change.key)} {change.sentence} in {shown} and is left out; nothing is lost"
              for change in done.harmless]  # fmt: skip
    warnings += [f"{_name(change.key)} of {who} {change.sentence} in {shown} and is left out: the recipe says it may be"
                 for change in done.dropped]  # fmt: skip
    warnings += [f"{_name(change.key)} of {who} is no variable of {shown} and does nothing there"
                 + (f" ({change.sentence})" if change.sentence else "") for change in done.idle]  # fmt: skip
    return done


def _name(key: str) -> str:
    return key.partition(".")[2]


def serve_options(job: ServeJob, words: Translated, notes: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every option with who set it, weakest first: recipe, the user's AIM_ENGINE_ARGS, then what AIM Engine owns."""
    user = dashed(job.overrides)
    for option, setting in _OWNED.items():
        # over several nodes a user may say how the model is split, and the plan was made with that
        if option in user and not (job.group.count > 1 and option in SPLITS):
            raise InputError(f"{_giver(job, option)}: {option} is set by {setting}", hint=f"use {setting} instead")
    for option in user:
        if option in _OUT_OF_HANDS:
            raise InputError(
                f"{_giver(job, option)}: {option} would take the server out of our hands", hint="leave it out"
            )
    for option, sentence in _wrong_values(user):
        raise InputError(f"{_giver(job, option)}: {option} {sentence}", hint="correct the value, or leave it out")
    for option, sentence in _wrong_values(job.args):
        raise CatalogError(f"recipe {job.recipe_id}: args.{option} {sentence}", hint="mend the recipe")
    options: dict[str, Any] = {}
    origins: dict[str, str] = {}
    layers = ((f"recipe {job.recipe_id}", words.options),
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
            origins[f"--{option}"] = origin_of(f"args.{option}", giver, words) if origin != _USERS else giver
    _check_batch(options, origins)
    return options, origins


def _check_batch(options: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """A step holds a token of each request at least (vllm/config/scheduler.py)."""
    tokens, requests = options.get("max-num-batched-tokens"), options.get("max-num-seqs")
    if tokens is None or requests is None or tokens >= requests:
        return
    who = origins["--max-num-batched-tokens"], origins["--max-num-seqs"]
    message = f"max-num-batched-tokens {tokens} ({who[0]}) is less than max-num-seqs {requests} ({who[1]})"
    if all(one.startswith("recipe ") for one in who):
        raise CatalogError(message, hint="mend the recipe")
    raise InputError(message, hint=f"give a max-num-seqs of at most {tokens} too, or more tokens")


def unreckoned(job: ServeJob) -> Iterator[str]:
    """A warning for what a user sets that changes an engine's memory in a way no plan reckons with."""
    user = dashed(job.overrides)
    for option in [one for one in user if one in _UNRECKONED or (one, user[one]) in _WIDE]:
        yield (f"{_giver(job, option)}: {option} changes what the engine needs or has, and the memory of this plan is "
               "reckoned without it: the engine may refuse what fits here")  # fmt: skip


_UNRECKONED = frozenset({
    "kv-cache-memory-bytes", "num-gpu-blocks-override", "hf-overrides", "speculative-config", "cpu-offload-gb",
    "quantization", "enable-lora", "decode-context-parallel-size", "prefill-context-parallel-size",
})  # fmt: skip
_WIDE = (("dtype", "float32"), ("dtype", "float"))


def origin_of(key: str, giver: str, words: Translated) -> str:
    """Who set a key, and what they call it where the installed version calls it otherwise."""
    written = words.came_from.get(key)
    return f"{giver}, as {_name(written)}" if written and giver.startswith("recipe ") else giver


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
        **node_options(job),
    }
    known = {name: value for name, value in wanted.items() if value is not None and versions.has_option(name, version)}
    return of_this_node(job, known)


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


def _checked_user_options(job: ServeJob, user: dict[str, Any]) -> dict[str, Any]:
    version = version_of(job)
    for option in user:
        if not versions.has_option(option, version):
            near = difflib.get_close_matches(option, versions.option_names(version), n=1)
            variable = versions.variable_of(option, version)
            advice = versions.advice(option) or (f"set the variable {variable}" if variable else "")
            advice = advice or (f"did you mean {near[0]}?" if near else "see: vllm serve --help=all")
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


def version_of(job: ServeJob) -> versions.Version | None:
    return versions.parse_version(job.engine.version if job.engine else None)


def _shown_version(job: ServeJob) -> str:
    return str(job.engine.version) if job.engine else "(newest known)"


def dashed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {option.replace("_", "-"): value for option, value in options.items()}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
