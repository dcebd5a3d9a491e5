"""Why a container has ended: its exit code and the last lines it wrote in, an error of the right class out.

The last line on stderr of a run of ours is JSON that says it; where there is none, Docker's own words and the exit
code must do.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.asking import cleaned
from aim_engine.deploy.docker import guarded
from aim_engine.deploy.endpoints import Endpoint, printable
from aim_engine.errors import AimError, DockerError, EndpointError, EngineCrashedError, error_classes

if TYPE_CHECKING:
    from docker import DockerClient

_LAST_LINES = 40  # of which the last is the JSON, unless something was written after it
_SHOWN_LINES = 8
_CLASSES: Mapping[int, type[AimError]] = {cls.code: cls for cls in error_classes()}
# What the shell and Docker mean by these (docs.docker.com, docker run, exit status).
_NOT_STARTED = {125: "Docker could not start it", 126: "its command cannot be run", 127: "its command is not there"}
_ASKED_FOR = (0, 130, 143)  # drained, or cut short by a signal
KILLED = 137
_DRAINS = "requests in flight may finish"  # the beginning of a stop, in the container's log: runtime.ending


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a container ended. `error` is None where it was asked to and did; `words` are its own last ones."""

    exit_code: int | None
    sentence: str
    error: AimError | None = None
    words: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "exit_code": self.exit_code,
            "sentence": self.sentence,
            "last_words": dict(self.words) or None,
            "error": self.error.as_json() if self.error else None,
            "last_lines": list(self.lines),
        }


def ending_of(client: DockerClient, endpoint: Endpoint) -> Ending:
    """How it ended, by its last words, else by what Docker says."""
    lines = last_lines(client, endpoint)
    words = last_words(lines)
    error = _error(endpoint, words, lines)
    if error is not None:
        return Ending(exit_code=endpoint.exit_code, sentence=error.message, error=error, words=words, lines=lines)
    sentence = str(words.get("message") or "") or _exit_in_words(endpoint)
    return Ending(exit_code=endpoint.exit_code, sentence=sentence, words=words, lines=lines)


def last_lines(client: DockerClient, endpoint: Endpoint) -> tuple[str, ...]:
    """The last lines on its stderr, where this container's log can be read at all."""
    try:
        with guarded("read the container's log"):
            text = client.api.logs(endpoint.container_id, stdout=False, stderr=True, tail=_LAST_LINES)
    except DockerError:
        return ()
    found = text.decode("utf-8", "replace").splitlines() if isinstance(text, bytes) else []
    return tuple(line for line in found if line.strip())


def last_words(lines: tuple[str, ...]) -> dict[str, Any]:
    """The last line that is `{class, code, message, ...}`; nothing where none is."""
    for line in reversed(lines):
        try:
            value = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("code"), int) and isinstance(value.get("message"), str):
            words: dict[str, Any] = cleaned(value)
            return words
    return {}


def _error(endpoint: Endpoint, words: Mapping[str, Any], lines: tuple[str, ...]) -> AimError | None:
    # the words may be of an earlier run of the same container
    if words and words.get("code") == endpoint.exit_code:
        return error_from_words(words)
    if endpoint.exit_code in _ASKED_FOR and not endpoint.out_of_memory and not endpoint.state_error:
        return None
    shown = tuple(printable(line) for line in lines[-_SHOWN_LINES:])
    sentence = f"the container has ended: {_exit_in_words(endpoint)}"
    if endpoint.exit_code in _NOT_STARTED or endpoint.state_error:
        return DockerError(sentence, hint=f"docker inspect {endpoint.name} says more", details=shown)
    if endpoint.out_of_memory:
        return EngineCrashedError(sentence, hint="give it more with --memory, or a shorter context", details=shown)
    if endpoint.exit_code == KILLED and any(_DRAINS in line for line in shown):
        return EngineCrashedError(
            f"the container was killed while requests in flight still ran: {_exit_in_words(endpoint)}",
            hint="docker stop waits for ten seconds unless it is told to wait longer: docker stop -t 75 "
            f"{endpoint.name}, or docker run --stop-timeout 75; aim-engine stop waits by itself",
            details=shown,
        )
    kind = _CLASSES.get(endpoint.exit_code or 0, EngineCrashedError)
    return kind(sentence, hint=f"aim-engine logs {endpoint.name} shows what led to it", details=shown)


def error_from_words(words: Mapping[str, Any]) -> AimError | None:
    """The error that `AimError.as_json` was made from, or None where the code is not a failure's."""
    kind = _CLASSES.get(words.get("code", 0))
    details = words.get("details")
    texts = tuple(str(one) for one in details) if isinstance(details, list) else ()
    message, hint = str(words.get("message", "")), str(words.get("hint") or "")
    return kind(message, hint=hint, details=texts) if kind else None


def removed(endpoint: Endpoint) -> EndpointError:
    return EndpointError(
        f"{endpoint.name} is gone: somebody removed the container", hint="aim-engine launch starts it anew"
    )


def _exit_in_words(endpoint: Endpoint) -> str:
    """`exit code 137 (SIGKILL; out of memory)`."""
    code = endpoint.exit_code
    notes = []
    if code is not None and 128 < code < 128 + signal.NSIG:
        notes.append(_signal_name(code - 128))
    if code in _NOT_STARTED:
        notes.append(_NOT_STARTED[code])
    if endpoint.out_of_memory:
        notes.append("it took more memory than its limit")
    if endpoint.state_error:
        notes.append(endpoint.state_error)
    return f"exit code {code if code is not None else 'unknown'}" + (f" ({'; '.join(notes)})" if notes else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
