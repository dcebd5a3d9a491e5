"""Is it well: what was observed, over time, in; a verdict out.

Pure. `advance` folds one observation into what is remembered, `judge` says what that means. Busy is not hung: a
verdict of hung needs work that waits and a counter that stands still (vLLM answers /health with 200 while its engine
process is frozen, while it drains, and before it ever ran a forward pass).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PHASES = ("planning", "starting", "loading", "probing", "ready", "draining", "failed", "restarting")

# Longer than a watch needs to notice an end and to say what it does about it.
_UNATTENDED_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look. `at` is monotonic. None means: not looked at, or no answer."""

    at: float
    server: tuple[int, int] | None  # pid and start of the server that runs
    healthy: bool | None = None  # /health: 200, another status, no answer
    silent: bool = False  # a connection was taken, and nothing answered
    probe: str | None = None  # "" answered; otherwise the engine's own error text
    load: float | None = None  # requests that the server works on
    iterations: float | None = None  # steps that the engine made
    stage: str | None = None
    stop_asked: bool = False
    retry_pending: bool = False
    failure: tuple[str, str] | None = None  # the sentence and the hint of the last failure
    given_up: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What earlier looks left."""

    server: tuple[int, int] | None = None
    was_healthy: bool = False
    ready_since: float | None = None
    probe_error: str = ""
    load: float = 0.0
    iterations: float | None = None
    moved_at: float = 0.0  # when the counter last moved, or there was nothing to do
    heard_at: float = 0.0  # when the server last answered anything
    gone_since: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the health routes say."""

    phase: str
    ready: bool = False
    live: bool = True
    hung: bool = False
    reason: str = ""
    hint: str = ""


def advance(memory: Memory, seen: Observation) -> Memory:
    """Remember what matters of this look. Another server starts with an empty memory."""
    if seen.server is None:
        return replace(memory, gone_since=memory.gone_since if memory.gone_since is not None else seen.at)
    if memory.server != seen.server:
        memory = Memory(server=seen.server, moved_at=seen.at, heard_at=seen.at)
    memory = replace(memory, gone_since=None)
    if seen.healthy is not None or not seen.silent:
        memory = replace(memory, heard_at=seen.at)
    if seen.healthy:
        memory = replace(memory, was_healthy=True)
    if seen.probe == "" and memory.ready_since is None:
        memory = replace(memory, ready_since=seen.at, probe_error="", moved_at=seen.at)
    elif seen.probe:
        memory = replace(memory, probe_error=seen.probe)
    return _count(memory, seen)


def _count(memory: Memory, seen: Observation) -> Memory:
    if seen.load is None:
        return memory  # nothing is known, so nothing changes: neither a proof of work nor of a halt
    idle_before = memory.load <= 0  # what came since may have come just now
    memory = replace(memory, load=seen.load)
    if seen.load <= 0 or idle_before or seen.iterations != memory.iterations:
        return replace(memory, iterations=seen.iterations, moved_at=seen.at)
    return memory


def judge(memory: Memory, seen: Observation, *, hang_timeout_seconds: float) -> Verdict:
    """What is to be said now."""
    if seen.stop_asked:
        return Verdict(phase="draining", reason="a stop was asked for")
    if seen.given_up or seen.retry_pending or seen.server is None:
        return _without_server(memory, seen)
    if memory.ready_since is None:
        return _while_starting(memory, seen)
    return _while_serving(memory, seen, hang_timeout_seconds)


def _while_serving(memory: Memory, seen: Observation, hang_timeout_seconds: float) -> Verdict:
    stalled = seen.at - memory.moved_at
    if seen.at - memory.heard_at >= hang_timeout_seconds:
        return _hung(f"the server takes connections, and has not answered for {seen.at - memory.heard_at:.0f} s")
    # what a silent server has to do is not known: its last count may be older than its silence
    if memory.load > 0 and stalled >= hang_timeout_seconds and not seen.silent:
        waiting = "1 request waits" if memory.load == 1 else f"{memory.load:g} requests wait"
        return _hung(f"{waiting}, and the engine has not advanced for {stalled:.0f} s")
    if seen.healthy is False:
        return Verdict(phase="failed", reason="the engine process has died", hint="the server ends itself in seconds")
    if seen.healthy is None and not seen.silent:
        return Verdict(phase="failed", reason="the server does not take connections")
    return Verdict(phase="ready", ready=True)


def _hung(reason: str) -> Verdict:
    return Verdict(phase="failed", live=False, hung=True, reason=reason, hint="a restart is the only remedy known")


def _without_server(memory: Memory, seen: Observation) -> Verdict:
    reason, hint = seen.failure or ("", "")
    if seen.given_up:
        return Verdict(phase="failed", reason=reason or "the engine ended", hint=hint)
    if seen.retry_pending:
        return Verdict(phase="restarting", reason=reason, hint=hint)
    unattended = memory.gone_since is not None and seen.at - memory.gone_since > _UNATTENDED_SECONDS
    if unattended:
        return Verdict(phase="failed", live=False, reason=reason or "the engine is not running", hint=hint)
    if memory.server is not None or seen.failure:
        return Verdict(phase="restarting", reason=reason or "the engine has ended", hint=hint)
    return Verdict(phase="starting", reason="the engine is about to start")


def _while_starting(memory: Memory, seen: Observation) -> Verdict:
    if memory.probe_error:
        return Verdict(phase="probing", reason=memory.probe_error, hint="the engine refused a request for one token")
    if memory.was_healthy:
        return Verdict(phase="probing", reason="waiting for the first token; the first request may compile kernels")
    if seen.stage is not None:
        return Verdict(phase="loading", reason=seen.stage)
    return Verdict(phase="starting", reason="the engine's program is being loaded")
