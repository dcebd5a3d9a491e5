"""A recipe's arguments and environment in, what the INSTALLED vLLM's own parser says against them out.

Imports vLLM, which takes seconds; only `validate --engine` does that, in the image's build and in CI. No engine is
started and no GPU is needed: the parser is the same on every platform.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

from aim_engine.backends.base import Complaint
from aim_engine.backends.vllm_platforms import advice
from aim_engine.errors import EngineRefusedError

# Where the two live, newest first: vLLM moved them (vllm.utils in 0.9, vllm.entrypoints.launchers since 0.3x).
_PARSER_CLASS = (("vllm.utils.argparse_utils", "FlexibleArgumentParser"), ("vllm.utils", "FlexibleArgumentParser"))
_MAKE_PARSER = (("vllm.entrypoints.launchers.cli_args", "make_arg_parser"),
                ("vllm.entrypoints.openai.cli_args", "make_arg_parser"))  # fmt: skip


class InstalledParser:
    """vLLM's argument parser and environment registry, as installed.

    Raises:
        EngineRefusedError: vLLM cannot be imported here.
    """

    def __init__(self) -> None:
        # vLLM talks on both streams while it is imported; stdout is for results
        with contextlib.redirect_stdout(io.StringIO()):
            parser_class, make_parser = _first(_PARSER_CLASS), _first(_MAKE_PARSER)
            self._parser: Any = make_parser(parser_class(prog="vllm serve"))
            self._variables: Mapping[str, Any] = importlib.import_module("vllm.envs").environment_variables

    def complaints(self, options: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> Iterator[Complaint]:
        """`options` maps an option's name to the words it is written as on the command line."""
        for name, words in options.items():
            if f"--{name}" not in self._parser._option_string_actions:
                yield Complaint(key=f"args.{name}", sentence=f"is no option of this vLLM{self._remedy(name)}")
            elif said := self._refusal(words):
                yield Complaint(key=f"args.{name}", sentence=f"is refused by vLLM: {said}")
        for name in env:
            if name.startswith("VLLM_") and name not in self._variables:
                near = difflib.get_close_matches(name, list(self._variables), n=1, cutoff=0.8)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield Complaint(
                    key=f"env.{name}", sentence=f"is no variable of this vLLM, so it would do nothing{hint}"
                )

    def _refusal(self, words: tuple[str, ...]) -> str:
        """What the parser says of these words, or ""."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                self._parser.parse_args(["a-model", *words])
            except SystemExit:
                last = said.getvalue().strip().splitlines()[-1:] or [""]
                return last[0].partition("error: ")[2] or "no reason is given"
            except (ValueError, TypeError) as error:
                return str(error)
        return ""

    def _remedy(self, name: str) -> str:
        if told := advice(name):
            return f"; {told}"
        known = [option.removeprefix("--") for option in self._parser._option_string_actions if option[:2] == "--"]
        near = difflib.get_close_matches(name, known, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def _first(places: tuple[tuple[str, str], ...]) -> Any:
    reason = ""
    for module, name in places:
        try:
            return getattr(importlib.import_module(module), name)
        except (
            Exception
        ) as error:  # a broken installation fails in any way: RuntimeError from torch, OSError from a .so
            reason = reason or f"{type(error).__name__}: {error}"
    raise EngineRefusedError(
        f"vLLM's argument parser cannot be imported: {reason}",
        hint="run this where vLLM works: in the image, or after scripts/setup cpu",
    )
