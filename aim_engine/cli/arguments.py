"""The flags, made from the settings' one declaration; every command takes those that concern it."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from aim_engine.cli.terminal import unwritten
from aim_engine.errors import UsageError
from aim_engine.request import SETTINGS, Request, Setting

# What only a running server needs; the commands that merely plan leave these flags out of their help.
_SERVING = {
    "keep_alive", "sanity", "image_cache", "start_timeout", "stall_timeout", "hang_timeout", "canary_seconds",
    "drain_timeout", "fallback", "state_dir", "log_level", "log_format", "expect_plan", "log_dir", "log_name",
    "log_file_size", "log_file_count",
}  # fmt: skip
# What only `launch` needs.
LAUNCHING = {"port_range", "engine_registry"}

# What a value is called in help, by what is legal; where nothing is said the flag's own last word.
_METAVARS = {
    "a recipe id": "RECIPE", "an address": "ADDRESS", "a folder": "DIR", "a file": "FILE", "a JSON object": "JSON",
    "seconds": "SECONDS", "auto or seconds": "SECONDS", "recipe, auto or tokens": "TOKENS", "1 or more": "COUNT",
    "registry/path": "REGISTRY", "a name": "NAME", "a size": "SIZE",
    "detect, MI300X:8, cpu, a file or a folder": "WHAT",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UsageError`s, so that they end like every other error. With `mixed`
    positional words may stand behind flags too.
    """

    def __init__(self, *, mixed: bool = False, **kwargs: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **kwargs})
        self._mixed = mixed

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse takes an optional word for missing as soon as a flag comes first; its own way round that calls this
        again.
        """
        if not self._mixed:
            return super().parse_known_args(args, namespace)
        self._mixed = False
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixed = True

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        try:
            sys.stdout.flush()  # while a reader that has left can still be answered quietly
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritten(error) from None
        super().exit(status, message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own passes over an output that takes nothing."""
        try:
            (file or sys.stderr).write(message)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unwritten(error) from None

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help explains the command")


def flags_of(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Every flag of one of the parser's commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) and command in action.choices:
            return sorted(action.choices[command]._option_string_actions)
    return []


def add_model(parser: argparse.ArgumentParser, *, help_text: str = "Hugging Face id or model folder") -> None:
    """The model, as the command's argument."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"{help_text} (or AIM_MODEL)")
    parser.add_argument("--model", dest="model_flag", metavar="MODEL", help="the same, as a flag")


# What says how much memory a model needs and where; nothing of a server.
FITTING = frozenset({
    "precision", "max_model_len", "concurrency", "hardware", "detect_timeout", "backend", "engine_args", "models_dir",
    "recipes_dir", "cache_dir", "offline", "revision", "hub_timeout", "nodes",
})  # fmt: skip


def add_settings(
    parser: argparse.ArgumentParser,
    *,
    serving: bool = False,
    launching: bool = False,
    only: frozenset[str] | None = None,
) -> None:
    """A flag for each setting that is not a secret, or for those named: secrets never stand in argv."""
    left_out = (set() if serving or launching else _SERVING) | (set() if launching else LAUNCHING)
    left_out |= {setting.field for setting in SETTINGS if only is not None and setting.field not in only}
    group = parser.add_argument_group("settings (a flag wins over its variable, that over the recipe)")
    for setting in SETTINGS:
        if setting.secret or setting.field == "model" or setting.field in left_out:
            continue
        _add_flag(group, setting)


def unknown_numbers(request: Request) -> str:
    """What to do where a model's layers and heads are not known."""
    if request.offline:
        return "without AIM_OFFLINE the hub would be asked for its config.json; or name the model's folder"
    return (
        "neither a card nor a config.json tells its layers, heads and precision: where the hub can be reached it is "
        "asked; or download the model's config.json and weights, and name their folder"
    )


def choices(setting: Setting) -> tuple[str, ...]:
    """A setting's legal words, where there are but a few of them."""
    words = tuple(setting.legal.split())
    listed = len(words) > 1 and not {"a", "an", "or"} & set(words)  # or it is a description
    return words if listed and all(word.isalnum() and word.islower() for word in words) else ()


def _add_flag(group: Any, setting: Setting) -> None:
    name = _METAVARS.get(setting.legal, setting.field.rpartition("_")[2].upper())
    default = f"; default {setting.default}" if setting.default is not None else ""
    described = f"{setting.meaning} [{setting.variable}{default}]".replace("%", "%%")
    options: dict[str, Any] = {"dest": setting.field, "help": described, "metavar": "|".join(choices(setting)) or name}
    if setting.switch:
        options |= {"nargs": "?", "const": "1", "metavar": "0|1"}
    group.add_argument(setting.flag, *setting.extra_flags, **options)


def typed_flags(arguments: argparse.Namespace) -> dict[str, str | None]:
    """What was typed, by setting field, as text.

    Raises:
        UsageError: two models were named.
    """
    typed = {setting.field: getattr(arguments, setting.field, None) for setting in SETTINGS}
    flag = getattr(arguments, "model_flag", None)
    if flag is not None and typed["model"] not in (None, flag):
        raise UsageError(f"two models were named: {typed['model']} and --model {flag}", hint="name one")
    return {**typed, "model": flag if flag is not None else typed["model"]}
