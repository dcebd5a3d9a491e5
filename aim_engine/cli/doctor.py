"""`aim-engine doctor`: what on this machine would break or spoil a start, with the one thing to change for each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError
from aim_engine.request import Request, read_request

if TYPE_CHECKING:
    from aim_engine.hardware.inventory import Inventory
    from aim_engine.hardware.preflight.check import Check, Needs, Site
    from aim_engine.plan import Plan

_DESCRIPTION = """What on this machine would break or spoil a start, with the one thing to change for each.

Without a model: the GPUs, their device files and drivers, memory, ports and folders. With one: the same against its
plan. `aim-engine serve` asks the same before every start: errors stop it, warnings go to its log. Nothing is started
or changed, and the network is asked only where a plan for the model asks it.
"""
_EXAMPLES = """examples:
  aim-engine doctor                                    this machine
  aim-engine doctor Qwen/Qwen3-32B                     this machine, for that model's plan
  aim-engine doctor Qwen/Qwen3-32B --json              for programs: {checks: [...], worst: {...}}
  docker run --device /dev/kfd --device /dev/dri aim-engine-unified doctor Qwen/Qwen3-32B

The exit code is that of the gravest error: 20 devices, 21 memory, 42 disk or cache, 40 model access, 10 ports, or the
plan's own. It is 0 where there are only warnings.
"""

# How an outcome is shown: the mark, the mark where the stream has no such characters, and the colour.
_MARKS = {"ok": ("✓", "+", "good"), "warning": ("!", "!", "warn"), "error": ("✗", "x", "bad"),
          "skipped": ("–", "-", "dim")}  # fmt: skip


_ASK_SECONDS = 3.0  # how long a Docker Engine may take to say whose a port is


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "doctor", help="what would break a start, and its remedy", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    from aim_engine.hardware.preflight.look import error_of, worst

    request = read_request(typed_flags(arguments), environment)
    for text in request.warnings:
        terminal.warn(text)
    checks = examine(request)
    gravest = worst(checks)
    if arguments.json:
        terminal.result_json(
            {"checks": [check.as_json() for check in checks], "worst": gravest.as_json() if gravest else None}
        )
    else:
        terminal.result("\n".join(_lines(checks, terminal)))
    error = error_of(checks)
    if error is not None:
        raise error
    return 0


def examine(request: Request) -> list[Check]:
    """Every check of this machine, and of the plan where a model was named. A layer that fails is a finding, and the
    others are asked all the same.
    """
    from aim_engine.decide import look as look_for_hardware
    from aim_engine.hardware.detect import is_this_machine
    from aim_engine.hardware.preflight import look as preflight
    from aim_engine.hardware.preflight.check import skipped, this_site
    from aim_engine.hardware.preflight.files import of_error
    from aim_engine.runtime.needs import needs_of

    inventory = None
    try:
        inventory = look_for_hardware(request)
        findings = [_hardware(inventory, request)]
    except AimError as error:
        findings = [of_error("hardware", error)]
    needs = _needs_of_anything(request, inventory)
    if request.model is not None and inventory is None:
        findings.append(skipped("plan", "there is no hardware to plan for"))
    elif request.model is not None and inventory is not None:
        plan, finding = _plan(request, inventory)
        findings.append(finding)
        needs = needs_of(plan.as_json(), request.environment) if plan else needs
    here = this_site(request.environment)
    if is_this_machine(request.hardware):
        return [*findings, *(_with_endpoint(check, needs, here) for check in preflight.look(needs, here))]
    return [*findings, *preflight.look_from_elsewhere(needs, here, recorded=_site(request))]


def _with_endpoint(check: Check, needs: Needs, site: Site) -> Check:
    """A taken port with the endpoint that publishes it: to the system it is Docker's own process."""
    if check.name != "ports" or check.outcome != "error":
        return check
    found = _published((needs.port, needs.health_port), site.environment)
    whose = "".join(f"; the endpoint {name} publishes {port}" for port, name in found)
    names = " ".join(dict.fromkeys(name for _, name in found))
    remedy = check.remedy.replace("stop that program", f"aim-engine stop {names}") if names else check.remedy
    return replace(
        check,
        sentence=f"{check.sentence}{whose}",
        remedy=f"{remedy}; aim-engine launch takes the next free ones by itself",
    )


def _published(ports: Sequence[int], environment: Mapping[str, str]) -> list[tuple[int, str]]:
    """Each of these ports that an endpoint publishes here, and its name; none where no Docker Engine says so soon."""
    from aim_engine.deploy.docker import begun
    from aim_engine.engine import AIMEngine

    def ask() -> list[tuple[int, str]]:
        with AIMEngine(environment=environment) as engine:
            place = engine.vantage
            endpoints = engine.endpoints() if place.is_here and place.networks is None else []
        return [(port, one.name) for port in ports for one in endpoints if port in one.published]

    try:
        return begun(ask).result(_ASK_SECONDS)
    except (AimError, TimeoutError):
        return []


