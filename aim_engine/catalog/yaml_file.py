"""One YAML file in, plain mappings out, or a `Problem` that names the file and the line.

Knows YAML only: that keys must not repeat, that a file has a sane size. What the keys mean is the schemas' business.
"""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import ValidationError

from aim_engine.catalog.problem_kinds import KINDS
from aim_engine.secret_shapes import masked

LegalKeys = Mapping[tuple[str, ...], Iterable[str]]

MAX_FILE_BYTES = 1_000_000  # a recipe is a page; anything larger is a mistake, or an attack
MAX_DEPTH = 40
MAX_NODES = 100_000  # aliases and merges counted as often as they are used: a page can spell out gigabytes with them
_MAX_OPENERS = 1_000  # a file with fewer of these bytes cannot nest deeply enough to overflow the C parser's stack
_OPENERS = (b"[", b"{", b"-", b"?")

_FastLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser is about eight times as fast


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong in one file: what was found where, what was expected, the nearest legal key if one is near.
    `kind` is one of catalog/problem_kinds.py's, `replacement` what to write instead, which the sentence says too. A
    warning keeps nobody from using the file. Whatever is quoted from the file, a secret in it is not.
    """

    file: str
    sentence: str
    item: str = ""
    key: str = ""
    nearest: str = ""
    kind: str = "schema"
    replacement: str = ""
    is_warning: bool = False

    def __post_init__(self) -> None:
        for name in ("sentence", "item", "key"):
            object.__setattr__(self, name, masked(getattr(self, name)))

    def __str__(self) -> str:
        who = f" ({self.item})" if self.item else ""
        where = f" {self.key}:" if self.key else ""
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.file}{who}:{where} {self.sentence}{hint}"


class YamlError(Exception):
    """A file that is not usable YAML."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Loader(_FastLoader):  # type: ignore[misc]
    """Safe YAML whose maps must not repeat a key: PyYAML would silently keep the last one."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._as_written: set[int] = set()
        self._merged = 0

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """YAML 1.1 takes 0100 for 64 and 12:30 for 750, which nobody who writes a recipe means."""
        if ":" in node.value or re.fullmatch(r"[-+]?0[0-9_]+", node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is not the number it looks like; put text into quotes", node.start_mark
            )
        return int(super().construct_yaml_int(node))

    def construct_yaml_timestamp(self, node: yaml.ScalarNode) -> Any:
        try:
            return super().construct_yaml_timestamp(node)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is no date: {error}", node.start_mark
            ) from None

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put merged maps ("<<") into their place; before that, once for each map, its own keys are checked."""
        if id(node) not in self._as_written:
            self._as_written.add(id(node))
            _refuse_repeated_keys(node)
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > MAX_NODES:
            raise yaml.constructor.ConstructorError(None, None, "its merged maps grow too large", node.start_mark)


for _tag in ("int", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", getattr(_Loader, f"construct_yaml_{_tag}"))


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            continue
        if key_node.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key_node.value!r} is there twice", key_node.start_mark
            )
        seen.add(key_node.value)


