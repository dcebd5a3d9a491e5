"""`aim-engine serve`: plan, say why, and serve on what is here, under supervision, until told to stop."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, EngineRefusedError, InputError
from aim_engine.request import Request, read_request, secrets_from_files
from aim_engine.settings import SETTINGS

if TYPE_CHECKING:
    from aim_engine.hardware.preflight.check import Site
    from aim_engine.plan import Plan, Refusal

_EXAMPLES = """examples:
  aim-engine serve Qwen/Qwen3-32B
  aim-engine serve ./my-model --hardware cpu --host 127.0.0.1 --port 9000 --health-port 9080
  AIM_MODEL=Qwen/Qwen3-32B AIM_GPU_COUNT=4 aim-engine serve
"""


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser("serve", help="serve a model on what is here", description=__doc__, epilog=_EXAMPLES)
    add_model(parser)
    add_settings(parser, serving=True)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    """Whatever ends it before the server's parent takes over is left where Kubernetes looks for it, too."""
    from aim_engine.runtime.ending import leave_words
    from aim_engine.runtime.handover import StopAskedError

    try:
        _plan_and_serve(arguments, terminal, environment)
    except AimError as error:
        leave_words(error.as_json())
        raise
    except StopAskedError as stop:
        leave_words(stop.words)
        terminal.say(json.dumps(stop.words))
    return 0


