"""`aim-engine launch MODEL [GPUS]`: plan, create and start a container of the model, and test that it answers."""

from __future__ import annotations

import argparse
import os
import signal
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from aim_engine.cli.arguments import add_model, add_settings, typed_flags
from aim_engine.cli.steps import Steps
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, DockerError, InputError, UsageError
from aim_engine.request import Request, read_request
from aim_engine.values import RefusedError, seconds

if TYPE_CHECKING:
    from docker import DockerClient

    from aim_engine.deploy.launch_create import Job, Wishes
    from aim_engine.hardware.inventory import Inventory
    from aim_engine.plan import Plan, Refusal

_DESCRIPTION = """Start a container that serves the model on GPUs of this host that are free, and wait until it answers.

The plan is made as `aim-engine plan` makes it; GPUs that another endpoint or process has are left alone, and two
launches at once never take the same. What was created is removed again when it fails, or is interrupted.
"""
_EXAMPLES = """examples:
  aim-engine launch Qwen/Qwen3-32B                          on as many GPUs as suit it
  aim-engine launch Qwen/Qwen3-32B 4 --precision bf16       on exactly four
  aim-engine launch ./my-model --host 127.0.0.1 --cache /data/cache --detach
  aim-engine launch Qwen/Qwen3-32B --hardware MI300X:8 --dry-run
                                                            the docker run line; nothing is created

--port and --health-port are the host's, by default the next free ones of --port-range. AIM_API_KEY and HF_TOKEN are
taken from your environment (or files: AIM_API_KEY_FILE) and reach the container as files.
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
    parser.add_argument("--keep", action="store_true", help="leave a container that fails, to look at it")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    _add_container_flags(parser)
    add_settings(parser, serving=True, launching=True)


def _add_container_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the container")
    group.add_argument("--image", help="the image to run [default aim-engine-unified, from AIM_ENGINE_REGISTRY]")
    group.add_argument("--name", help="its name [default made from the plan]")
    group.add_argument("--network", metavar="NAME", help="a Docker network, or host [default the engine's own]")
    group.add_argument("--memory", metavar="SIZE", help="the most memory it may take: 64g")
    group.add_argument("--memory-swap", metavar="SIZE", help="memory and swap together; -1 is without a limit")
    group.add_argument("--shm-size", metavar="SIZE", help="size of /dev/shm [default from the plan]")
    group.add_argument("--cache", dest="cache_dir", metavar="DIR", help="the same as --cache-dir")
    group.add_argument("--config", metavar="DIR", help="a folder with recipes/ and models/ of your own")
    group.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]",
                       help="a further variable; without a value the one of your environment")  # fmt: skip
    group.add_argument("--user", metavar="UID[:GID]", help="whom it runs as [default the owner of --cache]")
    group.add_argument("--restart", default="on-failure:3", metavar="POLICY",
                       help="no, on-failure[:N], always or unless-stopped [default on-failure:3]")  # fmt: skip
    group.add_argument("--log-opt", action="append", default=[], metavar="NAME=VALUE",
                       help="of the json-file log [default max-size=50m max-file=5]")  # fmt: skip
    group.add_argument("--device-mode", choices=_MODES, default="auto",
                       help="how the GPUs reach it: by CDI or AMD's runtime [default device files]")  # fmt: skip
    group.add_argument("--seccomp", choices=("default", "unconfined"), default="default",
                       help="unconfined only for profilers and debuggers")  # fmt: skip


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    before = signal.signal(signal.SIGTERM, _end)  # by the way of ^C: nothing half-made stays
    try:
        with Steps(terminal) as steps:
            result = _launch(arguments, steps, environment)
    except AimError as error:
        if arguments.json:
            terminal.result_json({"success": False, "error": error.as_json()})
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if arguments.json:
        terminal.result_json(result)
    else:
        terminal.result(result["line"] if arguments.dry_run else _in_words(result))
    return 0


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def _launch(arguments: argparse.Namespace, steps: Steps, environment: dict[str, str]) -> dict[str, Any]:
    with ThreadPoolExecutor(1) as pool:
        steps.begin("validate")
        connecting = pool.submit(_connect, environment)  # asking the engine takes as long as looking at the hardware
        extra = _variables(arguments.env, environment)
        request = read_request(_flags(arguments), {**environment, **extra}, ports_follow=True)
        wishes = _wishes(arguments, extra)
        steps.end(request.required_model)
        for text in request.warnings:
            steps.warn(text)
        from aim_engine.decide import look

        steps.begin("detect")
        inventory = look(request)
        steps.end(inventory.in_words())
        job = _job(request, inventory, wishes, environment, steps)
        client = _client(connecting, dry=arguments.dry_run, steps=steps)
    if client is None:
        return _dry(None, job, steps)
    with closing(client):
        if arguments.dry_run:
            return _dry(client, job, steps)
        from aim_engine.deploy.launch import launch

        return launch(client, job, steps).as_json()


def _connect(environment: Mapping[str, str]) -> DockerClient:
    from aim_engine.deploy.docker import connect

    return connect(environment)


def _client(connecting: Future[DockerClient], *, dry: bool, steps: Steps) -> DockerClient | None:
    try:
        return connecting.result()
    except DockerError as error:
        if not dry:
            raise
        steps.warn(f"{error.message}: names, ports and GPUs that are taken are not known")
        return None


def _job(request: Request, inventory: Inventory, wishes: Wishes, environment: Mapping[str, str], steps: Steps) -> Job:
    from aim_engine.deploy.launch_create import Job

    return Job(
        request=request,
        inventory=inventory,
        planner=_Planner(),
        wishes=wishes,
        environment=environment,
        token=uuid.uuid4().hex,
        warn=steps.warn,
    )


class _Planner:
    """Plans for what a host's containers leave. The catalogue is read once; the engine is the image's, not known
    here.
    """

    def __init__(self) -> None:
        self._catalog: Any = None

    def __call__(self, request: Request, inventory: Inventory) -> Plan | Refusal:
        from aim_engine.decide import know
        from aim_engine.plan import make_plan

        if self._catalog is None:
            self._catalog = know(request, inventory)
        return make_plan(request, inventory, self._catalog)


def _wishes(arguments: argparse.Namespace, extra: Mapping[str, str]) -> Wishes:
    from aim_engine.deploy.launch import check_wishes
    from aim_engine.deploy.launch_create import Wishes

    wishes = Wishes(
        image=arguments.image,
        name=arguments.name,
        network=arguments.network,
        memory_bytes=_size(arguments.memory, "--memory"),
        memory_swap_bytes=-1 if arguments.memory_swap == "-1" else _size(arguments.memory_swap, "--memory-swap"),
        shm_bytes=_size(arguments.shm_size, "--shm-size"),
        user=arguments.user,
        restart=arguments.restart,
        seccomp=None if arguments.seccomp == "default" else arguments.seccomp,
        device_mode=arguments.device_mode,
        extra=extra,
        log_options=dict(_pair(word, "--log-opt") for word in arguments.log_opt),
        keep=arguments.keep,
        wait=not arguments.detach,
        timeout_seconds=_timeout(arguments.timeout),
    )
    check_wishes(wishes)
    return wishes


def _flags(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What was typed, with the second word as the number of GPUs, and --config as the folders in it."""
    typed = typed_flags(arguments)
    word = arguments.gpus_word
    if word is not None and typed["gpu_count"] not in (None, word):
        raise UsageError(f"two numbers of GPUs were given: {word} and --gpus {typed['gpu_count']}", hint="give one")
    typed["gpu_count"] = typed["gpu_count"] if word is None else word
    if arguments.config is not None:
        typed |= _config_folders(arguments.config, typed)
    return typed


