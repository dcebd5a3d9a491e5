"""The real engine starts with just the plan's words where the ledger says it fits, and not with one token more. A
sample of what scripts/bench matrix does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from aim_engine.plan import Plan
from scripts.bench_matrix import Outcome, Starts, outcome, starts
from scripts.memory_agrees import MODELS
from scripts.start_cases import Case, lengthened, pool_of
from tests.engine.test_memory_agrees import SAMPLED

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("whole_distribution")]

CONFIGS = {model["name"]: lengthened(model["config"]) for model in json.loads(MODELS.read_text())}
# a processor without AVX512-BF16 would keep states in half of what the plan allows for (vllm/platforms/cpu.py)
_OPTIONS = {"Mamba 2": {"mamba-ssm-cache-dtype": "float32"}}


@pytest.fixture(scope="module")
def engines() -> Iterator[Starts]:
    with starts() as found:
        yield found


def tried(engines: Starts, name: str, **changes: object) -> Outcome:
    """A context of 1,000 tokens in just the room it needs, with these changes."""
    place, options = engines.place(CONFIGS[name]), _OPTIONS.get(name, {})
    pool, _ = pool_of(place, options)
    words = {"kind": "exact", "context": 1000, "concurrency": 1, "room_bytes": pool.bytes_for(1000, 1),
             "options": options, **changes}  # fmt: skip
    return outcome(Case(number=0, model=name, **words), place, engines)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLED)
def test_it_starts_with_what_was_planned(name: str, engines: Starts) -> None:
    found = tried(engines, name)
    assert found.accepted
    assert not found.wrong, str(found)
    assert found.compared


@pytest.mark.parametrize("name", ["Gemma 3", "Jamba"])
def test_one_token_more_than_the_longest_context_is_refused(name: str, engines: Starts) -> None:
    found = tried(engines, name, kind="longest", context=None)
    assert "refused" in found.beyond
    assert not found.wrong, str(found)


def test_where_there_is_no_plan_the_engine_refuses_too(engines: Starts) -> None:
    place = engines.place(CONFIGS["gpt-oss"])
    room = pool_of(place, {})[0].bytes_for(1000, 1) - 1
    found = tried(engines, "gpt-oss", kind="short", room_bytes=room)
    assert not found.accepted
    assert "refused" in found.answer
    assert not found.wrong, str(found)


def test_an_engine_that_cannot_start_says_why(engines: Starts) -> None:
    plan = engines.place(CONFIGS["Llama"]).ample(1000, 1, {"quantization": "nonsense"})
    assert isinstance(plan, Plan)
    assert "nonsense" in engines.start(plan)["error"]
