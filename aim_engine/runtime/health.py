"""Is it well: what was observed, over time, in; a verdict out.

Pure. `advance` folds one observation into what is remembered, `judge` says what that means; who is to be asked for a
token to find out is in `canary_times`. (vLLM answers /health with 200 while its engine process is frozen,
while it drains, and before it ever ran a forward pass.)

Busy is not hung. Hung means that there is work (requests that the server has open, or that the engine has in its
queue) and that for the time limit

- no counter of the engine has moved: not the steps that gave tokens, nor the share of the KV cache. The latter tells a
  long prefill in several steps, which vLLM 0.32 counts nowhere else: `iteration_tokens_total` moves only with a step
  that has output (vllm/v1/engine/async_llm.py), the cache's share is sent after every step (scheduler.make_stats);
- and nothing was computed that can be seen from outside. Where the host itself is the accelerator that is the CPU time
  of the engine's processes, and it tells one long step from a halt. Beside a GPU CPU time says nothing, a kernel that
  hangs is waited for by spinning; there only compilers count (AITER's and Triton's first use of a kernel), see
  `cpu_time`. A process that is stopped (SIGSTOP, a debugger) computes nothing, whatever its siblings spin. Computing
  without any counter is believed for `_COMPUTING_TIMES` of the limit: an endless loop computes too.

Where a server has several copies of a model, each is looked at by itself too: see `copies`. So is each of its front
ends, by the beat of its event loop (`front_end`). What a front end computes counts as long as the engine has got
nothing of it: it makes tokens of a long text.

Work that the server has open and the engine does not know of is either a client that does not read its answer, or an
engine that does not take anything in: the canary tells. It is not sent while the two agree that there is work, nor
while a stop is asked for; what answers it with an error (a full queue, say) has not failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aim_engine.runtime.canary_times import canary_seconds
from aim_engine.runtime.copies import Copy, Watched, excused, owing, settled, stillest, watch_copies

PHASES = ("planning", "starting", "loading", "probing", "ready", "draining", "failed", "restarting")

# Longer than a watch needs to notice an end and to say what it does about it.
_UNATTENDED_SECONDS = 15.0
# Of one core: threads that only wait (ZeroMQ's, a monitor's) take a few percent; a busy machine leaves this much.
_COMPUTING_SHARE = 0.1
# Of one core: a front end that makes tokens of a long text takes one whole, one that only answers much less.
_SERVING_SHARE = 0.5
_COMPUTING_TIMES = 5.0
_MOST_CANARY_FAILURES = 2


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One look. `at` is monotonic. None means: not looked at, or no answer."""

    at: float
    server: tuple[int, int] | None  # pid and start of the server that runs
    healthy: bool | None = None  # /health: 200, another status, no answer
    silent: bool = False  # a connection was taken, and nothing answered
    probe: str | None = None  # "" answered; otherwise the engine's own error text
    probe_hint: str = ""  # what to do about that
    load: float | None = None  # requests that the server has open, the canary not counted
    queue: float | None = None  # requests that the engine runs or lets wait
    waiting: float | None = None  # those of them that wait
    iterations: float | None = None  # steps that the engine made
    marks: tuple[float, ...] = ()  # whatever else of its counters moves as it works
    copies: Mapping[str, Copy] = field(default_factory=dict)  # where it has several: what each of them counts
    worked_seconds: float | None = None  # CPU time that counts as its work, as far as there is work
    served_seconds: float | None = None  # and that of the server itself, which makes tokens of texts
    beats: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # by front ends' pids: what goes on changing
    asleep: bool = False  # it was told to sleep (vLLM's sleep mode)
    canary: str | None = None  # one that ended since the last look: "answered", "refused", "silent"
    canary_since: float | None = None  # one that is waited for
    canary_copy: str = ""  # the copy that either of them was for; "" where the server chose
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
    probe_hint: str = ""
    load: float = 0.0
    queue: float = 0.0
    waiting_since: float | None = None  # that any wait, without a moment in which none did
    iterations: float | None = None
    marks: tuple[float, ...] = ()
    copies: Mapping[str, Watched] = field(default_factory=dict)
    moved_at: float = 0.0  # when a counter last moved, or there was nothing to do
    advanced_at: float = 0.0  # when a counter last moved
    idle_since: float | None = None
    worked_seconds: float | None = None
    served_seconds: float | None = None
    worked_from: float = 0.0  # when they were read
    computed_at: float | None = None  # when it was last seen to compute
    heard_at: float = 0.0  # when the server last answered anything
    unwell: bool = False  # what it then said of itself
    beats: Mapping[int, tuple[tuple[int, int], float]] = field(default_factory=dict)  # the last, and since when
    gone_since: float | None = None
    canary_from: float | None = None  # when the one that is waited for was sent
    canary_at: float = 0.0  # when one last ended
    canary_failures: int = 0  # in a row
    hung: str = ""  # why it counts as hung

    @property
    def work(self) -> float:
        return max(self.load, self.queue)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the health routes say."""

    phase: str
    ready: bool = False
    live: bool = True
    hung: bool = False
    lost: bool = False  # a node of the group, and with it the rest
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
    if seen.healthy is not None:
        memory = replace(memory, was_healthy=memory.was_healthy or seen.healthy, unwell=not seen.healthy)
    memory = replace(memory, beats=_since(memory.beats, seen.beats, seen.at))
    if seen.probe == "" and memory.ready_since is None:
        memory = replace(memory, ready_since=seen.at, probe_error="", moved_at=seen.at)
    elif seen.probe:
        memory = replace(memory, probe_error=seen.probe, probe_hint=seen.probe_hint)
    memory = _heed_canary(_count(memory, seen), seen)
    return replace(memory, copies=excused(memory.copies)) if seen.silent or seen.asleep else memory


def heed(memory: Memory, verdict: Verdict) -> Memory:
    """A server that hung is to be ended; what still moves as its processes end makes it no better."""
    return replace(memory, hung=verdict.reason) if verdict.hung else memory


def _count(memory: Memory, seen: Observation) -> Memory:
    if seen.load is None:
        return memory  # nothing is known, so nothing changes: neither a proof of work nor of a halt
    idle_before = memory.work <= 0  # what came since may have come just now
    moved = (seen.iterations, seen.marks) != (memory.iterations, memory.marks)
    memory = _count_computing(memory, seen)
    waits = bool(seen.waiting)
    memory = replace(
        memory,
        load=seen.load,
        queue=seen.queue or 0.0,
        iterations=seen.iterations,
        marks=seen.marks,
        copies=watch_copies(memory.copies, seen.copies, seen.at),
        advanced_at=seen.at if moved else memory.advanced_at,
        canary_failures=0 if moved else memory.canary_failures,
        waiting_since=(memory.waiting_since if memory.waiting_since is not None else seen.at) if waits else None,
    )
    idle = memory.work <= 0
    if moved or not idle:
        memory = replace(memory, idle_since=seen.at if idle else None)
    elif memory.idle_since is None:
        memory = replace(memory, idle_since=seen.at)
    return replace(memory, moved_at=seen.at) if idle or idle_before or moved else memory


def _count_computing(memory: Memory, seen: Observation) -> Memory:
    """The first figure after a while without work is only where to count from. What the server itself computes counts
    as long as the engine has got nothing of it.
    """
    elapsed = seen.at - memory.worked_from
    engine = _rose(memory.worked_seconds, seen.worked_seconds, _COMPUTING_SHARE * elapsed)
    server = not seen.queue and _rose(memory.served_seconds, seen.served_seconds, _SERVING_SHARE * elapsed)
    return replace(
        memory,
        computed_at=seen.at if engine or server else memory.computed_at,
        worked_seconds=seen.worked_seconds,
        served_seconds=seen.served_seconds,
        worked_from=seen.at,
    )


def _rose(known: float | None, now: float | None, by: float) -> bool:
    return known is not None and now is not None and now > known and now - known >= by


def _since(
    known: Mapping[int, tuple[tuple[int, int], float]], beats: Mapping[int, tuple[int, int]], at: float
) -> dict[int, tuple[tuple[int, int], float]]:
    """Each front end's last beat, and since when it has been that."""
    return {pid: known[pid] if pid in known and known[pid][0] == beat else (beat, at) for pid, beat in beats.items()}


