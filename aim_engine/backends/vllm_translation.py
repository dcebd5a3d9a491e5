"""A recipe's options and variables and a version of vLLM in; the same in that version's own words out, with what was
changed and what that version has nothing of.

So one recipe serves several versions. Pure: knows no job, no device, and not how an option is written.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aim_engine.backends import vllm_versions as versions


@dataclass(frozen=True, kw_only=True)
class Change:
    """A key of the recipe ("args.task", "env.VLLM_X") that the version calls otherwise, or has not: `now` its key
    there, or "" where it is left out.
    """

    key: str
    sentence: str
    now: str = ""


@dataclass(kw_only=True)
class Translated:
    """`renamed` is the same in other words, `harmless` left out and nothing is lost, `dropped` left out because the
    recipe says that it may be; `idle` are variables that the version does not know: they are there and do nothing.
    `absent` are options that it does not know, with the remedy: it would not start with them.
    """

    options: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    renamed: list[Change] = field(default_factory=list)
    harmless: list[Change] = field(default_factory=list)
    dropped: list[Change] = field(default_factory=list)
    idle: list[Change] = field(default_factory=list)
    absent: list[Change] = field(default_factory=list)

    @property
    def came_from(self) -> dict[str, str]:
        """The version's key → the recipe's, of those that differ."""
        return {change.now: change.key for change in self.renamed if change.now}


def translate(
    args: Mapping[str, Any], env: Mapping[str, str], optional: Collection[str], version: versions.Version | None
) -> Translated:
    """`optional` names the options and variables that the recipe can do without."""
    done = Translated()
    for option, value in args.items():
        if not _as_it_is(option, value, version, done) and not _in_other_words(option, value, args, version, done):
            harmless = option in versions.table("without_effect")
            if harmless or option in optional:
                change = Change(key=f"args.{option}", sentence="no longer exists" if harmless else "does not exist")
                (done.harmless if harmless else done.dropped).append(change)
            else:
                done.absent.append(Change(key=f"args.{option}", sentence=_remedy(option, version)))
    for name, text in env.items():
        if not _variable_in_other_words(name, text, version, done):
            done.env[name] = text  # a build of AMD's may know it all the same, and the others do not mind it
            if versions.was_ever_variable(name) and not versions.has_variable(name, version) and name not in optional:
                done.idle.append(Change(key=f"env.{name}", sentence=_fate(name)))
    return done


def _as_it_is(option: str, value: Any, version: versions.Version | None, done: Translated) -> bool:
    """The version has the option under this name."""
    if not versions.has_option(option, version):
        return False
    words, renamed = _with_renamed_keys(option, value, version)
    # another option of the recipe may have put a key into this one's map already
    done.options[option] = {**done.options[option], **words} if _both_maps(done.options.get(option), words) else words
    done.renamed += renamed
    return True


def _both_maps(one: Any, other: Any) -> bool:
    return isinstance(one, dict) and isinstance(other, dict)


def _in_other_words(
    option: str, value: Any, args: Mapping[str, Any], version: versions.Version | None, done: Translated
) -> bool:
    """The version has the same under another name, as a variable, within another option, or by its absence."""
    key = f"args.{option}"
    if other := versions.other_option(option, version):
        if other not in args:
            done.options[other] = value
        done.renamed.append(Change(key=key, now=f"args.{other}", sentence=f"is called {other}"))
    elif variable := versions.variable_of(option, version):
        done.env[variable] = str(value)
        done.renamed.append(Change(key=key, now=f"env.{variable}", sentence=f"is the variable {variable}"))
    elif (instead := _instead(option, value, args, version)) is not None:
        for other, meant in instead.items():
            before = done.options.get(other)
            done.options[other] = {**before, **meant} if _both_maps(before, meant) else meant  # type: ignore[dict-item]
            sentence = f"is written {other}: {json.dumps(meant)}"
            done.renamed.append(Change(key=key, now=f"args.{other}", sentence=sentence))
        if not instead:
            done.harmless.append(Change(key=key, sentence="no longer exists"))
    else:
        return False
    return True


def _instead(
    option: str, value: Any, args: Mapping[str, Any], version: versions.Version | None
) -> dict[str, Any] | None:
    """What is written instead of the option with that value: a key of another option's map, or other options with
    values of their own. None where nothing says the same in that version.
    """
    if option in versions.table("into"):
        other, inner = versions.table("into")[option]
        there = args.get(other, {})
        can_join = isinstance(there, dict) and inner not in there and versions.has_option(other, version)
        return {other: {inner: value}} if can_join else None
    instead: dict[str, Any] | None = versions.table("values").get(option, {}).get(json.dumps(value))
    known = instead is not None and all(versions.has_option(other, version) for other in instead)
    return instead if known else None


def _with_renamed_keys(option: str, value: Any, version: versions.Version | None) -> tuple[Any, list[Change]]:
    """A map with its keys in the version's words."""
    renamed: Mapping[str, tuple[str, str]] = versions.table("keys").get(option, {})
    if not renamed or not isinstance(value, dict):
        return value, []
    words, changes = dict(value), []
    for old, (new, since) in renamed.items():
        is_new = version is None or version >= (versions.parse_version(since) or ())
        there, here = (old, new) if is_new else (new, old)
        if there in words and here not in words:
            words[here] = words.pop(there)
            changes.append(Change(key=f"args.{option}.{there}", now=f"args.{option}.{here}",
                                  sentence=f"is called {here}"))  # fmt: skip
    return words, changes


def _variable_in_other_words(name: str, text: str, version: versions.Version | None, done: Translated) -> bool:
    """The version has what the variable says under another name, as an option, or by its absence."""
    key = f"env.{name}"
    if versions.has_variable(name, version):
        return False
    if other := versions.other_variable(name, version):
        done.env.setdefault(other, text)
        done.renamed.append(Change(key=key, now=f"env.{other}", sentence=f"is called {other}"))
    elif option := versions.option_of(name, version):
        done.options.setdefault(option, text)
        done.renamed.append(Change(key=key, now=f"args.{option}", sentence=f"is the option {option}"))
    elif name in versions.table("variables_without_effect"):
        done.harmless.append(Change(key=key, sentence="no longer exists"))
    else:
        return False
    return True


def _fate(name: str) -> str:
    """Since or until when there is a variable, and what to do instead."""
    parts = [versions.when(name), versions.advice(name)]
    return "; ".join(part for part in parts if part)


def _remedy(option: str, version: versions.Version | None) -> str:
    near = difflib.get_close_matches(option, versions.option_names(version), n=1)
    told = versions.advice(option) or (f"did you mean {near[0]}?" if near else "remove it")
    since = versions.when(option)
    if not since:
        return told
    return f"vLLM has it {since}; {told if versions.advice(option) else 'use such a version, or mark it optional'}"
