"""The page of all classes of failure: the package's data in, docs/failure-classes.md out (scripts/failure-classes)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from wherever

from aim_engine.errors import EngineStartTimeoutError
from aim_engine.runtime.failure_classes import FAILURE_CLASSES, FailureClass
from aim_engine.selection.ladder import STEPS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "failure-classes.md"
_HEAD = """\
# Classes of failure

Made by `scripts/failure-classes` from `aim_engine/runtime`; not edited by hand.

What an engine that ends may have met with, in the order of a run. Each class has its exit code, and says whether
another attempt with the same settings is made; what is given up after it stands in the order in which that is tried,
and `AIM_FALLBACK=0` switches both off. An engine's last lines are looked through for the texts of the
sources; the first class that has one there wins. Those of an engine that was ready before count as a crash (51). The
last words on stderr, in the state folder and in `/dev/termination-log` name the class's error, the sentence and the
remedy.

| class | what happened | known by | exit code | tried again | given up, step by step |
| --- | --- | --- | --- | --- | --- |
"""
_REST = """
Where the texts in the engine's log come from:

"""


def page() -> str:
    """The whole page."""
    rows = "".join(f"| {' | '.join(_row(one))} |\n" for one in FAILURE_CLASSES)
    return _HEAD + rows + _REST + "".join(f"- **{kind}**: {source}\n" for kind, source in _sources())


def _row(one: FailureClass) -> tuple[str, ...]:
    steps = [step for step, kinds in STEPS.items() if one.kind in kinds]
    return one.kind, one.happened, one.told_by, _codes(one), _again(one), ", ".join(steps) or "–"


def _codes(one: FailureClass) -> str:
    if one.error is None:
        return ", ".join(map(str, one.codes))
    later = "".join(f", {code} once it was ready" for code in one.codes if code != one.error.code)
    return f"{one.error.code} {one.error.__name__.removesuffix('Error')}{later}"


def _again(one: FailureClass) -> str:
    if one.error is None or not one.error.retryable:
        return "no"
    return "once" if issubclass(one.error, EngineStartTimeoutError) else "up to twice"


def _sources() -> Iterator[tuple[str, str]]:
    for one in FAILURE_CLASSES:
        for source in one.sources:
            yield one.kind, source


def main(arguments: list[str]) -> int:
    is_stale = not PAGE.is_file() or PAGE.read_text() != page()
    if arguments == ["--check"]:
        print(f"{PAGE.name} is {'stale: run scripts/failure-classes' if is_stale else 'as it should be'}")
        return int(is_stale)
    if arguments:
        print("usage: failure-classes [--check]", file=sys.stderr)
        return 2
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