def _heed_canary(memory: Memory, seen: Observation) -> Memory:
    """What came of the canary. Silence counts where it alone would have been work, and nothing moved meanwhile; that of
    a copy is told by the copy's counters.
    """
    if seen.canary_since is not None:
        return replace(memory, canary_from=seen.canary_since, copies=owing(memory.copies, seen.canary_copy, seen.at))
    if seen.canary is None:
        return replace(memory, canary_from=None)
    if seen.canary_copy:
        copies = memory.copies if seen.canary == "silent" else settled(memory.copies, seen.canary_copy, seen.at)
        return replace(memory, canary_from=None, canary_at=seen.at, copies=copies)
    sent_at = memory.canary_from if memory.canary_from is not None else seen.at
    memory = replace(memory, canary_from=None, canary_at=seen.at)
    if seen.canary == "silent" and memory.work <= 0 and memory.advanced_at < sent_at:
        return replace(memory, canary_failures=memory.canary_failures + 1)
    if seen.canary == "answered":
        memory = replace(memory, moved_at=seen.at, advanced_at=seen.at)
    return replace(memory, canary_failures=0)


def still_seconds(memory: Memory, at: float) -> float:
    """How long the state has stood as it is although there is work; 0 where there is none."""
    return max(0.0, at - memory.moved_at) if memory.work > 0 else 0.0


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
    if memory.hung:
        return _hung(memory.hung)
    if reason := _silence(memory, seen, hang_timeout_seconds) or _halt(memory, seen, hang_timeout_seconds):
        return _hung(reason)
    if memory.unwell:  # a server that ends itself goes silent before it is gone
        return Verdict(phase="failed", reason="the engine process has died", hint="the server ends itself in seconds")
    if seen.healthy is None and not seen.silent:
        return Verdict(phase="failed", reason="the server does not take connections")
    return Verdict(phase="ready", ready=True)


