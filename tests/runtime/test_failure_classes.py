"""failure_classes.py, signatures.py: every class is distinct, documented, and found in a real log (`logs/`).

A log is a file: `# class`, `code`, `text` (of the message), `status`, `ready` and `from` stand above
it. `captured` was written by an engine that we ran, `replayed` by one on hardware that was not at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from aim_engine.errors import EngineCrashedError, EngineHungError, EngineStartTimeoutError
from aim_engine.runtime.failure_classes import FAILURE_CLASSES, LOG
from aim_engine.runtime.failures import classify, ended_by_us
from aim_engine.runtime.signatures import SIGNATURES
from aim_engine.selection.ladder import STEPS
from scripts.failure_classes import PAGE, page

LOGS = sorted(Path(__file__).with_name("logs").glob("*.log"))


@dataclass(frozen=True, kw_only=True)
class Log:
    said: dict[str, str]
    lines: list[str]


def read(path: Path) -> Log:
    head, _, body = path.read_text().partition("\n\n")
    said = dict(line.removeprefix("# ").split(": ", 1) for line in head.splitlines())
    return Log(said=said, lines=body.splitlines())


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_real_log_tells_its_class(path: Path) -> None:
    log = read(path)
    found = classify(
        log.lines,
        status=int(log.said["status"]),
        how=log.said.get("killed", ""),
        was_ready="ready" in log.said,
        model=log.said.get("model", "org/name"),
    )
    assert found.kind == log.said["class"], found
    assert found.error.code == int(log.said["code"])
    assert log.said["text"] in found.error.message
    assert found.error.hint
    assert log.said.get("hint", "") in found.error.hint
    known = next(one for one in FAILURE_CLASSES if one.kind == found.kind)
    assert found.error.code in known.codes
    assert found.permanent is not found.error.retryable
    assert log.said["from"].split(",")[0] in ("captured", "replayed")


def test_every_class_that_a_log_tells_has_one() -> None:
    told = {one.kind for one in FAILURE_CLASSES if one.told_by == LOG}
    logs = {read(path).said["class"] for path in LOGS}
    assert told <= logs


def test_the_classes_are_those_of_the_signatures_and_the_ladder() -> None:
    kinds = [one.kind for one in FAILURE_CLASSES]
    assert len(set(kinds)) == len(kinds)
    assert {one.kind for one in SIGNATURES} == {one.kind for one in FAILURE_CLASSES if one.told_by == LOG}
    assert {kind for failures in STEPS.values() for kind in failures} <= set(kinds)


def test_each_class_has_one_error_at_a_start() -> None:
    for one in FAILURE_CLASSES:
        starting = {signature.error for signature in one.signatures if signature.starting}
        assert starting <= {one.error}, one.kind


def test_what_we_end_ourselves_has_its_class() -> None:
    assert ended_by_us(EngineStartTimeoutError("x")).kind == "slow start"
    assert ended_by_us(EngineHungError("x")).kind == "hung"
    assert ended_by_us(EngineCrashedError("x")).kind == "crash"


def test_a_kill_for_want_of_memory_is_a_class_of_its_own() -> None:
    found = classify([], status=-1, how="killed by SIGKILL", out_of_memory="the limit of 4 GiB was reached")
    assert (found.kind, found.error.code) == ("host memory", 51)


def test_the_page_is_not_stale() -> None:
    assert PAGE.read_text() == page(), "run scripts/failure-classes"
