"""The Grafana dashboard: nothing in, its JSON out. The first two rows are of what the health sidecar serves, for every
engine and without a key; the last is of vLLM's own /metrics. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SCHEMA = 39  # Grafana 10.4; later ones migrate it by themselves
_WIDTH = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "[$__rate_interval]"
_MINE = 'job=~"$job",instance=~"$instance"'
_JOB = 'job=~"$job.*"'  # the engine's own target is another job's: the sidecar's and -engine, or what it was called


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: its queries, each with what its lines are called."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


def _each(expression: str, legend: str = "{{instance}}") -> tuple[tuple[str, str], ...]:
    return ((expression, legend),)


def _quantiles(histogram: str) -> tuple[tuple[str, str], ...]:
    by = f"sum by (le, model_name) (rate({histogram}_bucket{{{_JOB}}}{_RATE}))"
    return tuple(
        (f"histogram_quantile({part}, {by})", f"p{int(part * 100)} {{{{model_name}}}}") for part in (0.5, 0.95)
    )


def _rate(counter: str, matchers: str = _MINE) -> str:
    return f"rate({counter}{{{matchers}}}{_RATE})"


def _mean(seconds: str, count: str) -> tuple[tuple[str, str], ...]:
    return _each(f"{_rate(seconds)} / {_rate(count)}")


ROWS: tuple[Row, ...] = (
    Row(title="Is it well", panels=(
        Panel(title="Ready", kind="stat", width=3, height=4,
              queries=_each(f"sum(aim_engine_ready{{{_MINE}}})", "ready")),
        Panel(title="Endpoints", kind="stat", width=3, height=4,
              queries=_each(f"count(aim_engine_ready{{{_MINE}}})", "endpoints")),
        Panel(title="Hung", kind="stat", width=3, height=4,
              queries=_each(f"sum(1 - aim_engine_live{{{_MINE}}})", "hung")),
        Panel(title="Restarts", kind="stat", width=3, height=4,
              queries=_each(f"sum(aim_engine_restarts_total{{{_MINE}}})", "restarts"),
              about="Of the engine, within containers that run."),
        Panel(title="What is served", kind="table", width=12, height=4,
              queries=_each(f"aim_engine_info{{{_MINE}}}")),
        Panel(title="Phase", kind="state-timeline", width=12,
              queries=_each(f"aim_engine_phase{{{_MINE}}} == 1", "{{instance}} {{phase}}")),
        Panel(title="Seconds to the first answer", unit="s", width=6,
              queries=_each(f"aim_engine_start_seconds{{{_MINE}}}")),
        Panel(title="Given up after failures", width=6, queries=_each(f"aim_engine_given_up{{{_MINE}}}"),
              about="given_up in /status says what."),
    )),
    Row(title="Load", panels=(
        Panel(title="Requests that wait", queries=_each(f"aim_engine_requests_waiting{{{_MINE}}}"),
              about="What autoscaling goes by, with the next."),
        Panel(title="KV cache in use", unit="percentunit",
              queries=_each(f"aim_engine_kv_cache_usage_ratio{{{_MINE}}}")),
        Panel(title="Requests in work", queries=_each(f"aim_engine_requests_running{{{_MINE}}}")),
        Panel(title="Tokens a second", width=12, queries=(
            (_rate("aim_engine_generation_tokens_total"), "written {{instance}}"),
            (_rate("aim_engine_prompt_tokens_total"), "read {{instance}}"))),
        Panel(title="Requests a second", unit="reqps", width=12, queries=_each(_rate("aim_engine_requests_total"))),
        Panel(title="Time to the first token, mean", unit="s", width=12,
              queries=_mean("aim_engine_first_token_seconds_total", "aim_engine_first_tokens_total")),
        Panel(title="Time of a request, mean", unit="s", width=12,
              queries=_mean("aim_engine_request_seconds_total", "aim_engine_requests_total")),
    )),
    Row(title="vLLM's own metrics (the API's port; they need the API key)", panels=(
        Panel(title="Time to the first token", unit="s", queries=_quantiles("vllm:time_to_first_token_seconds")),
        Panel(title="Time between tokens", unit="s", queries=_quantiles("vllm:inter_token_latency_seconds")),
        Panel(title="Time of a request", unit="s", queries=_quantiles("vllm:e2e_request_latency_seconds")),
        Panel(title="Time in the queue", unit="s", queries=_quantiles("vllm:request_queue_time_seconds")),
        Panel(title="Requests by how they ended", unit="reqps", queries=_each(
            f"sum by (finished_reason) ({_rate('vllm:request_success_total', _JOB)})", "{{finished_reason}}")),
        Panel(title="Prefix cache: hits", unit="percentunit", queries=_each(
            f"{_rate('vllm:prefix_cache_hits_total', _JOB)} / {_rate('vllm:prefix_cache_queries_total', _JOB)}")),
        Panel(title="Requests put back for want of room", unit="reqps",
              queries=_each(_rate("vllm:num_preemptions_total", _JOB))),
    )),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """As Grafana imports it; it asks for the data source."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in ROWS:
        panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": _WIDTH, "h": 1}})  # fmt: skip
        top = _placed(row, top + 1, panels)
    return {
        "uid": "aim-engine",
        "title": "AIM Engine",
        "tags": ["aim-engine", "llm"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _placed(row: Row, top: int, panels: list[dict[str, Any]]) -> int:
    """Put the row's panels from left to right and from the top on; the next free line."""
    left = height = 0
    for panel in row.panels:
        if left + panel.width > _WIDTH:
            left, top, height = 0, top + height, 0
        position = {"x": left, "y": top, "w": panel.width, "h": panel.height}
        panels.append(_panel(panel, len(panels) + 1, position))
        left, height = left + panel.width, max(height, panel.height)
    return top + height


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    is_table = panel.kind == "table"
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": expression, "legendFormat": legend,
         "instant": is_table, "range": not is_table, "format": "table" if is_table else "time_series"}
        for index, (expression, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": targets,
    }


def _variables() -> list[dict[str, Any]]:
    asked = {"job": "label_values(aim_engine_info, job)",
             "instance": 'label_values(aim_engine_info{job=~"$job"}, instance)'}  # fmt: skip
    source: dict[str, Any] = {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"}
    return [
        source,
        *(
            {"name": name, "label": name, "type": "query", "datasource": _SOURCE, "refresh": 2, "sort": 1,
             "query": {"query": query, "refId": name}, "definition": query,
             "multi": True, "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}}
            for name, query in asked.items()
        ),
    ]  # fmt: skip
