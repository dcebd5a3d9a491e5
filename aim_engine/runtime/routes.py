"""What the health sidecar says: a `Snapshot` and a path in; status, content type and body out.

Pure: no socket, no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aim_engine.runtime.exposition import engine_lines, escape_label, metric
from aim_engine.runtime.health import PHASES, Verdict

ROUTES: Mapping[str, str] = {
    "/": "this list",
    "/health/live": "200, or 503 once the engine hangs or nobody tends to it",
    "/health/startup": "200 once the engine was ready",
    "/health/ready": "200 while requests are answered, else 503 with the reason",
    "/status": "phase, how far the start is, timeline, attempts, the plan in short, memory, the engine's counters, its "
    "work, what AIM_SANITY found, what was kept of a failure",
    "/plan": "the whole plan",
    "/metrics": "Prometheus text",
}

_JSON = "application/json"
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_SUMMARY = ("recipe_id", "model_id", "huggingface_id", "backend", "precision", "metric", "gpu_count",
            "tensor_parallel_size", "max_model_len", "evidence", "warnings")  # fmt: skip

_NOT_SHOWN = ("monotonic", "frozen_seconds", "oom_kills")  # of an attempt: the watch's own


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All there is to say at one moment."""

    verdict: Verdict
    plan: Mapping[str, Any]
    pid: int | None
    timeline: tuple[Mapping[str, Any], ...]
    attempts: tuple[Mapping[str, Any], ...]
    counters: Mapping[str, float]
    now: float
    memory: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    sanity: Mapping[str, Any] | None = None
    work: Mapping[str, Any] = field(default_factory=dict)
    canary: Mapping[str, Any] = field(default_factory=dict)
    nodes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    content_type: str
    body: bytes


def reply(path: str, snapshot: Snapshot) -> Reply:
    """Answer a GET of `path`."""
    verdict = _told(snapshot)
    answers: dict[str, Callable[[], Reply]] = {
        "/": lambda: _json(200, {"routes": ROUTES}),
        "/health/live": lambda: _json(200 if verdict.live else 503, _words(verdict)),
        "/health/startup": lambda: _json(200 if _was_ready(snapshot) else 503, _words(verdict)),
        "/health/ready": lambda: _json(200 if verdict.ready else 503, _words(verdict)),
        "/status": lambda: _json(200, status(snapshot)),
        "/plan": lambda: _json(200, snapshot.plan),
        "/metrics": lambda: Reply(status=200, content_type=_PROMETHEUS, body=metrics(snapshot).encode()),
    }
    if path.startswith("/node/") and snapshot.nodes.get("rank") == 0:  # of its workers
        return _json(200, _words(verdict))
    answer = answers.get(path)
    return answer() if answer is not None else refusal(404, f"there is no {path}")


def refusal(status_code: int, message: str) -> Reply:
    """An answer that is an error."""
    return _json(status_code, {"error": message, "routes": list(ROUTES)})


def _json(status_code: int, value: object) -> Reply:
    body = json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "backslashreplace") + b"\n"
    return Reply(status=status_code, content_type=_JSON, body=body)


def _words(verdict: Verdict) -> dict[str, str]:
    return {"phase": verdict.phase, "reason": verdict.reason, "hint": verdict.hint}


def _told(snapshot: Snapshot) -> Verdict:
    """The verdict; of a start that is not the first one also why there is another."""
    verdict, attempts = snapshot.verdict, snapshot.attempts
    before = (attempts[-2].get("failure") or {}).get("message") if len(attempts) > 1 else None
    if not before or verdict.phase not in ("starting", "loading", "probing"):
        return verdict
    return replace(verdict, reason=f"{verdict.reason} (attempt {attempts[-1].get('number')}, after: {before})")


def _was_ready(snapshot: Snapshot) -> bool:
    return snapshot.verdict.ready or any(entry.get("phase") == "ready" for entry in snapshot.timeline)


def status(snapshot: Snapshot) -> dict[str, Any]:
    """The body of /status."""
    verdict = _told(snapshot)
    started = snapshot.timeline[0]["at"] if snapshot.timeline else snapshot.now
    return {
        "phase": verdict.phase,
        "reason": verdict.reason,
        "hint": verdict.hint,
        "ready": verdict.ready,
        "live": verdict.live,
        "pid": snapshot.pid,
        "uptime_seconds": round(snapshot.now - started, 3),
        "start": snapshot.start,
        "timeline": phases(snapshot),
        "attempts": [_attempt(attempt) for attempt in snapshot.attempts],
        "given_up": _given_up(snapshot),
        "plan": {key: snapshot.plan[key] for key in _SUMMARY if key in snapshot.plan},
        "engine": snapshot.counters,
        "work": snapshot.work,
        "canary": snapshot.canary,
        "memory": snapshot.memory,
        "sanity": snapshot.sanity,
        "evidence": newest_evidence(snapshot),
        **({"nodes": snapshot.nodes} if snapshot.nodes else {}),
    }