def _silence(memory: Memory, seen: Observation, hang_timeout_seconds: float) -> str:
    """Why the server counts as hung, whatever the engine does, or ""."""
    if seen.at - memory.heard_at >= hang_timeout_seconds:
        return f"the server takes connections, and has not answered for {seen.at - memory.heard_at:.0f} s"
    for pid, (_, since) in memory.beats.items():
        if seen.at - since >= hang_timeout_seconds:
            return f"a front end of the server (process {pid}) has stood still for {seen.at - since:.0f} s"
    return ""


def _halt(memory: Memory, seen: Observation, hang_timeout_seconds: float) -> str:
    """Why the engine counts as hung, or ""."""
    # what a silent server has to do is not known: its last count may be older than its silence
    if seen.asleep or seen.silent:
        return ""
    if memory.canary_failures >= _MOST_CANARY_FAILURES:
        each = canary_seconds(hang_timeout_seconds)
        return f"the engine is idle, and twice in a row it has not answered a request for one token within {each:g} s"
    who, work, stalled = "the engine", memory.work, still_seconds(memory, seen.at)
    copy = stillest(memory.copies, seen.at)
    if stalled < hang_timeout_seconds and copy.seconds > stalled:
        who, work, stalled = f"copy {copy.name} of the engine", copy.queue, copy.seconds
    if stalled < hang_timeout_seconds:
        return ""
    computes = memory.computed_at is not None and seen.at - memory.computed_at < hang_timeout_seconds
    if computes and stalled < _COMPUTING_TIMES * hang_timeout_seconds:
        return ""
    if work <= 0:
        return f"{who} shows no work, and has not answered a request for one token for {stalled:.0f} s"
    waiting = "1 request waits" if work == 1 else f"{work:g} requests wait"
    how = f"computed for {stalled:.0f} s without getting anywhere" if computes else f"not advanced for {stalled:.0f} s"
    return f"{waiting}, and {who} has {how}"


def _hung(reason: str) -> Verdict:
    return Verdict(phase="failed", live=False, hung=True, reason=reason, hint="a restart is the only remedy known")


def _without_server(memory: Memory, seen: Observation) -> Verdict:
    reason, hint = seen.failure or ("", "")
    if seen.given_up:
        return Verdict(phase="failed", reason=reason or "the engine ended", hint=hint)
    if seen.retry_pending:
        return Verdict(phase="restarting", reason=reason, hint=hint)
    reason = memory.hung or reason  # what is known of failures is that of an earlier attempt yet
    unattended = memory.gone_since is not None and seen.at - memory.gone_since > _UNATTENDED_SECONDS
    if unattended:
        return Verdict(phase="failed", live=False, reason=reason or "the engine is not running", hint=hint)
    if memory.server is not None or seen.failure:
        return Verdict(phase="restarting", reason=reason or "the engine has ended", hint=hint)
    return Verdict(phase="starting", reason="the engine is about to start")


def _while_starting(memory: Memory, seen: Observation) -> Verdict:
    if memory.probe_error:
        hint = memory.probe_hint or "the engine refused a request for one token"
        return Verdict(phase="probing", reason=memory.probe_error, hint=hint)
    if memory.was_healthy:
        return Verdict(phase="probing", reason="waiting for the first token; the first request may compile kernels")
    if seen.stage is not None:
        return Verdict(phase="loading", reason=seen.stage)
    return Verdict(phase="starting", reason="the engine's program is being loaded")
