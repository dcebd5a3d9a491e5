"""What a recipe's evidence counts for on the engine that is here: the evidence and the engine in, a level and why out.

What was parsed, served or measured was so by one version of an engine; another one may refuse, fail or be slow. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from aim_engine.catalog.evidence import Acceptance, Evidence
from aim_engine.hardware.installed import Engine
from aim_engine.values import EVIDENCE_LEVELS

_PARSED = "parsed"
# What is left of a level on another version: that somebody ran it there is still a report, that a parser took it is not
# even that.
_ELSEWHERE = {_PARSED: "derived", "served": "reported", "measured": "reported"}
_VERSION = re.compile(r"(\S*?)[ ]?(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The level that the evidence counts as, and a sentence where the engine is not the one that it speaks of.
    `accepted` is what raised it from `before`, where that was the engine's own parser.
    """

    level: str
    sentence: str = ""
    accepted: Acceptance | None = None
    before: str = ""

    @property
    def rank(self) -> int:
        return EVIDENCE_LEVELS.index(self.level)

    @property
    def order(self) -> tuple[int, int]:
        """By the level, then by what it was before: a parser makes equals of what was reported and what was not."""
        return self.rank, EVIDENCE_LEVELS.index(self.before or self.level)


def standing(evidence: Evidence, engine: Engine | None) -> Standing:
    """Versions are compared up to their second number: patches do not change options. Without an engine, as for
    hardware that is elsewhere, the level stands.
    """
    written = _as_written(evidence, engine)
    if not evidence.accepted or written.rank >= EVIDENCE_LEVELS.index(_PARSED):
        return written
    newest = sorted(evidence.accepted, key=lambda one: one.date, reverse=True)
    if engine is None:
        return Standing(level=_PARSED, accepted=newest[0], before=written.level)
    for one in newest:
        if _is_of(one.engine, engine):
            said = _of_another(evidence, engine, _PARSED, "whose own parser accepts it") if written.sentence else ""
            return Standing(level=_PARSED, sentence=said, accepted=one, before=written.level)
    lost = Evidence(level=_PARSED, engine=newest[0].engine)
    said = written.sentence or _of_another(lost, engine, written.level)
    return Standing(level=written.level, sentence=said)


def as_it_stands(evidence: Evidence, engine: Engine | None) -> Evidence:
    """The evidence; where the engine's own parser raised it, at that level, and with what it was before as its
    source.
    """
    accepted = standing(evidence, engine).accepted
    if accepted is None:
        return evidence
    source = f"{evidence.in_words()}; accepted by {accepted.engine}'s own parser"
    return replace(evidence, level=_PARSED, source=source, engine=accepted.engine, date=accepted.date)


def _as_written(evidence: Evidence, engine: Engine | None) -> Standing:
    if engine is None or evidence.level == "derived" or _is_of(evidence.engine, engine):
        return Standing(level=evidence.level)
    level = _ELSEWHERE.get(evidence.level, evidence.level)
    return Standing(level=level, sentence=_of_another(evidence, engine, level))


def _of_another(evidence: Evidence, engine: Engine, level: str, why: str = "") -> str:
    of = evidence.engine if _VERSION.match(evidence.engine) else "a version that it does not tell"
    here = f"{engine.name} {engine.version}" if engine.version else f"{engine.name} of unknown version"
    parts = [f"the evidence ({evidence.level}) is for {of}, and {here} is installed", why]
    parts += [f"so it counts as {level} here"] if level != evidence.level else []
    return ", ".join(part for part in parts if part)


def _is_of(said: str, engine: Engine) -> bool:
    theirs, ours = _VERSION.match(said), _VERSION.match(f"{engine.name} {engine.version}")
    return theirs is not None and ours is not None and theirs.groups() == ours.groups()