def _given_up(snapshot: Snapshot) -> list[dict[str, str]]:
    """What the newest attempt does without, a step each."""
    taken = snapshot.attempts[-1].get("without", ()) if snapshot.attempts else ()
    words = {rung["name"]: rung["gives_up"] for rung in snapshot.plan.get("ladder", ())}
    return [{"name": name, "gives_up": words.get(name, name)} for name in taken]


def newest_evidence(snapshot: Snapshot) -> str | None:
    """The folder that the newest failure of which anything was kept is told in."""
    return next((str(one["evidence"]) for one in reversed(snapshot.attempts) if one.get("evidence")), None)


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attempt.items() if key not in _NOT_SHOWN}


def phases(snapshot: Snapshot) -> list[dict[str, Any]]:
    """`{phase, at, seconds}` for each phase so far; a phase that goes on lasts until now."""
    entries = [entry for entry in snapshot.timeline if "phase" in entry]
    merged = [entry for i, entry in enumerate(entries) if i == 0 or entry["phase"] != entries[i - 1]["phase"]]
    ends = [entry["at"] for entry in merged[1:]] + [snapshot.now]
    return [
        {"phase": entry["phase"], "at": entry["at"], "seconds": round(end - entry["at"], 3)}
        for entry, end in zip(merged, ends, strict=False)  # somebody may have removed the timeline
    ]


def start_seconds(snapshot: Snapshot) -> float | None:
    """From the first entry to the first time it was ready."""
    ready = next((entry["at"] for entry in snapshot.timeline if entry.get("phase") == "ready"), None)
    return ready - snapshot.timeline[0]["at"] if ready is not None else None


def metrics(snapshot: Snapshot) -> str:
    """The body of /metrics."""
    plan = snapshot.plan
    info = {key: str(plan.get(key, "")) for key in ("recipe_id", "model_id", "huggingface_id", "backend", "precision")}
    lines = [
        *metric("aim_engine_ready", "gauge", "1 while requests are answered", int(snapshot.verdict.ready)),
        *metric("aim_engine_live", "gauge", "0 once the engine hangs or is dead", int(snapshot.verdict.live)),
        "# HELP aim_engine_phase The phase the run is in.",
        "# TYPE aim_engine_phase gauge",
        *(f'aim_engine_phase{{phase="{phase}"}} {int(phase == snapshot.verdict.phase)}' for phase in PHASES),
        *metric("aim_engine_given_up", "gauge", "Things that the engine is served without, after failures",
                len(_given_up(snapshot))),
        *metric("aim_engine_restarts_total", "counter", "Times the engine was started again",
                max(0, len(snapshot.attempts) - 1)),
        "# HELP aim_engine_info What is served.",
        "# TYPE aim_engine_info gauge",
        "aim_engine_info{" + ",".join(f'{name}="{escape_label(value)}"' for name, value in info.items()) + "} 1",
    ]  # fmt: skip
    if snapshot.canary:
        lines += [
            "# HELP aim_engine_canaries_total One-token requests of our own to an idle engine, by what came of them.",
            "# TYPE aim_engine_canaries_total counter",
            *(f'aim_engine_canaries_total{{outcome="{outcome}"}} {snapshot.canary.get(outcome, 0)}'
              for outcome in ("answered", "refused", "silent")),
        ]  # fmt: skip
    if snapshot.work:
        lines += metric("aim_engine_still_seconds", "gauge", "How long work has waited without any progress",
                        snapshot.work["still_seconds"])  # fmt: skip
    seconds = start_seconds(snapshot)
    if seconds is not None:
        lines += metric("aim_engine_start_seconds", "gauge", "From the start to the first answer", round(seconds, 3))
    if snapshot.timeline:
        lines += metric("aim_engine_start_time_seconds", "gauge", "When the run began, in Unix time",
                        snapshot.timeline[0]["at"])  # fmt: skip
    if snapshot.pid is not None:  # what an engine counted that is gone says nothing of the next
        lines += engine_lines(snapshot.counters)
    lines += _start_phases(snapshot.start.get("phases", ()))
    return "\n".join(lines) + "\n"


def _start_phases(steps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of the newest start; the phase that goes on has its time so far."""
    name = "aim_engine_start_phase_seconds"
    samples = [f'{name}{{phase="{step["phase"]}"}} {step["seconds"]}' for step in steps]
    head = [f"# HELP {name} How long each phase of the newest start took.", f"# TYPE {name} gauge"]
    return head + samples if samples else []
