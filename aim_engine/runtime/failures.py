"""Why an engine ended: its last lines and its exit status in, a class of failure with a sentence and a remedy out.

Pure. The signatures are data; each names where its text comes from. What to do about a failure is decided elsewhere.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.errors import (
    AimError,
    CacheError,
    DoesNotFitError,
    EngineCrashedError,
    EngineRefusedError,
    HubUnreachableError,
    InputError,
    ModelAccessError,
)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What happened. `error` carries the class, its code, the sentence and the remedy; `cause` is the exception the
    engine named, or "".
    """

    error: AimError
    lines: tuple[str, ...] = ()
    cause: str = ""

    @property
    def permanent(self) -> bool:
        """Another attempt with the same settings would end the same way."""
        return not self.error.retryable


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A text that tells a failure. Groups of `pattern` may be used in `sentence` and `hint` as {name}."""

    pattern: str
    error: type[AimError]
    sentence: str
    hint: str
    source: str


# The first that matches wins: the specific before the general, the cause before its consequence.
SIGNATURES: tuple[Signature, ...] = (
    Signature(
        pattern=r"aim serve: (?:error: )?cannot start the engine: (?P<what>.+)",
        error=EngineRefusedError,
        sentence="the engine cannot be started: {what}",
        hint="the engine's program is not installed where the plan expects it",
        source="aim_engine/runtime/serve.py",
    ),
    Signature(
        pattern=r"the estimated maximum model length is (?P<tokens>\d+)",
        error=DoesNotFitError,
        sentence="the context length does not fit in memory; at most {tokens} tokens do",
        hint="set AIM_MAX_MODEL_LEN={tokens} or less, or use more GPUs (AIM_GPU_COUNT)",
        source="vllm/v1/core/kv_cache_utils.py",
    ),
    Signature(
        pattern=r"To serve at least one request with the model's max seq len|No available memory for the cache blocks",
        error=DoesNotFitError,
        sentence="the weights leave no memory for the KV cache",
        hint="use more GPUs (AIM_GPU_COUNT), a lower precision (AIM_PRECISION) or a shorter AIM_MAX_MODEL_LEN",
        source="vllm/v1/core/kv_cache_utils.py",
    ),
    Signature(
        pattern=r"(?P<what>(?:Free|Available) memory on (?:device|node)[^\n]*?is less than desired (?:GPU|CPU) memory"
        r" utilization)",
        error=DoesNotFitError,
        sentence="other programs hold the memory that was planned for: {what}",
        hint="end them, or lower the share: AIM_ENGINE_ARGS='{{\"gpu-memory-utilization\": 0.8}}'",
        source="vllm/v1/worker/utils.py, vllm/v1/worker/cpu_worker.py",
    ),
    Signature(
        pattern=r"allocation is less than requested memory for kv",
        error=DoesNotFitError,
        sentence="the KV cache that was asked for is larger than the free memory",
        hint="ask for a smaller KV cache, or a shorter AIM_MAX_MODEL_LEN",
        source="vllm/v1/worker/cpu_worker.py",
    ),
    Signature(
        pattern=r"(?:HIP|CUDA) out of memory|torch\.OutOfMemoryError|hipErrorOutOfMemory|CUDA error: out of memory",
        error=DoesNotFitError,
        sentence="the GPU ran out of memory",
        hint="use a shorter AIM_MAX_MODEL_LEN, more GPUs (AIM_GPU_COUNT) or a lower precision (AIM_PRECISION)",
        source="c10/hip/HIPCachingAllocator.cpp, c10/cuda/CUDACachingAllocator.cpp",
    ),
    Signature(
        pattern=r"No space left on device|Disk quota exceeded",
        error=CacheError,
        sentence="the disk is full",
        hint="free some space, or set AIM_CACHE_DIR to a larger volume",
        source="errno(3): ENOSPC, EDQUOT",
    ),
    Signature(
        pattern=r"Address already in use",
        error=InputError,
        sentence="the port was taken while the engine started",
        hint="stop that program, or choose another AIM_PORT",
        source="errno(3): EADDRINUSE",
    ),
    Signature(
        pattern=r"GatedRepoError|Access to model \S+ is restricted|401 Client Error|403 Client Error",
        error=ModelAccessError,
        sentence="the hub does not give access to the model",
        hint="accept the model's licence on its page, and set HF_TOKEN",
        source="huggingface_hub/errors.py",
    ),
    Signature(
        pattern=r"RepositoryNotFoundError|RevisionNotFoundError|HFValidationError|Repo id must be in the form",
        error=ModelAccessError,
        sentence="there is no such model: neither a folder here, nor a repository on the hub",
        hint="check the name or the path",
        source="huggingface_hub/errors.py, huggingface_hub/utils/_validators.py",
    ),
    Signature(
        pattern=r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to 'https://huggingface\.co'"
        r"|outgoing traffic has been disabled",
        error=ModelAccessError,
        sentence="the model is not in the cache, and the hub was not to be asked or did not answer",
        hint="download it to AIM_CACHE_DIR first, or unset AIM_OFFLINE",
        source="huggingface_hub/errors.py, transformers/utils/hub.py",
    ),
    Signature(
        pattern=r"NameResolutionError|Temporary failure in name resolution|50[234] Server Error"
        r"|Max retries exceeded with url: \S*huggingface",
        error=HubUnreachableError,
        sentence="the hub did not answer",
        hint="check the network, or download the model first and set AIM_OFFLINE=1",
        source="urllib3/exceptions.py, requests",
    ),
    Signature(
        pattern=r"Error while deserializing header|SafetensorError|does not appear to have a file named config\.json"
        r"|Cannot find any model weights|Couldn't instantiate the backend tokenizer",
        error=ModelAccessError,
        sentence="the model's files are damaged or incomplete",
        hint="delete the model's folder in AIM_CACHE_DIR and start again",
        source="safetensors, transformers/utils/hub.py, vllm/model_executor/model_loader/default_loader.py",
    ),
    Signature(
        pattern=r"(?P<what>There is no module or parameter named [^\n]{1,120}|The size of tensor a [^\n]{1,120}"
        r"|Following weights were not initialized[^\n]{0,120})",
        error=ModelAccessError,
        sentence="the checkpoint's tensors are not those of its architecture: {what}",
        hint="the model's files belong to different models or versions; download it again",
        source="vllm/model_executor/models/utils.py, vllm/model_executor/model_loader/default_loader.py",
    ),
    Signature(
        pattern=r"model type `?(?P<what>[\w-]+)`? but Transformers does not recognize this architecture",
        error=EngineRefusedError,
        sentence="this engine does not know models of type {what}",
        hint="check model_type in the model's config.json; a newer model needs a newer engine image",
        source="transformers/models/auto/configuration_auto.py",
    ),
    Signature(
        pattern=r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len"
        r"(?: \(\w+=(?P<derived>\d+))?",
        error=EngineRefusedError,
        sentence="the model was not made for a context of {asked} tokens",
        hint="set AIM_MAX_MODEL_LEN to {derived} or less",
        source="vllm/config/model.py",
    ),
    Signature(
        pattern=r"Model architectures \[(?P<what>[^\]]*)\] (?:are not supported|failed to be inspected)"
        r"|Model architecture (?P<old>\S+) is not supported in-tree",
        error=EngineRefusedError,
        sentence="this engine cannot serve the architecture {what}{old}",
        hint="use a newer engine image, or another model",
        source="vllm/model_executor/models/registry.py",
    ),
    Signature(
        pattern=r"invalid tool call parser: (?P<what>\S+)|(?P<old>invalid reasoning parser: \S+)"
        r"|(?:Reasoning|Tool) parser '(?P<other>[^']*)' not found",
        error=EngineRefusedError,
        sentence="the engine has no parser named {what}{old}{other}",
        hint="the engine's log lists the legal names; correct AIM_ENGINE_ARGS or the recipe",
        source="vllm/entrypoints/launchers/launcher.py, vllm/reasoning/abs_reasoning_parsers.py,"
        " vllm/tool_parsers/abstract_tool_parser.py",
    ),
    Signature(
        pattern=r"(?P<what>[Hh]ead[_ ](?:size|dim(?:ension)?)\b[^\n]{0,60}not supported"
        r"|[Uu]nsupported (?:head[_ ](?:size|dim)|\w+ attention configuration)[^\n]{0,60})",
        error=EngineRefusedError,
        sentence="the attention kernel does not support this model: {what}",
        hint="use another attention backend or another model",
        source="vllm/v1/attention/backends, csrc/cpu",
    ),
    Signature(
        pattern=r"vllm(?: serve)?: error: (?P<what>.+)|api_server\.py: error: (?P<old>.+)|\berror: (?P<other>"
        r"(?:unrecognized arguments|argument |ambiguous option).+)",
        error=EngineRefusedError,
        sentence="the engine does not understand its arguments: {what}{old}{other}",
        hint="correct AIM_ENGINE_ARGS or the recipe",
        source="argparse, vllm/utils/argparse_utils.py",
    ),
    Signature(
        pattern=r"validation errors? for \w*(?:Config|Args)[^\n]*"
        r"(?:\n[^\n]*){0,4}?\n[^\n]*?(?:Value error|Assertion failed), (?P<what>[^\n\[]{1,300})",
        error=EngineRefusedError,
        sentence="the engine refused its configuration: {what}",
        hint="correct the model, AIM_ENGINE_ARGS or the recipe",
        source="pydantic, vllm/config",
    ),
    Signature(
        pattern=r"validation errors? for \w*(?:Config|Args)",
        error=EngineRefusedError,
        sentence="the engine refused its configuration",
        hint="correct AIM_ENGINE_ARGS or the recipe; the engine's log says which value",
        source="pydantic, vllm/config",
    ),
    Signature(
        pattern=r"[Ff]ailed to infer device type",
        error=EngineRefusedError,
        sentence="the engine found no device it can run on",
        hint="pass the GPUs to the container: --device /dev/kfd --device /dev/dri",
        source="vllm/config/device.py",
    ),
)

USAGE_STATUS = 2  # argparse


def classify(lines: Sequence[str], *, status: int, how: str = "", was_ready: bool = False) -> Failure:
    """Name the failure of an engine that nobody asked to end.

    `status` is its exit status, -1 after a signal, which `how` then names. Texts of a start say nothing about an
    engine that was ready, except that it ran out of memory.
    """
    text = "\n".join(_plain(line) for line in lines)
    tail = _telling_lines(lines)
    for signature in SIGNATURES:
        if was_ready and signature.error is not DoesNotFitError:
            continue
        if found := _last_match(signature.pattern, text):
            return Failure(error=_make(signature, found, was_ready, tail), lines=tail)
    if status == USAGE_STATUS and not was_ready:
        error: AimError = EngineRefusedError(
            "the engine does not understand its arguments", hint="correct AIM_ENGINE_ARGS or the recipe", details=tail
        )
        return Failure(error=error, lines=tail)
    ended = how or (_signal_name(status) if status < 0 else f"with exit status {status}")
    when = "while it served" if was_ready else "while it started"
    cause = "" if how or status < 0 else _cause(tail)
    hint = "the engine's log above says more" if tail else "the engine said nothing before it ended"
    sentence = f"the engine ended {when}, {ended}{': ' if cause else ''}{cause}"
    return Failure(error=EngineCrashedError(sentence, hint=hint, details=tail), lines=tail, cause=cause)


def _make(signature: Signature, found: re.Match[str], was_ready: bool, tail: tuple[str, ...]) -> AimError:
    groups = {name: (value or "").strip() for name, value in found.groupdict().items()}
    # once it fitted, so the next attempt may go well
    kind = EngineCrashedError if was_ready else signature.error
    return kind(signature.sentence.format(**groups), hint=signature.hint.format(**groups), details=tail)


def _last_match(pattern: str, text: str) -> re.Match[str] | None:
    found = None
    for found in re.finditer(pattern, text):  # noqa: B007 - the last one is wanted
        pass
    return found


def _signal_name(status: int) -> str:
    try:
        return f"killed by {signal.Signals(-status).name}" if status < -1 else "killed by a signal"
    except ValueError:
        return f"killed by signal {-status}"


# `(EngineCore pid=9) ERROR 11-21 17:43:00 [core.py:1] text`, and colours
_PREFIX = re.compile(r"\x1b\[[0-9;]*m|^(?:\([^)]*\) ?)+")
_TELLING = re.compile(r"(?:Error|Exception|Killed|Fault|fault|signal|abort)\b|\berror: |^aim serve: ")
_MOST_LINES = 8


def _plain(line: str) -> str:
    return _PREFIX.sub("", line).strip()


_EXCEPTION = re.compile(r"(?:[\w.]+\.)?\w*(?:Error|Exception): .+")
# What vLLM says of every failed start; the cause stands above it (vllm/v1/engine/utils.py).
_NO_CAUSE = "Engine core initialization failed"


def _cause(tail: Sequence[str]) -> str:
    """The last exception that says something."""
    found = [match[0] for line in tail if (match := _EXCEPTION.search(line)) and _NO_CAUSE not in line]
    return found[-1][:300] if found else ""


def _telling_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines that name an error, or the last few when none does."""
    plain = [text for text in map(_plain, lines) if text and not text.startswith(("INFO", "WARNING", "DEBUG"))]
    telling = list(dict.fromkeys(text for text in plain if _TELLING.search(text)))
    return tuple(text[:400] for text in (telling or plain)[-_MOST_LINES:])
