"""The flags that say what a container is to be, for the commands that make one or write one down: the parser's group,
and what was typed as a `Wishes`. Knows no plan.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aim_engine.cli.arguments import typed_flags
from aim_engine.errors import InputError
from aim_engine.secret_shapes import looks_like_one
from aim_engine.values import RefusedError, size

if TYPE_CHECKING:
    from aim_engine.deploy.launch_job import Wishes


def add_container_flags(parser: argparse.ArgumentParser, *, user: str) -> Any:
    """The group of flags; `user` is what stands in help for the default of --user."""
    group = parser.add_argument_group("the container")
    group.add_argument("--image", help="the image to run [default aim-engine-unified, from AIM_ENGINE_REGISTRY]")
    group.add_argument("--name", help="its name [default made from the plan]")
    group.add_argument("--network", metavar="NAME", help="a Docker network, or host [default the engine's own]")
    group.add_argument("--memory", metavar="SIZE", help="the most memory it may take: 64g")
    group.add_argument("--memory-swap", metavar="SIZE", help="memory and swap together; -1 is without a limit")
    group.add_argument("--shm-size", metavar="SIZE", help="size of /dev/shm [default from the plan]")
    group.add_argument("--cache", dest="cache_dir", metavar="DIR", help="the same as --cache-dir")
    group.add_argument("--logs", dest="log_dir", metavar="DIR", help="the same as --log-dir")
    group.add_argument("--config", metavar="DIR", help="a folder with recipes/ and models/ of your own")
    group.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]",
                       help="a further variable; without a value the one of your environment")  # fmt: skip
    group.add_argument("--user", metavar="UID[:GID]", help=f"whom it runs as [default {user}]")
    group.add_argument("--restart", default="on-failure:3", metavar="POLICY",
                       help="no, on-failure[:N], always or unless-stopped [default on-failure:3]")  # fmt: skip
    group.add_argument("--log-opt", action="append", default=[], metavar="NAME=VALUE",
                       help="of the json-file log [default max-size=50m max-file=5]")  # fmt: skip
    group.add_argument("--seccomp", choices=("default", "unconfined"), default="default",
                       help="unconfined only for profilers and debuggers")  # fmt: skip
    return group


def wishes_typed(arguments: argparse.Namespace, extra: Mapping[str, str], **more: Any) -> Wishes:
    """What the flags ask for; `more` are the wishes that only one command has flags for.

    Raises:
        InputError: something cannot be used.
    """
    from aim_engine.deploy.launch import check_wishes
    from aim_engine.deploy.launch_job import Wishes

    wishes = Wishes(
        image=arguments.image,
        name=arguments.name,
        network=arguments.network,
        memory_bytes=size_typed(arguments.memory, "--memory"),
        memory_swap_bytes=-1 if arguments.memory_swap == "-1" else size_typed(arguments.memory_swap, "--memory-swap"),
        shm_bytes=size_typed(arguments.shm_size, "--shm-size"),
        user=arguments.user,
        restart=arguments.restart,
        seccomp=None if arguments.seccomp == "default" else arguments.seccomp,
        extra=extra,
        log_options=dict(_pair(word, "--log-opt") for word in arguments.log_opt),
        **more,
    )
    check_wishes(wishes)
    return wishes


def replicas_typed(arguments: argparse.Namespace) -> int:
    """The number of replicas.

    Raises:
        InputError: it is none.
    """
    from aim_engine.deploy.replicas import checked_count

    return 1 if arguments.replicas is None else checked_count(arguments.replicas)


def settings_typed(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What was typed of the settings, with --config as the folders in it."""
    typed = typed_flags(arguments)
    if arguments.config is not None:
        typed |= _config_folders(arguments.config, typed)
    return typed


def _config_folders(config: str, typed: Mapping[str, str | None]) -> dict[str, str | None]:
    found = {}
    for field, name in (("recipes_dir", "recipes"), ("models_dir", "models")):
        folder = os.path.join(config, name)  # noqa: PTH118 - a typed text stays one
        if typed[field] is None and os.path.isdir(folder):  # noqa: PTH112
            found[field] = folder
    if not os.path.isdir(config):  # noqa: PTH112
        what = "it is no folder" if os.path.exists(config) else "there is no such folder"  # noqa: PTH110
        raise InputError(f"--config {config}: {what}", hint="name the folder that recipes/ and models/ are in")
    if not found and typed["recipes_dir"] is None and typed["models_dir"] is None:
        raise InputError(f"--config {config}: neither recipes/ nor models/ is in it", hint="name the folder above them")
    return dict(found)


def variables_typed(words: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value of our own environment, as docker's --env.

    Raises:
        InputError: a name is not set, cannot be a variable, or is a setting's.
    """
    from aim_engine.deploy.inside import checked_variables

    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals and name not in environment:
            raise InputError(f"--env {name}: it is not set in your environment", hint="use --env NAME=VALUE")
        found[name] = value if equals else environment[name]
    return checked_variables(found)


def variables_written(words: list[str]) -> dict[str, str]:
    """Those with a value, for a file that others read.

    Raises:
        InputError: a name cannot be a variable, or is a setting's; or a value is a secret by its shape.
    """
    found = variables_typed([word for word in words if "=" in word], {})
    for name, value in found.items():
        if looks_like_one(value):
            raise InputError(
                f"--env {name}=...: its value holds a key or a password, and the file would be read by others",
                hint=f"use --env {name}: whoever uses the file supplies the value (for a cluster, from the secret)",
            )
    return found


def _pair(word: str, flag: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise InputError(f"{flag} {word[:80]!r} is not NAME=VALUE", hint=f"use {flag} max-size=50m")
    return name, value


def size_typed(text: str | None, flag: str) -> int | None:
    """A typed size in bytes.

    Raises:
        InputError: it is none.
    """
    if text is None:
        return None
    try:
        return size(1)(text)
    except RefusedError as refusal:
        raise InputError(f"{flag} {text[:40]!r} is no size", hint=f"{refusal}") from None
