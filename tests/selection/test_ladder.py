"""After which failure a step is tried: never what the user asked for, and nothing where fallback is off."""

from __future__ import annotations

import pytest

from aim_engine.selection.ladder import ORDER, failures_for
from tests.building import request


def test_every_failure_has_a_step() -> None:
    plain = request()
    assert {failure for kind in ORDER for failure in failures_for(kind, plain)} == {
        "cache", "no cache", "memory", "serving memory", "kernel", "collective", "crash"
    }  # fmt: skip
    assert failures_for("of somebody else's backend", plain) == ()


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ({"max_model_len": "4096"}, [kind for kind in ORDER if kind != "context"]),
        ({"max_model_len": "auto"}, list(ORDER)),
        ({"gpu_count": "2"}, [kind for kind in ORDER if kind != "more gpus"]),
        ({"fallback": "0"}, []),
    ],
)
def test_what_was_asked_for_is_not_given_up(flags: dict[str, str], left: list[str]) -> None:
    asked = request(**flags)
    assert [kind for kind in ORDER if failures_for(kind, asked)] == left
