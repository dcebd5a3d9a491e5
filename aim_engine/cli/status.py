"""`aim-engine status NAME`: everything about one endpoint, and its last words where it has ended."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.cli.running import NOTHING, amount, duration, gpus, share, state
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import EndpointError

_NAME_HELP = "the container's name, the beginning of its id, or a model that only one serves"
_WIDTH = 11


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("status", help="everything about one endpoint", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=_NAME_HELP)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.deploy.looking import SILENT
    from aim_engine.engine import AIMEngine

    with AIMEngine(environment=environment) as engine:
        found = engine.get_model_status(arguments.name)
    if arguments.json:
        terminal.result_json(found.as_json())
    else:
        terminal.result("\n".join(_text(found, terminal)))
    endpoint, health = found.endpoint, found.health
    if health.word == SILENT:
        raise EndpointError(
            f"{endpoint.name} does not answer at {endpoint.health_url}: {health.reason}",
            hint=f"aim-engine logs {endpoint.name} shows what it does",
        )
    return 0


def _text(found: Any, terminal: Terminal) -> Iterator[str]:
    endpoint, health, plan, ending = found.endpoint, found.health, found.plan, found.ending
    seen = found.running.look
    good = "good" if health.ready else "bad" if ending and ending.error else "warn"
    yield f"{terminal.paint('strong', endpoint.name)}: {terminal.paint(good, health.word)}"
    if health.reason:
        yield f"  {health.reason}"
    if health.hint:
        yield f"  {health.hint}"
    yield ""
    yield from _facts(_about(endpoint, plan))
    if seen.status:
        yield from _section(terminal, "Now", _facts(_now(seen, found.running.rates)))
        yield from _section(terminal, "Phases", _phases(seen.status))
        yield from _section(terminal, "Start", _start(seen.status))
        yield from _section(terminal, "Attempts", _attempts(seen.status))
        yield from _section(terminal, "Given up, so that it runs", _given_up(seen.status))
    yield from _section(terminal, "Memory of one device", _memory(plan, _map(seen.status, "memory")))
    yield from _section(terminal, "Warnings", (str(one) for one in _list(plan, "warnings")))
    if ending:
        yield from _section(terminal, "How it ended", _ended(endpoint, ending))


def _about(endpoint: Any, plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from aim_engine.deploy.looking import uptime_seconds

    evidence = _map(plan, "evidence")
    yield "model", endpoint.model
    yield "folder", endpoint.model_folder or ""
    yield "served as", endpoint.served_model
    yield "recipe", plan.get("recipe_id") or endpoint.recipe
    yield "checkpoint", str(plan.get("huggingface_id") or "")
    yield "precision", endpoint.precision
    yield "backend", endpoint.backend
    yield "context", f"{plan['max_model_len']:,} tokens" if isinstance(plan.get("max_model_len"), int) else ""
    yield "evidence", ": ".join(str(evidence[key]) for key in ("level", "source") if evidence.get(key))
    yield "gpus", " ".join([gpus(endpoint), *([f"({', '.join(endpoint.gpus)})"] if endpoint.gpus else [])])
    yield "api", endpoint.api_url or "not published"
    yield "health", endpoint.health_url or "not published"
    yield "container", f"{endpoint.container_id[:12]}, {state(endpoint)}, image {endpoint.image}"
    yield "log file", endpoint.log_file or ""
    yield "version", endpoint.version
    yield "up", duration(uptime_seconds(endpoint)) if endpoint.is_running else ""
    yield "restarts", str(endpoint.restarts) if endpoint.restarts else ""


def _now(seen: Any, rates: Any) -> Iterator[tuple[str, str]]:
    counters = seen.counters
    yield "requests", f"{amount(counters.running)} running, {amount(counters.waiting)} waiting"
    yield "tokens/s", amount(rates.tokens_per_second, digits=1) if rates else NOTHING
    yield "kv cache", f"{share(counters.kv_cache_usage)} in use"
    yield "since start", f"{amount(counters.prompt_tokens)} tokens in, {amount(counters.generation_tokens)} out"


def _phases(status: Mapping[str, Any]) -> Iterator[str]:
    for one in _list(status, "timeline"):
        if isinstance(one, Mapping) and isinstance(one.get("seconds"), int | float):
            yield f"{one.get('phase', '')!s:<{_WIDTH}} {duration(one['seconds'])}"


def _start(status: Mapping[str, Any]) -> Iterator[str]:
    """The engine's own phases, and how far the newest is."""
    start = _map(status, "start")
    for one in _list(start, "phases"):
        if isinstance(one, Mapping) and isinstance(one.get("seconds"), int | float):
            yield f"{one.get('phase', '')!s:<{_WIDTH}} {duration(one['seconds'])}"
    left, basis = start.get("eta_seconds"), start.get("eta_basis")
    if start.get("phase") != "ready" and start:
        if start.get("words"):
            yield str(start["words"])
        yield f"{duration(left)} left: {basis}" if isinstance(left, int | float) else f"time left not known: {basis}"


def _attempts(status: Mapping[str, Any]) -> Iterator[str]:
    """Only where there was more than one, or the one has failed."""
    attempts = [one for one in _list(status, "attempts") if isinstance(one, Mapping)]
    if len(attempts) > 1 or any(one.get("failure") for one in attempts):
        for one in attempts:
            failure = one.get("failure")
            outcome = failure.get("message") if isinstance(failure, Mapping) else "it runs"
            yield f"{one.get('number', '?')}: {outcome}"
            if one.get("evidence"):
                yield f"   evidence: {one['evidence']}"


def _given_up(status: Mapping[str, Any]) -> Iterator[str]:
    for one in _list(status, "given_up"):
        if isinstance(one, Mapping):
            yield str(one.get("gives_up", ""))


def _memory(plan: Mapping[str, Any], compared: Mapping[str, Any]) -> Iterator[str]:
    """What was predicted, beside what the engine took once it has said so."""
    from aim_engine.cli.memory_table import memory_table
    from aim_engine.selection.memory import in_gib

    memory = _map(plan, "memory")
    table = memory_table(compared)
    yield from table
    for line in _list(memory, "lines"):
        if not table and isinstance(line, Mapping) and isinstance(line.get("bytes"), int):
            yield f"{line.get('name', '')!s:<15} {in_gib(line['bytes']):>10}  {line.get('basis', '')}"
    total, budget = memory.get("total_bytes"), memory.get("budget_bytes")
    if isinstance(total, int) and isinstance(budget, int):
        yield f"{'together':<15} {in_gib(total):>10}  of {in_gib(budget)} the engine may take"


def _ended(endpoint: Any, ending: Any) -> Iterator[str]:
    yield ending.sentence
    for one in _list(ending.words, "earlier_attempts"):
        if isinstance(one, Mapping):
            yield f"attempt {one.get('number', '?')} had ended so: {one.get('message', '')}"
    if ending.error:
        yield from ending.error.details
        if ending.error.hint:
            yield f"remedy: {ending.error.hint}"
    if kept := ending.words.get("evidence"):
        yield f"evidence: {kept} in the container: docker cp {endpoint.name}:{kept} ."


def _facts(pairs: Iterator[tuple[str, str]]) -> list[str]:
    return [f"  {name:<{_WIDTH}} {value}" for name, value in pairs if value]


def _section(terminal: Terminal, title: str, lines: Any) -> list[str]:
    shown = [line if line.startswith("  ") else f"  {line}" for line in lines]
    return ["", terminal.paint("strong", title), *shown] if shown else []


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []
