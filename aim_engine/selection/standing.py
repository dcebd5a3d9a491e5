"""What a recipe's evidence counts for on the engine that is here: the evidence and the engine in, a level and why out.

What was parsed, served or measured was so by one version of an engine; another one may refuse, fail or be slow. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aim_engine.catalog.recipe import Evidence
from aim_engine.hardware.installed import Engine
from aim_engine.values import EVIDENCE_LEVELS

# What is left of a level on another version: that somebody ran it there is still a report, that a parser took it is not
# even that.
_ELSEWHERE = {"parsed": "derived", "served": "reported", "measured": "reported"}
_VERSION = re.compile(r"(\S*?)[ ]?(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The level that the evidence counts as, and a sentence where the engine is not the one that it speaks of."""

    level: str
    sentence: str = ""

    @property
    def rank(self) -> int:
        return EVIDENCE_LEVELS.index(self.level)


def standing(evidence: Evidence, engine: Engine | None) -> Standing:
    """Versions are compared up to their second number: patches do not change options. Without an engine, as for
    hardware that is elsewhere, the level stands.
    """
    if engine is None or evidence.level == "derived" or _is_of(evidence, engine):
        return Standing(level=evidence.level)
    level = _ELSEWHERE.get(evidence.level, evidence.level)
    of = evidence.engine if _VERSION.match(evidence.engine) else "a version that it does not tell"
    here = f"{engine.name} {engine.version}" if engine.version else f"{engine.name} of unknown version"
    counts = "" if level == evidence.level else f", so it counts as {level} here"
    sentence = f"the evidence ({evidence.level}) is for {of}, and {here} is installed{counts}"
    return Standing(level=level, sentence=sentence)


def _is_of(evidence: Evidence, engine: Engine) -> bool:
    theirs, ours = _VERSION.match(evidence.engine), _VERSION.match(f"{engine.name} {engine.version}")
    return theirs is not None and ours is not None and theirs.groups() == ours.groups()
