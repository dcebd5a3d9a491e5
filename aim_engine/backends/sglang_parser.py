"""A recipe's arguments and environment in, what the INSTALLED sglang's own parser says against them out.

Imports sglang's ServerArgs, which takes seconds; only `validate --engine` does that, in the image's build and in CI. No
engine is started and no GPU is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.util
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from aim_engine.backends.base import Complaint
from aim_engine.backends.sglang_versions import remedy
from aim_engine.errors import EngineRefusedError

_VARIABLE = re.compile(rb"\bSGL(?:ANG)?_[A-Z0-9_]+\b")


class InstalledParser:
    """sglang's argument parser, and every variable that its sources name: it has a registry, and reads others besides.

    Raises:
        EngineRefusedError: sglang cannot be imported here.
    """

    def __init__(self) -> None:
        self._parser = argparse.ArgumentParser(prog="sglang", allow_abbrev=False)
        try:
            # sglang talks on both streams while it is imported; stdout is for results
            with contextlib.redirect_stdout(io.StringIO()):
                from sglang.srt.server_args import ServerArgs

                ServerArgs.add_cli_args(self._parser)
        except (
            Exception
        ) as error:  # a broken installation fails in any way: RuntimeError from torch, OSError from a .so
            raise EngineRefusedError(
                f"sglang's argument parser cannot be imported: {type(error).__name__}: {error}",
                hint="run this where sglang works: in an image that has it",
            ) from None
        self._variables = _named_variables()

    def complaints(self, options: Mapping[str, tuple[str, ...]], env: Mapping[str, str]) -> Iterator[Complaint]:
        """`options` maps an option's name to the words it is written as on the command line."""
        for name, words in options.items():
            if f"--{name}" not in self._parser._option_string_actions:
                yield Complaint(
                    key=f"args.{name}", kind="unknown", sentence=f"is no option of this sglang{self._advice(name)}"
                )
            elif said := self._refusal(words):
                yield Complaint(key=f"args.{name}", kind="ill-typed", sentence=f"is refused by sglang: {said}")
        for name in env:
            if name.startswith(("SGLANG_", "SGL_")) and name not in self._variables:
                near = difflib.get_close_matches(name, sorted(self._variables), n=1, cutoff=0.8)
                hint = f"; did you mean {near[0]}?" if near else ""
                sentence = f"is no variable of this sglang, so it would do nothing{hint}"
                yield Complaint(key=f"env.{name}", kind="unknown", sentence=sentence, replacement="".join(near))

    def _refusal(self, words: tuple[str, ...]) -> str:
        """What the parser says of these words, or ""."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                self._parser.parse_args(["--model-path", "a-model", *words])
            except SystemExit:
                last = said.getvalue().strip().splitlines()[-1:] or [""]
                return last[0].partition("error: ")[2][:300] or "no reason is given"
            except (ValueError, TypeError) as error:
                return str(error)
        return ""

    def _advice(self, name: str) -> str:
        known = [option.removeprefix("--") for option in self._parser._option_string_actions if option[:2] == "--"]
        near = difflib.get_close_matches(name, known, n=1)
        told = remedy(name) or (f"did you mean {near[0]}?" if near else "")
        return f"; {told}" if told else ""


def _named_variables() -> frozenset[str]:
    spec = importlib.util.find_spec("sglang")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found: set[bytes] = set()
    for folder in folders:
        for path in Path(folder, "srt").rglob("*.py"):
            found.update(_VARIABLE.findall(path.read_bytes()))
    return frozenset(name.decode() for name in found)