def _site(request: Request) -> Site | None:
    """Where the hardware is that was asked for, if that can be looked at: here, or in the folder of a recorded host."""
    from aim_engine.hardware.declared import recorded_host
    from aim_engine.hardware.detect import is_this_machine
    from aim_engine.hardware.preflight.check import recorded_site, this_site

    if is_this_machine(request.hardware):
        return this_site(request.environment)
    try:
        root = recorded_host(request.hardware)
    except AimError:  # a folder that is none
        return None
    return recorded_site(root) if root else None


def _hardware(inventory: Inventory, request: Request) -> Check:
    from aim_engine.hardware.preflight.check import DEVICES, failure, ok, this_site, warning
    from aim_engine.selection.groups import equal_groups

    words = inventory.in_words()
    source = "recorded" if inventory.recorded else "declared" if inventory.declared else f"found by {inventory.source}"
    sentence = f"{words} ({source})"
    unusable = [f"{gpu.name}: {gpu.unusable}" for gpu in inventory.gpus if not gpu.usable]
    sentence += "; only GPUs of one kind are used at a time" if len(equal_groups(inventory)) > 1 else ""
    chosen = f"; {', '.join(inventory.visibility)}" if inventory.visibility else ""
    if not inventory.usable_gpus:
        said = f"no GPU that was found can be used: {'; '.join(unusable)}{chosen}"
        return failure("hardware", DEVICES, said, _remedy(inventory, request))
    if unusable and not inventory.visibility:  # those that a variable hides were meant to be hidden
        return warning("hardware", f"{sentence}; {'; '.join(unusable)}", _remedy(inventory, request))
    if words == "the CPU" and request.hardware.lower() != "cpu":
        remedy = "where there are GPUs, pass them in: docker run --device /dev/kfd --device /dev/dri"
        if not this_site(request.environment).in_container:
            remedy = "where there are GPUs, install AMD's driver (modprobe amdgpu loads it); else say --hardware cpu"
        return warning("hardware", f"only the CPU: {'; '.join(inventory.notes)}", remedy)
    return ok("hardware", sentence + chosen)


def _remedy(inventory: Inventory, request: Request) -> str:
    """What makes the GPUs usable that are not: their device files, where it is these."""
    from aim_engine.hardware.preflight.amd import devices

    lost = tuple(gpu for gpu in inventory.gpus if not gpu.usable)
    needs = replace(_needs_of_anything(request, inventory), gpus=lost)
    site = _site(request)
    remedy = devices(needs, site).remedy if site else inventory.hint
    return remedy or inventory.hint or "aim-engine detect tells more"


def _plan(request: Request, inventory: Inventory) -> tuple[Plan | None, Check]:
    """The plan, where there is one, and what is to be said of it."""
    from aim_engine.backends.registry import backend
    from aim_engine.decide import know
    from aim_engine.hardware.preflight.check import ok, warning
    from aim_engine.hardware.preflight.files import of_error
    from aim_engine.plan import Refusal, make_plan

    try:
        engine = backend(request.backend).find(tuple(sys.path), sys.executable)
        plan = make_plan(request, inventory, know(request, inventory), engine)
    except AimError as error:
        return None, of_error("plan", error)
    if isinstance(plan, Refusal):
        return None, of_error("plan", plan.error)
    sentence = f"{plan.recipe_id} on {plan.winner.gpu_count} x {plan.winner.gpus[0].product}"
    if plan.engine is None and not inventory.declared:
        said = f"{sentence}, but {request.backend} is not installed for this Python"
        return plan, warning("plan", said, "serve it with the aim-engine-unified image, or install the engine here")
    return plan, ok("plan", sentence)


def _needs_of_anything(request: Request, inventory: Inventory | None) -> Needs:
    """Without a plan: what any start on the GPUs that are here might need. No more work together than the largest group
    of equal GPUs has, and partitions not at all.
    """
    from aim_engine.hardware.preflight.check import Needs
    from aim_engine.selection.groups import equal_groups

    gpus = (inventory.usable_gpus or inventory.gpus) if inventory else ()
    largest = next(iter(equal_groups(inventory)), gpus) if inventory else ()
    return Needs(
        planned=False,
        cache_dir=request.cache_dir,
        host=request.host,
        port=request.port,
        health_port=request.health_port,
        gpus=gpus,
        tensor_parallel_size=1 if any(gpu.is_partition for gpu in largest) else min(len(largest), 8) or 1,
    )


def _lines(checks: Sequence[Check], terminal: Terminal) -> Iterable[str]:
    """One line a check, its remedy below; then how many of each there are."""
    width = max(len(check.name) for check in checks)
    plain = not _can_show("".join(mark for mark, _, _ in _MARKS.values()))
    for check in checks:
        mark, ascii_mark, style = _MARKS[check.outcome]
        shown = terminal.paint(style, ascii_mark if plain else mark)
        yield f"{shown} {check.name:<{width}}  {check.sentence}"
        if check.remedy:
            yield f"  {'':<{width}}  {terminal.paint('strong', 'remedy:')} {check.remedy}"
    counts = [(sum(check.outcome == outcome for check in checks), outcome) for outcome in ("error", "warning")]
    yield ""
    yield ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
