"""The command `aim-engine`: the parser, and the boundary where every failure becomes a sentence and an exit code."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import re
import sys
from collections.abc import Sequence

from aim_engine import __version__
from aim_engine.cli.arguments import Parser, flags_of
from aim_engine.cli.terminal import Terminal
from aim_engine.errors import AimError, InternalError, UsageError

# One file per command in aim_engine/cli; each has `add_to(subparsers)` and `run(arguments, terminal, environment)`.
_COMMANDS = (
    "plan", "serve", "recipes", "recipe", "models", "fit", "detect", "doctor", "validate", "schema", "render",
    "settings", "completion", "launch", "configs", "list", "status", "logs", "stop", "restart", "watch",
)  # fmt: skip
_ALIASES = {"dry-run": "plan", "list-profiles": "recipes"}

_NEAR = 0.75  # how like a flag a word must be to be taken for a misspelling of it: two letters changed places in four

_DESCRIPTION = """Serve a language model on AMD GPUs with the best settings known for it.

  aim-engine plan Qwen/Qwen3-32B --hardware MI300X:8   what would be served, and why (no GPU needed)
  aim-engine serve Qwen/Qwen3-32B                      serve it on what is here
  aim-engine recipes Qwen/Qwen3-32B                    every recipe and its state on this hardware
"""
_EPILOG = """exit codes: 0 done or drained, 2 usage, 10 input, 20 no usable accelerator, 21 does not fit in memory,
30 no recipe, 31 bad catalogue, 40 model not accessible, 41 hub unreachable, 42 disk or cache, 50 engine refused its
configuration, 51 engine crashed, 52 engine did not start in time, 53 engine hung, 60 Docker, 61 endpoint,
70 a bug in AIM Engine. The last line on stderr repeats class, message and remedy as JSON."""


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole parser, or, to start faster, one that knows in detail only the command asked for."""
    parser = Parser(prog="aim-engine", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"aim-engine {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in _COMMANDS if only is None else (only,):
        importlib.import_module(f"aim_engine.cli.{command}").add_to(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # Nothing a command makes is worth collecting before it ends: a tenth of a plan's time.
    gc.disable()
    _open_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    environment = dict(os.environ)
    terminal = Terminal(environment)
    try:
        return _run(words, terminal, environment)
    except AimError as error:
        terminal.fail(error)
        return error.code
    except KeyboardInterrupt:
        terminal.say("interrupted")
        return 130
    except BrokenPipeError:
        # the reader of our output has left (| head); python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _bug(error, terminal, environment)


def _open_streams() -> None:
    """A closed stdout or stderr reads as None, and its number would go to the next file that is opened. Writing to a
    closed stdout fails, as it must: the result would be lost.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123 - for good


def _run(words: list[str], terminal: Terminal, environment: dict[str, str]) -> int:
    first = words[0] if words else ""
    command = _ALIASES.get(first, first)
    if first and not first.startswith("-") and command not in _COMMANDS:
        raise _no_command(first)
    _check_values(words)
    parser = build_parser(command if command in _COMMANDS else None)
    if not words:
        terminal.say(parser.format_help())
        raise UsageError("no command was given", hint="aim-engine --help explains the commands")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        raise _unknown_words(unknown, arguments.command)
    module = importlib.import_module(f"aim_engine.cli.{_ALIASES.get(arguments.command, arguments.command)}")
    code: int = module.run(arguments, terminal, environment)
    return code


def _check_values(words: list[str]) -> None:
    """argparse takes the value of `--flag=--` away and hands on an empty list (Python 3.11 to 3.12)."""
    for word in words[: words.index("--")] if "--" in words else words:
        if re.fullmatch(r"(--[a-z][-a-z]*=|-[a-zA-Z])--", word):
            raise UsageError(f"{word!r}: '--' is no value of a flag", hint="aim-engine COMMAND --help lists the flags")


def _no_command(word: str) -> UsageError:
    """The image's entry point asks here too, for whatever is no program."""
    import difflib

    hint = "aim-engine --help explains the commands"
    near = difflib.get_close_matches(word, (*_COMMANDS, *_ALIASES), n=1)
    if near and "/" not in word:
        hint = f"did you mean {near[0]}? {hint}"
    elif "/" in word:
        hint = (
            f"to serve a model: aim-engine serve {word}; in a container: docker run -e AIM_MODEL={word} IMAGE; {hint}"
        )
    return UsageError(f"{word!r} is neither a command of aim-engine nor a program", hint=hint)


def _unknown_words(unknown: list[str], command: str) -> UsageError:
    """What was not understood, with the nearest flag of that command."""
    import difflib

    flags = {flag.lstrip("-"): flag for flag in flags_of(build_parser(_ALIASES.get(command, command)), command)}
    word = unknown[0].partition("=")[0].lstrip("-")
    cut = [flag for name, flag in flags.items() if len(word) > 2 and name.startswith(word)]
    near = cut or [flags[name] for name in difflib.get_close_matches(word, flags, n=1, cutoff=_NEAR)]
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(f"{unknown[0]!r} is not understood", hint=f"{hint}aim-engine {command} --help lists the flags")


def _bug(error: Exception, terminal: Terminal, environment: dict[str, str]) -> int:
    if environment.get("AIM_LOG_LEVEL", "").lower() == "debug":
        import traceback

        terminal.say("".join(traceback.format_exception(error)))
    bug = InternalError(
        f"a bug in AIM Engine: {type(error).__name__}: {error}",
        hint="please report it; AIM_LOG_LEVEL=debug shows where it happened",
    )
    terminal.fail(bug)
    return bug.code


if __name__ == "__main__":
    sys.exit(main())
