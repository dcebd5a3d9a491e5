"""Why an engine ended: its last lines and its exit status in, a class of failure with a sentence and a remedy out.

Pure. What is looked for is in `signatures`. What to do about a failure is decided elsewhere.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from aim_engine.errors import (
    AimError,
    EngineCrashedError,
    EngineHungError,
    EngineRefusedError,
    EngineStartTimeoutError,
)
from aim_engine.runtime.signature import Signature
from aim_engine.runtime.signatures import SIGNATURES

CRASH = "crash"  # nobody knows why
HOST_MEMORY = "host memory"
_ENDED_BY_US = {EngineStartTimeoutError: "slow start", EngineHungError: "hung"}


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What happened. `error` carries the class, its code, the sentence and the remedy; `cause` is the exception the
    engine named, or ""; `kind` names what failed, as the signatures and the ladder do.
    """

    error: AimError
    lines: tuple[str, ...] = ()
    cause: str = ""
    kind: str = CRASH

    @property
    def permanent(self) -> bool:
        """Another attempt with the same settings would end the same way."""
        return not self.error.retryable


def ended_by_us(reason: AimError) -> Failure:
    """The failure of an engine that was ended because it came too late, or hung."""
    kind = next((kind for error, kind in _ENDED_BY_US.items() if isinstance(reason, error)), CRASH)
    return Failure(error=reason, kind=kind)


USAGE_STATUS = 2  # argparse


def classify(
    lines: Sequence[str],
    *,
    status: int,
    how: str = "",
    was_ready: bool = False,
    out_of_memory: str = "",
    model: str = "",
) -> Failure:
    """Name the failure of an engine that nobody asked to end.

    `status` is its exit status, -1 after a signal, which `how` then names. Texts of a start say nothing about an
    engine that was ready, except that it ran out of memory. `out_of_memory` says why the kernel killed a process
    meanwhile, if it did; `model` is a hub id or the path of a folder.
    """
    text = "\n".join(_plain(line) for line in lines)
    tail = _telling_lines(lines)
    for signature in SIGNATURES:
        if not (signature.serving if was_ready else signature.starting):
            continue
        if found := _last_match(signature.pattern, text):
            return Failure(error=_make(signature, found, was_ready, tail, model), lines=tail, kind=signature.kind)
    if status == USAGE_STATUS and not was_ready:
        error: AimError = EngineRefusedError(
            "the engine does not understand its arguments", hint="correct AIM_ENGINE_ARGS or the recipe", details=tail
        )
        return Failure(error=error, lines=tail, kind="option")
    if out_of_memory:
        return _killed_for_memory(out_of_memory, tail, itself=bool(how) or status < 0, was_ready=was_ready)
    ended = how or (_signal_name(status) if status < 0 else f"with exit status {status}")
    when = _when(was_ready)
    cause = "" if how or status < 0 else _cause(tail)
    hint = "the engine's log says more" if tail else _SILENT
    sentence = f"the engine ended {when}, {ended}{': ' if cause else ''}{cause}"
    return Failure(error=EngineCrashedError(sentence, hint=hint, details=tail), lines=tail, cause=cause)


_SILENT = "start it again; the engine said nothing before it ended, dmesg may: who killed it, and for want of what"


def _when(was_ready: bool) -> str:
    return "while it served" if was_ready else "while it started"


def _killed_for_memory(reason: str, tail: tuple[str, ...], *, itself: bool, was_ready: bool) -> Failure:
    """The kernel killed the server, or a process without which it ends itself."""
    who = "" if itself else "a process of it "
    error = EngineCrashedError(
        f"the engine ended {_when(was_ready)}, {who}killed by the kernel: {reason}",
        hint="give the container more memory (docker run --memory, resources.limits.memory), leave other programs "
        "less, or serve a smaller model",
        details=tail,
    )
    return Failure(error=error, lines=tail, kind=HOST_MEMORY)


def _make(signature: Signature, found: re.Match[str], was_ready: bool, tail: tuple[str, ...], model: str) -> AimError:
    groups = {name: (value or "").strip() for name, value in found.groupdict().items()}
    groups["mend_files"] = _mend_files(model)
    # once it fitted, so the next attempt may go well
    kind = EngineCrashedError if was_ready else signature.error
    return kind(signature.sentence.format(**groups), hint=signature.hint.format(**groups), details=tail)


def _mend_files(model: str) -> str:
    """What to do about a model's damaged files: nothing is to be deleted that is not ours."""
    if model.startswith("/"):
        return f"put whole files into {model}: it is a folder of yours, not a download"
    if "/" in model:
        return f"delete models--{model.replace('/', '--')} in the hub folder of AIM_CACHE_DIR and start again"
    return "delete the model's folder in AIM_CACHE_DIR and start again"


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
# What vLLM says of every failed start and of every dead engine; the cause stands above it (vllm/v1/engine/utils.py,
# vllm/v1/engine/exceptions.py).
_NO_CAUSE = ("Engine core initialization failed", "EngineCore encountered an issue")


def _cause(tail: Sequence[str]) -> str:
    """The last exception that says something."""
    telling = [line for line in tail if not any(text in line for text in _NO_CAUSE)]
    found = [match[0] for line in telling if (match := _EXCEPTION.search(line))]
    return found[-1][:300] if found else ""


def _telling_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """The lines that name an error, or the last few when none does."""
    plain = [text for text in map(_plain, lines) if text and not text.startswith(("INFO", "WARNING", "DEBUG"))]
    telling = list(dict.fromkeys(text for text in plain if _TELLING.search(text)))
    return tuple(text[:400] for text in (telling or plain)[-_MOST_LINES:])
