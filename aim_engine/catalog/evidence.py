"""Why anybody should believe a recipe, as a frozen value: what its file says, and what an engine's parser accepted.

Knows no file, and does not say what it counts for on an engine.
"""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.values import EVIDENCE_LEVELS


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """An engine ("vllm 0.32.0") whose own parser took a whole recipe, as it is, and when."""

    engine: str
    date: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Why anybody should believe a recipe. `level` is one of EVIDENCE_LEVELS, weakest first: derived (computed here),
    reported (a cited public source says so), parsed (the installed engine accepts the arguments), served (started
    and answered on that GPU), measured (benchmarked there). `accepted` is no part of the file: it is what our own tool
    has recorded beside it.
    """

    level: str = "derived"
    source: str = ""
    engine: str = ""
    date: str = ""
    accepted: tuple[Acceptance, ...] = ()

    @property
    def rank(self) -> int:
        return EVIDENCE_LEVELS.index(self.level)

    def as_written(self) -> dict[str, str]:
        """What a recipe's file says of it, by key."""
        keys = {"level": self.level, "source": self.source, "engine": self.engine, "date": self.date}
        return {key: text for key, text in keys.items() if text}

    def in_words(self) -> str:
        """`reported: SOURCE, vllm 0.16, 2026-11-21`; an engine that the source names already is not named again."""
        engine = "" if self.engine in self.source else self.engine
        details = ", ".join(part for part in (self.source, engine, self.date) if part)
        return f"{self.level}: {details}" if details else self.level