def _plan_and_serve(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> None:
    flags = typed_flags(arguments)
    try:
        request = _with_state_folder(read_request(flags, environment))
        # the engine, its guard and the sidecar look there; the environment of a process is seen by its user alone
        os.environ.update(secrets_from_files(environment))
    except InputError as error:
        if legible := _legible(flags, environment):
            _copy_narration(legible, terminal)
            _stay(error, legible)
        raise
    _copy_narration(request, terminal)
    _serve(request, terminal)


def _copy_narration(request: Request, terminal: Terminal) -> None:
    """What is said before the server's parent takes over, in the file that AIM_LOG_DIR asks for too."""
    if request.log_dir is None:
        return
    from aim_engine.runtime.log import copy_to
    from aim_engine.runtime.log_copy import copy_of

    copy = copy_of(_runtime(request))
    if copy:
        copy_to(copy.take_now)
        terminal.copy_narration(copy.take_now)


# What says how to stay up, and where that is told: all of it, or else without what may itself be wrong.
_STAYING = ("keep_alive", "health_port", "state_dir")
_LOGGING = ("log_level", "log_format", "log_dir", "log_name", "log_file_size", "log_file_count")
_OF_STAYING = ((*_STAYING, "port", "host", "model", *_LOGGING), (*_STAYING, "port", *_LOGGING), (*_STAYING, "port"),
               _STAYING)  # fmt: skip


def _legible(flags: dict[str, str | None], environment: dict[str, str]) -> Request | None:
    """Of a request that cannot be read what says how to stay up with the reason; None where that is what is wrong."""
    for fields in _OF_STAYING:
        known = {name for setting in SETTINGS if setting.field in fields for name in setting.variables}
        some = {name: text for name, text in environment.items() if name in known}
        with suppress(InputError):
            return _with_state_folder(read_request({field: flags.get(field) for field in fields}, some))
    return None


def _stay(error: AimError, request: Request, told: dict[str, Any] | None = None) -> None:
    """As AIM_KEEP_ALIVE asks; returns where it does not, or where that cannot be."""
    from aim_engine.runtime import handover

    if request.keep_alive:
        handover.stay(error, {"error": error.as_json(), **(told or {}), "runtime": _runtime(request)})


def _runtime(request: Request) -> dict[str, Any]:
    """What of a plan's `runtime` is known without a plan."""
    return {
        "state_dir": str(request.state_dir),
        "host": request.host,
        "health_port": request.health_port,
        "log_level": request.log_level,
        "log_format": request.log_format,
        **request.log_file_json(),
    }


def _serve(request: Request, terminal: Terminal) -> NoReturn:
    from aim_engine.runtime import handover

    spare = handover.begin()
    # only now, while supervisord gets ready on the other core: these imports are most of a plan's time
    from aim_engine.cli.hub_bar import HubBar
    from aim_engine.decide import decide
    from aim_engine.hardware.preflight.check import this_site
    from aim_engine.plan import Refusal
    from aim_engine.runtime.log import Log

    log = Log("plan", level=request.log_level, style=request.log_format)
    for warning in request.warnings:
        log.warning(warning)
    found: Plan | Refusal | None = None
    try:
        _check_nodes(request)
        found = decide(request, to_serve=True, progress=HubBar(request.model, log.info, lively=False))
        plan = _accepted(found, request, terminal)
    except AimError as error:
        _stay(error, request, found.as_json() if isinstance(found, Refusal) else None)
        raise
    for line in _summary(plan):
        log.info(line)
    for warning in plan.warnings[len(request.warnings) :]:
        log.warning(warning)
    if request.node_rank == 0 and (said := exposure(request, this_site(request.environment))):
        log.warning(said)
    handover.run(plan.as_json(), spare)


def _check_nodes(request: Request) -> None:
    """A plan for several nodes needs nobody; serving on them does."""
    request.check_leader_port()
    if request.nodes > 1 and request.leader_address is None:
        raise InputError(
            f"this is node {request.node_rank} of {request.nodes}, and nobody has said where the leader is",
            hint="set AIM_LEADER_ADDRESS on every node to the address by which the others reach node 0",
        )


def _accepted(found: Plan | Refusal, request: Request, terminal: Terminal) -> Plan:
    """The plan, if there is one that can be served here."""
    from aim_engine.expected import check_expected
    from aim_engine.plan import Refusal

    if isinstance(found, Refusal):
        if request.log_format == "text":
            from aim_engine.report import refusal_text

            terminal.say(refusal_text(found, terminal.paint))
        raise found.error
    _check_servable(found)
    check_expected(found)
    return found


def exposure(request: Request, site: Site) -> str | None:
    """Who can reach the API, where that is worth a word: everybody, or in a container nobody."""
    published = f"-p 127.0.0.1:{request.port}:{request.port}"
    if request.host in ("127.0.0.1", "::1", "localhost"):
        if not site.in_container:
            return None
        return (
            f"AIM_HOST={request.host} inside a container: ports published with -p lead nowhere. Leave it out, and to "
            f"serve the host alone publish on its loopback: {published} (--network host is another matter)"
        )
    if request.api_key is not None:
        return None
    remedy, whose = "AIM_HOST=127.0.0.1", " of this container" if site.in_container else ""
    if site.in_kubernetes:
        remedy = "a NetworkPolicy"
    elif site.in_container:
        remedy = f"publish it to the host alone: {published}"
    return f"whoever reaches port {request.port}{whose} may use the API: set AIM_API_KEY, or {remedy}"


def _with_state_folder(request: Request) -> Request:
    """Unless one was asked for: a folder of this user's and port's own below the system's temporary folder."""
    from aim_engine.runtime.prepare import LONGEST_STATE_DIR

    if request.state_dir is not None:
        return request
    own = f"aim-engine-{os.getuid()}/{request.port}"
    for temporary in (request.environment.get("TMPDIR") or "/tmp", "/tmp"):  # noqa: S108 - made private in prepare
        folder = Path(temporary) / own
        if len(os.fsencode(folder)) <= LONGEST_STATE_DIR:
            break
    return replace(request, state_dir=folder)


def _check_servable(plan: Plan) -> None:
    """Planning for hardware that is only declared is fine; serving on it is not."""

    if plan.inventory.declared:
        raise InputError(
            f"cannot serve on declared hardware ({plan.inventory.in_words()})",
            hint="leave AIM_HARDWARE out to use what is here, or use aim-engine plan",
        )
    if plan.engine is None:
        raise EngineRefusedError(
            f"{plan.winner.variant.backend} is not installed for this Python",
            hint="use the aim-engine-unified image, or install the engine beside AIM Engine (scripts/setup cpu)",
        )


def _summary(plan: Plan) -> list[str]:
    from aim_engine.selection.memory import in_gib

    facts = [f"recipe {plan.recipe_id} ({plan.evidence.level})", plan.winner.recipe.precision]
    if plan.ledger:
        facts.append(f"{plan.ledger.context_tokens:,} tokens of context")
        facts.append(f"{in_gib(plan.ledger.total_bytes)} of {in_gib(plan.ledger.budget_bytes)} a device")
    what = f"{plan.model} on {plan.inventory.in_words()}"
    return [f"{what}: {', '.join(facts)}", *plan.notes]
