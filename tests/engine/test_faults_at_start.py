"""The fault matrix, what only the engine finds: `aim-engine serve` with the real vLLM on a CPU, until it has ended."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub import Hub, Model, hub_here
from tests.faults.fault import Fault, assert_ended
from tests.faults.serve import (
    Given,
    Inject,
    Injections,
    Outcome,
    Place,
    ends_of,
    with_memory_group,
    with_mount,
)
from tests.faults.table import faults_of
from tests.runtime.server import Server

pytestmark = pytest.mark.engine

INJECTIONS = Injections()
MIB = 2**20


def arguments(environment: dict[str, str] | None = None, **options: Any) -> Inject:
    text = json.dumps({name.replace("_", "-"): value for name, value in options.items()})
    return lambda place: Given(environment={"AIM_ENGINE_ARGS": text, **(environment or {})})


def config(environment: dict[str, str] | None = None, **changes: Any) -> Inject:
    """The model with other words in its config.json."""

    def inject(place: Place) -> Given:
        path = place.copy() / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return Given(model=str(path.parent), environment=environment or {})

    return inject


INJECTIONS |= {
    "cache-smaller-than-a-block": arguments(kv_cache_memory_bytes=1000),
    "cache-smaller-than-the-asked-context": arguments({"AIM_MAX_MODEL_LEN": "2048"}, kv_cache_memory_bytes=300_000),
    "cache-larger-than-the-memory": arguments(kv_cache_memory_bytes="4T"),
    "bad-choice": arguments(kv_cache_dtype="fp3"),
    "unknown-quantization": arguments(quantization="nope"),
    "quantization-of-others": arguments(quantization="awq"),
    "unknown-tool-parser": arguments(enable_auto_tool_choice=True, tool_call_parser="nope"),
    "no-chat-template": arguments(chat_template="/nowhere/template.jinja"),
    "healthy-and-cannot-answer": arguments(hf_overrides={"head_dim": 16}, load_format="dummy"),
    "forced-architecture": config({"AIM_FORCE": "1"}, architectures=["OwnForCausalLM"]),
    "wrong-shapes": config(intermediate_size=512),
    "layer-missing": config(num_hidden_layers=3),
    "start-too-slow": lambda place: Given(environment={"AIM_START_TIMEOUT": "3"}),
}


def _write(path: Path, number: int) -> None:
    path.write_text(str(number))


@INJECTIONS.injects("tokenizer-garbage")
def _(place: Place) -> Given:
    (place.copy() / "tokenizer.json").write_text('{"version": "1.0", "model"')
    return Given(model=str(place.folder / "broken"))


@INJECTIONS.injects("port-taken-meanwhile")
def _(place: Place) -> Given:
    def take(run: Server) -> None:
        place.ends.enter_context(socket.create_server(("127.0.0.1", run.plan["runtime"]["port"])))

    return Given(meanwhile=take)


@INJECTIONS.injects("model-removed-meanwhile")
def _(place: Place) -> Given:
    folder = place.copy()
    return Given(model=str(folder), meanwhile=lambda run: shutil.rmtree(folder))


@INJECTIONS.injects("memory-limit-at-start")
def _(place: Place) -> Given:
    """Too low for an engine, but only once the plan is made: the plan heeds the limit that it sees."""
    prefix, limit = with_memory_group(place.ends)
    return Given(
        prefix=prefix,
        environment={"AIM_FALLBACK": "0"},
        meanwhile=lambda run: _write(limit, 500 * MIB),
    )


@INJECTIONS.injects("shared-memory-full")
def _(place: Place) -> Given:
    return Given(prefix=with_mount(Path("/dev/shm"), "nr_inodes=1"))


# --- a download that goes wrong once the plan is made -----------------------------------------------------------------


def repository(place: Place, **more: bytes) -> Hub:
    """A hub with the tiny model as org/tiny."""
    files = {path.name: path.read_bytes() for path in place.model.iterdir() if path.is_file()}
    return place.ends.enter_context(hub_here(tiny=Model(files={**files, **more})))


def breaking(fault: str, **environment: str) -> Inject:
    """The host of the weights fails so, each time it is asked."""

    def inject(place: Place) -> Given:
        hub = repository(place)

        def break_it(run: Server) -> None:
            hub.models["org/tiny"].fault, hub.models["org/tiny"].fault_at = fault, "elsewhere/"

        return Given(model="org/tiny", environment={"HF_ENDPOINT": hub.address, **environment}, meanwhile=break_it)

    return inject


INJECTIONS |= {
    "download-breaks-off": breaking("hang_up", AIM_FALLBACK="0"),
    "download-refused": breaking("503", AIM_FALLBACK="0"),
}


@INJECTIONS.injects("disk-full-meanwhile")
def _(place: Place) -> Given:
    """The weights have room, and a tokenizer that nobody reckons with takes it."""
    tokenizer = (place.model / "tokenizer.json").read_bytes() + b" " * 4_000_000
    hub = repository(place, **{"tokenizer.json": tokenizer})
    place.cache.mkdir()
    prefix = with_mount(place.cache, "size=2m")
    return Given(model="org/tiny", environment={"HF_ENDPOINT": hub.address}, prefix=prefix)


# --- the test --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[dict[str, Future[Outcome]]]:
    environment = {"VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT") or str(Path("~/.cache/vllm").expanduser())}
    with ends_of(request, INJECTIONS, tiny_model, environment) as found:
        yield found


@pytest.mark.parametrize("fault", faults_of(__file__), ids=lambda fault: fault.id)
def test_a_start_ends_as_the_row_says(outcomes: dict[str, Future[Outcome]], fault: Fault) -> None:
    outcome = outcomes[fault.id].result()
    assert_ended(fault, outcome.code, outcome.words, outcome.attempts)
    assert "starting" in outcome.phases
    assert "ready" not in outcome.phases


def test_every_injection_has_a_row() -> None:
    assert {fault.id for fault in faults_of(__file__)} == INJECTIONS.keys()
