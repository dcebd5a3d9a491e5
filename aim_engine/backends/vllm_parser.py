"""A recipe's arguments in, what the INSTALLED vLLM's own parser says against them out.

Imports vLLM, which takes seconds; only `validate --engine` does that, in the image's build and in CI. No engine is
started and no GPU is needed: the parser is the same on every platform.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import importlib
import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from aim_engine.backends.base import Complaint
from aim_engine.errors import EngineRefusedError

# Where the two live, newest first: vLLM moved them (vllm.utils until 0.11, vllm.entrypoints.openai until 0.28).
_PARSER_CLASS = (("vllm.utils.argparse_utils", "FlexibleArgumentParser"), ("vllm.utils", "FlexibleArgumentParser"))
_ARGUMENTS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
_TOOL_PARSERS = (
    ("vllm.tool_parsers", "ToolParserManager"),
    ("vllm.entrypoints.openai.tool_parsers", "ToolParserManager"),
)
# Options whose words the parser takes as they come: the engine looks them up in a table of its own, later. With each
# the option that adds words to the table.
_TABLES: Mapping[str, tuple[tuple[tuple[str, str], ...], str]] = {
    "tool-call-parser": (_TOOL_PARSERS, "tool-parser-plugin"),
    "reasoning-parser": ((("vllm.reasoning", "ReasoningParserManager"),), "reasoning-parser-plugin"),
    "quantization": ((("vllm.model_executor.layers.quantization", "QUANTIZATION_METHODS"),), ""),
    "attention-backend": ((("vllm.v1.attention.backends.registry", "AttentionBackendEnum"),), ""),
    "load-format": ((("vllm.model_executor.model_loader", "_LOAD_FORMAT_TO_MODEL_LOADER"),), ""),
}
_WITHDRAWN = (("vllm.model_executor.layers.quantization", "DEPRECATED_QUANTIZATION_METHODS"),)
# Options that are maps to the parser and a class of vLLM's to the engine.
_CLASSES = {"speculative-config": (("vllm.config", "SpeculativeConfig"),)}


class InstalledParser:
    """vLLM's argument parser, as installed in `version`.

    Raises:
        EngineRefusedError: vLLM cannot be imported here.
    """

    def __init__(self, version: str | None) -> None:
        # vLLM talks on both streams while it is imported; stdout is for results
        with contextlib.redirect_stdout(io.StringIO()), some_platform(version), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arguments = _first(tuple((module, "") for module in _ARGUMENTS))
            self._parser: Any = arguments.make_arg_parser(_first(_PARSER_CLASS)(prog="vllm serve"))
        self._validate: Callable[[Any], None] = getattr(arguments, "validate_parsed_serve_args", lambda _parsed: None)
        self._judge = cache(self._judged)

    @property
    def names(self) -> list[str]:
        """Every long option, without its dashes."""
        long = [option for option in self._parser._option_string_actions if option.startswith("--")]
        return sorted(option.removeprefix("--") for option in long)

    def complaints(self, options: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]) -> Iterator[Complaint]:
        """`options` maps an option's name to the words it is written as on the command line, `values` to its value."""
        found = [complaint for name, words in options.items() for complaint in self._judge(name, words)]
        for name, value in values.items():
            found += _lookup_complaints(name, value, values)
        yield from found
        if not any(not one.is_warning for one in found) and (said := self._contradiction(options)):
            yield Complaint(key="args", kind="engine", sentence=f"is refused by vLLM: {said}")

    def _judged(self, name: str, words: tuple[str, ...]) -> tuple[Complaint, ...]:
        key, action = f"args.{name}", self._parser._option_string_actions.get(f"--{name}")
        if action is None:
            near = nearest(name, self.names)
            return (Complaint(key=key, kind="unknown", sentence=f"is no option of this vLLM{did_you_mean(near)}",
                              replacement=near),)  # fmt: skip
        if said := self._refusal(words):
            return (Complaint(key=key, kind="ill-typed", sentence=f"is refused by vLLM: {said}"),)
        if (told := self._deprecation(action)) is not None:
            return (Complaint(key=key, kind="deprecated", sentence=f"is deprecated in this vLLM{told}",
                              is_warning=True),)  # fmt: skip
        return ()

    def _refusal(self, words: Sequence[str]) -> str:
        """What the parser says of these words, or ""."""
        return _refused(lambda: self._parser.parse_args(["a-model", *words]))

    def _contradiction(self, options: Mapping[str, tuple[str, ...]]) -> str:
        """What vLLM says of all options together, as it does before it loads anything."""
        words = [word for written in options.values() for word in written]
        return _refused(lambda: self._validate(self._parser.parse_args(["a-model", *words])))

    def _deprecation(self, action: Any) -> str | None:
        """What vLLM says of an option that it will drop; None for all others. Before Python 3.13, argparse does not
        know that word and vLLM keeps a set of its own; some options say it in their help only.
        """
        said = " ".join((action.help or "").split())
        marked = action in getattr(self._parser, "_deprecated", ()) or getattr(action, "deprecated", False)
        if not marked and "deprecated" not in said.lower()[:80]:
            return None
        return f": {said}" if said else ""


