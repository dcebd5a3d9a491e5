"""What the health sidecar says: a `Snapshot` and a path in; status, content type and body out.

Pure: no socket, no file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.runtime.health import PHASES, Verdict

ROUTES: Mapping[str, str] = {
    "/": "this list",
    "/health/live": "200, or 503 once the engine hangs or nobody tends to it",
    "/health/startup": "200 once the engine was ready",
    "/health/ready": "200 while requests are answered, else 503 with the reason",
    "/status": "phase, timeline, attempts, the plan in short, memory predicted and actual, the engine's counters",
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


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    content_type: str
    body: bytes


def reply(path: str, snapshot: Snapshot) -> Reply:
    """Answer a GET of `path`."""
    verdict = snapshot.verdict
    answers: dict[str, Callable[[], Reply]] = {
        "/": lambda: _json(200, {"routes": ROUTES}),
        "/health/live": lambda: _json(200 if verdict.live else 503, _words(verdict)),
        "/health/startup": lambda: _json(200 if _was_ready(snapshot) else 503, _words(verdict)),
        "/health/ready": lambda: _json(200 if verdict.ready else 503, _words(verdict)),
        "/status": lambda: _json(200, status(snapshot)),
        "/plan": lambda: _json(200, snapshot.plan),
        "/metrics": lambda: Reply(status=200, content_type=_PROMETHEUS, body=metrics(snapshot).encode()),
    }
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


def _was_ready(snapshot: Snapshot) -> bool:
    return snapshot.verdict.ready or any(entry.get("phase") == "ready" for entry in snapshot.timeline)


def status(snapshot: Snapshot) -> dict[str, Any]:
    """The body of /status."""
    verdict = snapshot.verdict
    started = snapshot.timeline[0]["at"] if snapshot.timeline else snapshot.now
    return {
        "phase": verdict.phase,
        "reason": verdict.reason,
        "hint": verdict.hint,
        "ready": verdict.ready,
        "live": verdict.live,
        "pid": snapshot.pid,
        "uptime_seconds": round(snapshot.now - started, 3),
        "timeline": phases(snapshot),
        "attempts": [_attempt(attempt) for attempt in snapshot.attempts],
        "given_up": _given_up(snapshot),
        "plan": {key: snapshot.plan[key] for key in _SUMMARY if key in snapshot.plan},
        "engine": snapshot.counters,
        "memory": snapshot.memory,
    }


def _given_up(snapshot: Snapshot) -> list[dict[str, str]]:
    """What the newest attempt does without, a step each."""
    taken = snapshot.attempts[-1].get("without", ()) if snapshot.attempts else ()
    words = {rung["name"]: rung["gives_up"] for rung in snapshot.plan.get("ladder", ())}
    return [{"name": name, "gives_up": words.get(name, name)} for name in taken]


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attempt.items() if key not in _NOT_SHOWN}


def phases(snapshot: Snapshot) -> list[dict[str, Any]]:
    """`{phase, at, seconds}` for each phase so far; a phase that goes on lasts until now."""
    entries = [entry for entry in snapshot.timeline if "phase" in entry]
    merged = [entry for i, entry in enumerate(entries) if i == 0 or entry["phase"] != entries[i - 1]["phase"]]
    ends = [entry["at"] for entry in merged[1:]] + [snapshot.now]
    return [
        {"phase": entry["phase"], "at": entry["at"], "seconds": round(end - entry["at"], 3)}
        for entry, end in zip(merged, ends, strict=True)
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
        *_metric("aim_engine_ready", "gauge", "1 while requests are answered", int(snapshot.verdict.ready)),
        *_metric("aim_engine_live", "gauge", "0 once the engine hangs or is dead", int(snapshot.verdict.live)),
        "# HELP aim_engine_phase The phase the run is in.",
        "# TYPE aim_engine_phase gauge",
        *(f'aim_engine_phase{{phase="{phase}"}} {int(phase == snapshot.verdict.phase)}' for phase in PHASES),
        *_metric("aim_engine_restarts_total", "counter", "Times the engine was started again",
                 max(0, len(snapshot.attempts) - 1)),
        "# HELP aim_engine_info What is served.",
        "# TYPE aim_engine_info gauge",
        "aim_engine_info{" + ",".join(f'{name}="{escape_label(value)}"' for name, value in info.items()) + "} 1",
    ]  # fmt: skip
    seconds = start_seconds(snapshot)
    if seconds is not None:
        lines += _metric("aim_engine_start_seconds", "gauge", "From the start to the first answer", round(seconds, 3))
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, meaning: str, value: float) -> tuple[str, str, str]:
    return f"# HELP {name} {meaning}.", f"# TYPE {name} {kind}", f"{name} {value}"


def escape_label(value: str) -> str:
    """A label's value as the text format wants it (prometheus.io/docs/instrumenting/exposition_formats)."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
