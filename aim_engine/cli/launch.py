"""`aim-engine launch MODEL [GPUS]`: plan, create and start a container of the model, and test that it answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aim_engine.cli.arguments import add_model, add_settings
from aim_engine.cli.container_flags import (
    add_container_flags,
    replicas_typed,
    settings_typed,
    variables_typed,
    wishes_typed,
)
from aim_engine.cli.interrupts import interrupted_once
from aim_engine.cli.steps import Steps
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, InputError, UsageError
from aim_engine.request import Request, read_request
from aim_engine.values import RefusedError, seconds

if TYPE_CHECKING:
    from aim_engine.deploy.launch_job import Wishes
    from aim_engine.engine import AIMEngine

_DESCRIPTION = """Start a container that serves the model on GPUs of this host that are free, and wait until it answers.

The plan is made as `aim-engine plan` makes it; GPUs that another endpoint or process has are left alone, and two
launches at once never take the same. What was created is removed again when it fails, or is interrupted.
"""
_EXAMPLES = """examples:
  aim-engine launch Qwen/Qwen3-32B                          on as many GPUs as suit it
  aim-engine launch Qwen/Qwen3-32B 4 --precision bf16       on exactly four
  aim-engine launch Qwen/Qwen3-32B 2 --replicas 4           four endpoints, each on two; GPUs are divided without the 2
  aim-engine launch ./my-model --host 127.0.0.1 --cache /data/cache --detach
  aim-engine launch Qwen/Qwen3-32B --hardware MI300X:8 --dry-run
                                                            the docker run line; nothing is created

--port and --health-port are the host's, by default the next free ones of --port-range; of replicas they are the first
one's, and the others' follow. AIM_API_KEY and HF_TOKEN are taken from your environment (or files: AIM_API_KEY_FILE) and
reach the container as files.
"""
_MODES = ("auto", "devices", "cdi", "runtime")


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "launch", mixed=True, help="serve a model in a container of its own", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_model(parser)
    parser.add_argument("gpus_word", nargs="?", metavar="GPUS", help="the same as --gpus")
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", action="store_true", help="until it is ready and has answered once [default]")
    waiting.add_argument("--detach", action="store_true", help="do not wait for it")
    parser.add_argument("--timeout", metavar="SECONDS", help="how long to wait for it [default from the model's size]")
    parser.add_argument("--dry-run", action="store_true", help="print the docker run line, and create nothing")
    parser.add_argument(
        "--replicas", metavar="N", help="so many endpoints at once, each on GPUs of its own [default 1]"
    )
    parser.add_argument("--keep", action="store_true", help="leave a container that fails, to look at it")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    group = add_container_flags(parser, user="the owner of --cache or --logs")
    group.add_argument("--device-mode", choices=_MODES, default="auto",
                       help="how the GPUs reach it: by CDI or AMD's runtime [default device files]")  # fmt: skip
    add_settings(parser, serving=True, launching=True)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    try:
        with interrupted_once(terminal.warn), Steps(terminal) as steps:
            result = _launch(arguments, steps, environment)
    except AimError as error:
        if arguments.json:
            terminal.result_json({"success": False, "error": error.as_json()})
        raise
    except (KeyboardInterrupt, SystemExit) as stop:
        return _interrupted(stop, arguments, terminal)
    try:
        if arguments.json:
            terminal.result_json(result)
        else:
            terminal.result(_in_words(result))
    except AimError as error:
        error.details += tuple(_running_all_the_same(result))
        raise
    return 0


def _interrupted(stop: BaseException, arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Say what became of it, last as JSON; the exit code is 128 and the signal's number."""
    code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
    what = "; ".join(getattr(stop, "__notes__", ())) or "nothing was made"
    words = {"class": "Interrupted", "code": code, "message": f"interrupted: {what}", "hint": "", "retryable": True}
    if arguments.json:
        terminal.result_json({"success": False, "error": words})
    terminal.say(str(words["message"]))
    terminal.last_words(words)
    return code


def _running_all_the_same(result: Mapping[str, Any]) -> Iterator[str]:
    """Where the result could not be written."""
    for one in result.get("replicas", [result]):
        if name := one.get("container_name"):
            yield f"the endpoint runs all the same: aim-engine status {name}; aim-engine stop {name}"


def _launch(arguments: argparse.Namespace, steps: Steps, environment: dict[str, str]) -> dict[str, Any]:
    from aim_engine.engine import AIMEngine

    steps.begin("validate")
    extra = variables_typed(arguments.env, environment)
    request = read_request(_flags(arguments), {**environment, **extra}, ports_follow=True)
    wishes = _wishes(arguments, extra)
    steps.end(request.required_model)
    with AIMEngine(environment=environment) as engine:
        if arguments.dry_run:
            return _dry(engine, request, wishes, steps)
        return engine.launch(request, wishes, steps).as_json()


def _wishes(arguments: argparse.Namespace, extra: Mapping[str, str]) -> Wishes:
    return wishes_typed(
        arguments,
        extra,
        device_mode=arguments.device_mode,
        replicas=replicas_typed(arguments),
        keep=arguments.keep,
        wait=not arguments.detach,
        timeout_seconds=_timeout(arguments.timeout),
    )


def _flags(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What was typed, with the second word as the number of GPUs."""
    typed = settings_typed(arguments)
    word = arguments.gpus_word
    if word is not None and typed["gpu_count"] not in (None, word):
        raise UsageError(f"two numbers of GPUs were given: {word} and --gpus {typed['gpu_count']}", hint="give one")
    return {**typed, "gpu_count": typed["gpu_count"] if word is None else word}


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return seconds(1)(text)
    except RefusedError as refusal:
        raise InputError(f"--timeout: {text[:40]!r} is not legal", hint=f"{refusal}") from None


def _dry(engine: AIMEngine, request: Request, wishes: Wishes, steps: Steps) -> dict[str, Any]:
    from aim_engine.deploy.docker_words import run_line, run_words

    specs = [decision.spec for decision in engine.dry_run(request, wishes, steps)]
    for one in specs[0].passed:
        steps.warn(f"this line takes {one.name} from your environment, and docker inspect would show it; a launch "
                   "gives it as a file")  # fmt: skip
    lines = [{"line": run_line(spec), "argv": run_words(spec)} for spec in specs]
    return {"success": True, "dry_run": True, **lines[0], **({"replicas": lines} if len(lines) > 1 else {})}


def _in_words(result: Mapping[str, Any]) -> str:
    if result.get("dry_run"):
        return "\n".join(one["line"] for one in result.get("replicas", [result]))
    several = result.get("replicas", [result])
    lines = [line for one in several for line in _lines(one)]
    together = " --replicas" if len(several) > 1 else ""
    return "\n".join([*lines, f"  stop    aim-engine stop {result['container_name']}{together}"])


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['container_name']} is {result['status']}"
    yield f"  api     {result['api_url'] or 'not published'}"
    yield f"  model   {result['served_model']}"
    yield f"  health  {result['health_url']}/health/ready" if result["health_url"] else "  health  not published"
    if result["test"]:
        test = result["test"]
        yield f"  tested  {test['completion_tokens']} tokens in {test['latency_seconds']:.2f} s"
    if result["log_file"]:
        yield f"  log     {result['log_file']}"