def _lookup_complaints(name: str, value: Any, values: Mapping[str, Any]) -> list[Complaint]:
    """What the engine would say of a word that its parser lets pass."""
    places, plug_in = _TABLES.get(name, ((), ""))
    if name in _CLASSES and isinstance(value, dict):
        return list(_unknown_fields(name, value))
    known = _words(places)
    if not known or not isinstance(value, str) or plug_in in values:
        return []
    if value not in known:
        near = nearest(value, known)
        said = f"is refused by vLLM: it has no {value!r}{did_you_mean(near)}" if near else (
            f"is refused by vLLM: it has no {value!r}, only {', '.join(known)}")  # fmt: skip
        return [Complaint(key=f"args.{name}", kind="ill-typed", sentence=said, replacement=near)]
    if name == "quantization" and value in _words(_WITHDRAWN) and "allow-deprecated-quantization" not in values:
        said = f"{value} is deprecated in this vLLM, which asks for allow-deprecated-quantization"
        return [Complaint(key=f"args.{name}", kind="deprecated", is_warning=True, sentence=said)]
    return []


def _unknown_fields(name: str, value: Mapping[str, Any]) -> Iterator[Complaint]:
    try:
        fields = [field.name for field in dataclasses.fields(_first(_CLASSES[name]))]
    except EngineRefusedError:
        return
    for key in value:
        if key not in fields:
            near = nearest(key, fields)
            yield Complaint(key=f"args.{name}.{key}", kind="unknown", replacement=near,
                            sentence=f"is no key of this vLLM's {name}{did_you_mean(near)}")  # fmt: skip


@cache
def _words(places: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The words of a table of vLLM's: a list, a map, or a manager that lists what is registered with it."""
    if not places:
        return ()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            table = _first(places)
            if isinstance(table, enum.EnumMeta):  # read in any case, and as "auto" (vllm/config/attention.py)
                return (*table.__members__, *(name.lower() for name in table.__members__), "auto")
            lister = getattr(table, "list_registered", None)
            own = [getattr(table, each, ()) for each in ("tool_parsers", "reasoning_parsers", "lazy_parsers")]
            return tuple(sorted(lister() if lister else [word for each in own for word in each] or table))
    except (EngineRefusedError, TypeError):
        return ()  # another version keeps it elsewhere: what cannot be asked is not judged


def _refused(ask: Callable[[], object]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ask()
        except SystemExit:
            return shown(said.getvalue().rpartition("error: ")[2]) or "no reason is given"
        except Exception as error:  # whatever a type's own function raises
            return shown(str(error)) or type(error).__name__
    return ""


def shown(text: str) -> str:
    """What pydantic and argparse say over many lines, as one; without the address of pydantic's documentation."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith("For further information visit")]
    return " ".join(" ".join(kept).split())[:400]


def nearest(name: str, known: Sequence[str]) -> str:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.7)), "")


def did_you_mean(near: str) -> str:
    return f"; did you mean {near}?" if near else ""


@contextlib.contextmanager
def some_platform(version: str | None) -> Iterator[None]:
    """vLLM finds no platform where there is no GPU, and under a distribution's name other than its own; some versions
    then do not even build their parser ("Failed to infer device type", 0.10 and 0.11). A build for the CPU is always
    at hand, so for that time it is taken for one (vllm/platforms/__init__.py looks for "cpu" in its own version).
    """
    platforms: Any = _first((("vllm.platforms", ""),))
    if not _is_nothing(platforms):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        named = f"{(version or '0').partition('+')[0]}+cpu"
        info = Path(folder) / f"vllm-{named}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {named}\n", encoding="utf-8")
        sys.path.insert(0, folder)
        platforms._current_platform = None
        try:
            yield
        finally:
            sys.path.remove(folder)


def _is_nothing(platforms: Any) -> bool:
    try:
        return type(platforms.current_platform).__name__ == "UnspecifiedPlatform"
    except Exception:  # a platform that is there and does not work
        return False


def _first(places: tuple[tuple[str, str], ...]) -> Any:
    """The first that can be imported: of (module, name), or of (module, "") the module."""
    reason = ""
    for module, name in places:
        try:
            found = importlib.import_module(module)
            return getattr(found, name) if name else found
        except Exception as error:  # a broken installation fails in any way: RuntimeError of torch, OSError of a .so
            absent = isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))
            reason = (reason if absent else "") or f"{type(error).__name__}: {error}"
    raise EngineRefusedError(
        f"vLLM's argument parser cannot be imported: {reason}",
        hint="run this where vLLM works: in the image, or after scripts/setup cpu",
    )
