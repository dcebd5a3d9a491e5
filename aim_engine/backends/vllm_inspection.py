"""A recipe's variant in, what the INSTALLED vLLM says against it as it would be started here out.

The version's own words first, as a start would have them; then the parser and the registry. Imports vLLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.base import Complaint
from aim_engine.backends.vllm_options import rendered
from aim_engine.backends.vllm_parser import InstalledParser
from aim_engine.backends.vllm_registry import InstalledRegistry
from aim_engine.backends.vllm_translation import Change, Translated, translate
from aim_engine.catalog.recipe import Variant


class Inspection:
    """Asks about one variant after another; vLLM is imported once.

    Raises:
        EngineRefusedError: vLLM cannot be imported here.
    """

    def __init__(self, version: str | None) -> None:
        self._parser, self._registry = InstalledParser(version), InstalledRegistry()
        self._version = versions.parse_version(version)

    def complaints(self, variant: Variant) -> list[Complaint]:
        words = translate(variant.args, variant.env, variant.optional, self._version)
        written = {name: tuple(rendered({name: value})) for name, value in words.options.items()}
        found = [*self._parser.complaints(written, words.options), *self._registry.complaints(words.env)]
        idle = {change.key: change for change in words.idle}
        judged = [_in_the_recipes_words(one, words.came_from, idle) for one in found]
        return [_of_a_newer(one, variant, self._version) for one in (*judged, *_told(words, variant))]


def _in_the_recipes_words(found: Complaint, came_from: dict[str, str], idle: dict[str, Change]) -> Complaint:
    """Under the recipe's own key; a variable that other versions have does nothing here, and so is a warning only."""
    if found.kind == "unknown" and found.key in idle:
        fate = idle[found.key].sentence
        return replace(found, kind="removed" if "until" in fate else "newer", is_warning=True,
                       replacement=versions.advice(found.key.partition(".")[2]),
                       sentence=f"is no variable of this vLLM and does nothing ({fate})")  # fmt: skip
    written = came_from.get(found.key)
    if not written:
        return found
    return replace(found, key=written, sentence=f"is {found.key.partition('.')[2]} here, which {found.sentence}")


def _of_a_newer(found: Complaint, variant: Variant, version: versions.Version | None) -> Complaint:
    """What speaks against a recipe whose evidence is of a newer engine only says that this one is too old for it; of
    an engine whose version it does not name, the newest.
    """
    name, _, text = variant.evidence.engine.partition(" ")
    of = versions.parse_version(text or versions.table("grid")[-1]) if name == "vllm" else None
    if found.is_warning or of is None or version is None or of <= version:
        return found
    return replace(found, is_warning=True, sentence=f"{found.sentence}; the recipe is of {variant.evidence.engine}")


def _told(words: Translated, variant: Variant) -> Iterator[Complaint]:
    """What this version has not, and what the recipe could write to serve newer ones as well."""
    for change in words.absent:
        name = change.key.partition(".")[2]
        yield Complaint(key=change.key, kind=_kind(name), replacement=versions.advice(name),
                        sentence=f"is no option of this vLLM; {change.sentence}")  # fmt: skip
    for change in words.dropped:
        yield Complaint(key=change.key, kind=_kind(change.key.partition(".")[2]), is_warning=True,
                        sentence="is no option of this vLLM and is left out: the recipe says it may be")  # fmt: skip
    for change in words.renamed:
        if _is_old_name(change, variant):
            yield Complaint(key=change.key, kind="renamed", is_warning=True, replacement=change.now.partition(".")[2],
                            sentence=f"{change.sentence} in this vLLM, and is translated")  # fmt: skip
    for change in words.harmless:
        yield Complaint(key=change.key, kind="removed", is_warning=True,
                        sentence="no longer exists in this vLLM and is left out; nothing is lost")  # fmt: skip


def _kind(name: str) -> str:
    """Why a version has not that option."""
    if not versions.was_ever_option(name):
        return "unknown"
    return "removed" if "until" in versions.when(name) else "newer"


def _is_old_name(change: Change, variant: Variant) -> bool:
    """A name that newer versions gave up; one that this version is too old for needs no word."""
    name = change.key.partition(".")[2]
    return "until" in versions.when(name) and name in {*variant.args, *variant.env}
