"""Values → YAML that every reader takes for the same values, and sentences → comments in it.

Every text that is a value is quoted, so that nothing in it (on, 010, 12:30) is another type to a YAML 1.1 reader.
Knows no format that is written in YAML.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

_WIDTH = 116
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")  # keys that need no quotes; of others PyYAML does not quote all well


class Block(str):
    """A text of several lines, written as they are."""


class Note(str):
    """A sentence for the reader of the file, as a key (of the value None): a comment above the key that follows it. Not
    the first key of a map in a list, where no line of its own is. It equals no text.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Note) and str.__eq__(self, other)

    def __hash__(self) -> int:
        return hash((Note, str(self)))


class _Quoted(str):
    """A text that is written in double quotes."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes texts that are values, indents lists, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


_Dumper.add_representer(Block, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|"))
_Dumper.add_representer(_Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def yaml_text(document: Any) -> str:
    """The document, without a line break at its end."""
    token, notes = _unused(document), list[str]()
    text = yaml.dump(
        _marked(document, token, notes), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9
    ).rstrip()
    place = re.compile(rf"^( *){token}(\d+): null$", re.MULTILINE)
    return place.sub(lambda found: "\n".join(comment_lines([notes[int(found[2])]], found[1])), text)


def comment_lines(sentences: Iterable[str], indent: str = "") -> list[str]:
    """Each as a comment, broken where it is too long."""
    return [
        f"{indent}# {piece}".rstrip() for line in sentences for piece in _wrapped(printable(line), _WIDTH - len(indent))
    ]


def without_notes(value: Any) -> Any:
    """The same for programs, which read no comments."""
    if isinstance(value, Mapping):
        return {key: without_notes(one) for key, one in value.items() if not isinstance(key, Note)}
    return [without_notes(one) for one in value] if isinstance(value, list) else value


def printable(line: str) -> str:
    """The line without what would end the comment or play with the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _wrapped(line: str, width: int) -> list[str]:
    return textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False) or [""]


def _marked(value: Any, token: str, notes: list[str]) -> Any:
    """The same with every text that is a value marked to be quoted, and the notes' keys as words that no text has."""
    if isinstance(value, Mapping):
        return {_key(key, token, notes): _marked(one, token, notes) for key, one in value.items()}
    if isinstance(value, list):
        return [_marked(one, token, notes) for one in value]
    return _Quoted(value) if isinstance(value, str) and not isinstance(value, Block) else value


def _key(key: Any, token: str, notes: list[str]) -> Any:
    if not isinstance(key, Note):
        return _Quoted(key) if isinstance(key, str) and not _PLAIN.fullmatch(key) else key
    notes.append(str(key))
    return f"{token}{len(notes) - 1}"


def _unused(document: Any) -> str:
    token, texts = "note", tuple(_texts(document))
    while any(token in text for text in texts):
        token += "e"
    return token


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, Note):
                yield str(key)
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value
