"""The engine's command without AIM Engine: out of a plan.json comes what anybody would run instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class BareCommand:
    """`files` maps paths to texts that must be there before the start."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, str]

    def write_files(self, moved: Mapping[str, str]) -> None:
        """Write them, with the folders of `moved` elsewhere."""
        for path, text in self.files.items():
            place = Path(_move(path, moved))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")


def with_options(argv: Sequence[str], options: Mapping[str, str]) -> tuple[str, ...]:
    """The same with other values of some options."""
    words = list(argv)
    for name, value in options.items():
        words[words.index(name) + 1] = value
    return tuple(words)


def bare(
    command: Mapping[str, Any], python: str, *, moved: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> BareCommand:  # fmt: skip
    """The same arguments, environment and files, with another python, with the folders of `moved` elsewhere, and with
    other values of some options. Without our own middleware, which is no part of vLLM: its cost is one of ours.
    """
    places = moved or {}
    words = [_move(str(word), places) for word in command["argv"][1:]]
    words = _without_middleware(words)
    unset = [word for name in command.get("unset", ()) for word in ("-u", name)]
    return BareCommand(
        argv=("env", *unset, python, *with_options(words, options or {})),
        env={name: _move(value, places) for name, value in command["env"].items()},
        files={_move(each["path"], places): each["text"] for each in command.get("files", ())},
    )


def _without_middleware(words: list[str]) -> list[str]:
    own = [at for at, word in enumerate(words) if word == "--middleware" and words[at + 1].startswith("aim_engine.")]
    return [word for at, word in enumerate(words) if at not in own and at - 1 not in own]


def _move(text: str, places: Mapping[str, str]) -> str:
    for old, new in places.items():
        text = text.replace(old, new)
    return text