def read_yaml(path: Path) -> dict[str, Any]:
    """The file's top-level mapping.

    Raises:
        YamlError: unreadable, too large or too deep, not UTF-8, not YAML, a repeated key, or not a mapping.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise _problem(path, "is not a regular file")
        if about.st_size > MAX_FILE_BYTES:
            raise _problem(path, f"the file is larger than {MAX_FILE_BYTES:,} bytes")
        data = path.read_bytes()
        _refuse_deep_nesting(data)
        value = yaml.load(data, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
        _measure(value, {}, ())
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise _problem(path, f"is not YAML: {error.problem}{line}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, undecodable bytes
        raise _problem(path, f"is not usable YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise _problem(path, "is not usable: it is nested too deeply, or contains itself") from None
    if not isinstance(value, dict):
        raise _problem(path, f"must hold a map of keys, not {_kind(value)}")
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise _problem(path, f"keys must be words, not {odd[0]!r}")
    return value


def _refuse_deep_nesting(data: bytes) -> None:
    """The C parser builds its tree by recursion without a limit, and would end the process."""
    if sum(data.count(byte) for byte in _OPENERS) <= _MAX_OPENERS:
        return
    depth = 0
    for event in yaml.parse(data, Loader=_FastLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecursionError


def _measure(value: Any, known: dict[int, tuple[int, int]], above: tuple[int, ...]) -> tuple[int, int]:
    """(nodes, depth) of a value with every alias counted as often as it is used.

    Raises:
        RecursionError: it is too deep, or contains itself.
        ValueError: it is too large, or holds a number that no engine could take.
    """
    if not isinstance(value, (dict, list, tuple, set)):
        if isinstance(value, int) and value.bit_length() > 64:
            raise ValueError("it holds a number of more than 64 bits")
        return 1, 1
    if id(value) in above or len(above) > MAX_DEPTH:
        raise RecursionError
    if id(value) not in known:
        children = [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)
        sizes = [_measure(child, known, (*above, id(value))) for child in children]
        known[id(value)] = 1 + sum(nodes for nodes, _ in sizes), 1 + max((deep for _, deep in sizes), default=0)
    nodes, depth = known[id(value)]
    if depth > MAX_DEPTH:
        raise RecursionError
    if nodes > MAX_NODES:
        raise ValueError("its aliases make it too large")
    return nodes, depth


def _problem(path: Path, sentence: str) -> YamlError:
    return YamlError(Problem(file=str(path), sentence=sentence, kind="yaml"))


_KINDS = {str: "text", int: "a number", float: "a number", dict: "a map"}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing (the file is empty)"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def schema_problems(error: ValidationError, *, path: Path, item: str, legal_keys: LegalKeys) -> list[Problem]:
    """A schema's complaints as sentences. `legal_keys` gives the legal keys below each place (digits and free names
    in a place are written "*"), for the nearest spelling of an unknown one.
    """
    return [_schema_problem(problem, path, item, legal_keys) for problem in error.errors(include_url=False)]


def _schema_problem(problem: Any, path: Path, item: str, legal_keys: LegalKeys) -> Problem:
    place = tuple(str(part) for part in problem["loc"])
    key = ".".join(place)
    if problem["type"] == "extra_forbidden":
        legal = _legal_below(place[:-1], legal_keys)
        near = difflib.get_close_matches(place[-1], legal, n=1, cutoff=0.5)
        known = f"; known here: {', '.join(legal)}" if legal and not near else ""
        return Problem(file=str(path), item=item, key=key, sentence=f"is an unknown key{known}",
                       nearest=near[0] if near else "")  # fmt: skip
    if problem["type"] == "missing":
        return Problem(file=str(path), item=item, key=key, sentence="is missing")
    kind, message = problem["type"], problem["msg"].removeprefix("Value error, ")
    if kind in KINDS:  # a complaint of our own; what was found may be a secret
        return Problem(file=str(path), item=item, key=key, sentence=message, kind=kind)
    sentence = f"{message[:1].lower()}{message[1:]}, found {_quoted(place, problem['input'])}"
    return Problem(file=str(path), item=item, key=key, sentence=sentence)


def _quoted(place: tuple[str, ...], value: Any) -> str:
    """What was found, shortened; of variables only its kind, for one that is written wrongly may be a secret too."""
    if "env" in place and len(str(value)) > len("False"):
        return _kind(value)
    found = masked(repr(value))  # before it is cut, or half of a secret would stay
    return found if len(found) <= 60 else found[:57] + "..."


def _legal_below(place: tuple[str, ...], legal_keys: LegalKeys) -> list[str]:
    for pattern, keys in legal_keys.items():
        if len(pattern) == len(place) and all(p in ("*", q) for p, q in zip(pattern, place, strict=True)):
            return sorted(keys)
    return []
