"""What vLLM calls its options and variables in each version: a name and a version in, whether it is there, what it is
called there and what to do instead out. The data is vllm_versions.json; scripts/engine-versions asks the versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

Version = tuple[int, ...]
VARIABLE = "VLLM_"


def parse_version(version: str | None) -> Version | None:
    """The release numbers at the front: "0.11.1rc2.dev141+g38f.rocm700" is (0, 11, 1). None stays None."""
    match = re.match(r"\d+(\.\d+)*", version or "")
    return tuple(int(part) for part in match.group().split(".")) if match else None


@cache
def table(name: str) -> Any:
    """One of the tables of vllm_versions.json, whose `about` says what each is."""
    return _tables()[name]


@cache
def _tables() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Path(__file__).with_name("vllm_versions.json").read_bytes())
    return data


def has_option(name: str, version: Version | None) -> bool:
    """Whether `vllm serve --name` exists in that version; an unknown version counts as the newest listed one."""
    options = table("options")
    return _within(options.get(name) or options.get(name.removeprefix("no-")), version)


def has_variable(name: str, version: Version | None) -> bool:
    """Whether that version has a variable of that name."""
    return _within(table("variables").get(name), version)


def _within(span: list[str] | None, version: Version | None) -> bool:
    if span is None:
        return False
    newest = parse_version(table("grid")[-1])
    first, last = (parse_version(text) for text in span)
    asked = version or newest
    return bool(first <= asked and (asked <= last or last == newest))  # type: ignore[operator]


def when(name: str) -> str:
    """In which versions there is an option or a variable, for a sentence: "since 0.13.0", "until 0.12.0"."""
    first, last = table("variables" if name.startswith(VARIABLE) else "options").get(name, ("", ""))
    grid = table("grid")
    said = [
        *([f"since {first}"] if first and first != grid[0] else []),
        *([f"until {last}"] if last != grid[-1] else []),
    ]
    return " ".join(said) if first else ""


def was_ever_option(name: str) -> bool:
    """Whether any listed version has, or had, that option."""
    return name in table("options")


def was_ever_variable(name: str) -> bool:
    """Whether any listed version, or AMD's own build of one, has or had that variable."""
    return name in table("variables") or name in table("of_forks")


def option_names(version: Version | None) -> tuple[str, ...]:
    """Every long option of that version."""
    return tuple(name for name in table("options") if has_option(name, version))


def variable_names() -> tuple[str, ...]:
    """Every variable of any version."""
    return tuple(table("variables"))


def other_option(name: str, version: Version | None) -> str | None:
    """What that version calls the option, where nothing but its name differs."""
    return next((other for other in _others(table("renamed"), name) if has_option(other, version)), None)


def other_variable(name: str, version: Version | None) -> str | None:
    """What that version calls the variable, where nothing but its name differs."""
    return next((other for other in _others(table("variables_renamed"), name) if has_variable(other, version)), None)


def _others(renamed: Mapping[str, str], name: str) -> list[str]:
    """The new name of an old one, and the old ones of a new one."""
    return [*([renamed[name]] if name in renamed else []), *(old for old, new in renamed.items() if new == name)]


def variable_of(option: str, version: Version | None) -> str | None:
    """The variable that says in that version what the option says in later ones."""
    name: str | None = table("as_variable").get(option)
    return name if name and has_variable(name, version) and not has_option(option, version) else None


def option_of(variable: str, version: Version | None) -> str | None:
    """The option that says in that version what the variable said in earlier ones."""
    found = next((option for option, name in table("as_variable").items() if name == variable), None)
    return found if found and has_option(found, version) else None


def advice(name: str) -> str:
    """What to do instead of an option or a variable that is gone, for people, or ""."""
    if name in table("into"):
        option, key = table("into")[name]
        return f"use {option}: {{{key}: ...}}"
    words: str = table("variables_replaced" if name.startswith(VARIABLE) else "replaced").get(name, "")
    return words