def _config_folders(config: str, typed: Mapping[str, str | None]) -> dict[str, str | None]:
    found = {}
    for field, name in (("recipes_dir", "recipes"), ("models_dir", "models")):
        folder = os.path.join(config, name)  # noqa: PTH118 - a typed text stays one
        if typed[field] is None and os.path.isdir(folder):  # noqa: PTH112
            found[field] = folder
    if not found and typed["recipes_dir"] is None and typed["models_dir"] is None:
        raise InputError(f"--config {config}: neither recipes/ nor models/ is in it", hint="name the folder above them")
    return dict(found)


def _variables(words: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value of our own environment, as docker's --env."""
    from aim_engine.deploy.inside import checked_variables

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name not in environment:
            raise InputError(f"--env {name}: it is not set in your environment", hint="use --env NAME=VALUE")
        found[name] = value if equals else environment[name]
    return checked_variables(found)


def _pair(word: str, flag: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise InputError(f"{flag} {word[:80]!r} is not NAME=VALUE", hint=f"use {flag} max-size=50m")
    return name, value


def _timeout(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return seconds(1)(text)
    except RefusedError as refusal:
        raise InputError(f"--timeout: {text[:40]!r} is not legal", hint=f"{refusal}") from None


_UNITS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def _size(text: str | None, flag: str) -> int | None:
    """`16g`, `512m` or bytes, as docker reads sizes."""
    if text is None:
        return None
    number, unit = (text, "b") if text[-1:].isdigit() else (text[:-1], text[-1:].lower())
    if unit in _UNITS and number.isascii() and number.isdigit() and len(number) <= 15 and int(number):
        return int(number) * int(1024 ** _UNITS[unit])
    raise InputError(f"{flag} {text[:40]!r} is no size", hint="use a whole number and b, k, m, g or t: 64g")


def _dry(client: DockerClient | None, job: Job, steps: Steps) -> dict[str, Any]:
    from aim_engine.deploy.docker_words import run_words
    from aim_engine.deploy.launch import dry_run

    steps.begin("plan")
    line, decision = dry_run(client, job)
    steps.end(decision.plan.recipe_id)
    for one in decision.spec.passed:
        steps.warn(f"this line takes {one.name} from your environment, and docker inspect would show it; a launch "
                   "gives it as a file")  # fmt: skip
    return {"success": True, "dry_run": True, "line": line, "argv": run_words(decision.spec)}


def _in_words(result: Mapping[str, Any]) -> str:
    lines = [f"{result['container_name']} is {result['status']}"]
    lines.append(f"  api     {result['endpoint_url']}/v1")
    lines.append(f"  health  {result['health_url']}/health/ready")
    if result["test"]:
        test = result["test"]
        lines.append(f"  tested  {test['completion_tokens']} tokens in {test['latency_seconds']:.2f} s")
    lines.append(f"  stop    aim-engine stop {result['container_name']}")
    return "\n".join(lines)
