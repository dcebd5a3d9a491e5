"""What a start asks of the machine: needs read from a plan, errors that stop it, warnings that are said and kept."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.load import Catalog
from aim_engine.errors import CacheError, NoAcceleratorError
from aim_engine.hardware.inventory import Holder
from aim_engine.hardware.preflight.check import Needs, Site, Space
from aim_engine.hardware.preflight.look import look
from aim_engine.plan import Plan, make_plan
from aim_engine.runtime.needs import has_token, needs_of
from aim_engine.runtime.prepare import prepare
from aim_engine.runtime.state import State
from tests.building import CARD, GIB, MODEL, here, recipe, request

from .server import fake_plan


@pytest.fixture
def planned(tmp_path: Path) -> dict[str, Any]:
    """A plan for eight MI300X, one of which somebody else uses too, with its own ports and folders."""
    inventory = here("MI300X:8")
    first = replace(inventory.gpus[0], render_node="/dev/dri/renderD128", memory_free_bytes=180 * GIB,
                    holders=(Holder(pid=7, name="python3", memory_bytes=GIB),))  # fmt: skip
    inventory = replace(inventory, gpus=(first, *inventory.gpus[1:]))
    plan = make_plan(request(cache_dir=str(tmp_path / "cache")), inventory, Catalog(recipes=(recipe(),), card=CARD))
    assert isinstance(plan, Plan)
    # as it comes back from a file, too
    words: dict[str, Any] = json.loads(json.dumps(plan.as_json(), default=str))
    words["runtime"] |= fake_plan(tmp_path)["runtime"]
    return words


def needed(plan: dict[str, Any], **environment: str) -> Needs:
    return needs_of(plan, environment)


def test_a_plan_s_needs(planned: dict[str, Any], tmp_path: Path) -> None:
    needs = needed(planned)
    assert needs.planned
    assert (needs.tensor_parallel_size, len(needs.gpus)) == (8, 8)
    assert needs.gpus[0].holders == (Holder(pid=7, name="python3", memory_bytes=GIB),)
    assert needs.budget_bytes == planned["memory"]["budget_bytes"]
    assert (needs.port, needs.health_port) == (planned["runtime"]["port"], planned["runtime"]["health_port"])
    assert needs.checkpoint is not None
    assert (needs.checkpoint.name, needs.checkpoint.presence) == (MODEL, "absent")
    assert needs.checkpoint.folder == tmp_path / "cache/hub"
    assert abs((needs.checkpoint.size_bytes or 0) - CARD.weights_bytes["bf16"]) < 8
    assert needs.checkpoint.missing_bytes == needs.checkpoint.size_bytes


def test_a_plan_that_says_little_needs_little(tmp_path: Path) -> None:
    needs = needed(fake_plan(tmp_path))
    assert (needs.gpus, needs.tensor_parallel_size, needs.budget_bytes) == ((), 1, None)
    assert needs.checkpoint is not None
    assert needs.checkpoint.missing_bytes is None


def put(hub: Path, name: str, size: int, *, revision: str = "abc") -> None:
    """A file of a model's snapshot in the cache's layout, as large as it is said but empty."""
    home = hub / f"models--{MODEL.replace('/', '--')}"
    for folder in (home / "refs", home / "blobs", home / "snapshots" / revision):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "refs/main").write_text("abc")
    blob = home / "blobs" / f"{revision}-{name}"
    with blob.open("wb") as file:
        file.truncate(size)
    if not name.endswith(".incomplete"):
        (home / "snapshots" / revision / name).symlink_to(blob)


def test_what_is_in_the_cache_need_not_be_fetched(planned: dict[str, Any], tmp_path: Path) -> None:
    hub = tmp_path / "hub"
    put(hub, "config.json", 700)
    put(hub, "model-1.safetensors", 10 * GIB)
    put(hub, "x.incomplete", 5 * GIB)
    put(hub, "model-old.safetensors", 20 * GIB, revision="older")
    (hub / f"models--{MODEL.replace('/', '--')}/snapshots/abc/model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
    )
    part = needed(planned, HF_HUB_CACHE=str(hub)).checkpoint
    assert part is not None
    assert part.presence == "part"
    assert part.missing_bytes == (part.size_bytes or 0) - 15 * GIB
    put(hub, "model-2.safetensors", 10 * GIB)
    whole = needed(planned, HF_HUB_CACHE=str(hub)).checkpoint
    assert whole is not None
    assert (whole.presence, whole.missing_bytes) == ("whole", 0)
    at = {
        name: needed({**planned, "revision": name}, HF_HUB_CACHE=str(hub)).checkpoint for name in ("abc", "older", "v1")
    }
    assert [found and found.presence for found in at.values()] == ["whole", "part", "part"]
    assert [found and (found.size_bytes or 0) - (found.missing_bytes or 0) for found in at.values()][1:] == [
        25 * GIB, 5 * GIB]  # fmt: skip


def test_of_other_stores_nothing_is_said(planned: dict[str, Any]) -> None:
    found = needed({**planned, "huggingface_id": "s3://bucket/model"}).checkpoint
    assert found is not None
    assert (found.presence, found.missing_bytes) == ("unknown", None)


def test_a_local_folder_is_whole(planned: dict[str, Any]) -> None:
    found = needed({**planned, "huggingface_id": "/models/mine"}).checkpoint
    assert found is not None
    assert (found.presence, found.folder) == ("whole", Path("/models/mine"))


def test_a_token_is_found_where_the_hub_s_client_looks(tmp_path: Path) -> None:
    assert not has_token({}, tmp_path)
    assert has_token({"HF_TOKEN": "x"}, tmp_path)
    (tmp_path / "other").write_text("x")
    assert has_token({"HF_TOKEN_PATH": str(tmp_path / "other")}, tmp_path)
    (tmp_path / "token").write_text("")
    assert not has_token({}, tmp_path)
    (tmp_path / "token").write_text("x")
    assert has_token({}, tmp_path)


def test_offline_as_the_plan_or_the_environment_says(planned: dict[str, Any]) -> None:
    assert not needed(planned).offline
    assert needed(planned, HF_HUB_OFFLINE="yes").offline
    planned["command"]["env"]["HF_HUB_OFFLINE"] = "1"
    assert needed(planned).offline


# --- prepare -----------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A machine on which that plan can start."""
    root = tmp_path / "host"
    for name in ("dev/kfd", "dev/dri/renderD128", "dev/shm/x"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return Site(root=root, may_use=lambda _: True, space=lambda _: Space(size_bytes=200 * GIB, free_bytes=200 * GIB))


def test_a_start_with_nothing_to_complain_of_keeps_the_plan_as_it_is(
    planned: dict[str, Any], site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    state, lock = prepare(planned, site)
    os.close(lock)
    assert State(state.folder).read("plan.json") == planned
    assert capfd.readouterr().err == ""


def test_warnings_are_said_and_kept_in_the_plan(
    planned: dict[str, Any], site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    planned["warnings"] = ["a warning of the planner"]
    state, lock = prepare(planned, replace(site, environment={"HSA_XNACK": "1"}))
    os.close(lock)
    kept = (State(state.folder).read("plan.json") or {})["warnings"]
    said = capfd.readouterr().err.splitlines()
    assert kept[0] == "a warning of the planner"
    assert kept[1].startswith("HSA_XNACK=1: memory may be paged in on demand")
    assert kept[1].endswith("remedy: unset HSA_XNACK, unless you know why it is set")
    assert len(said) == 1
    assert said[0].endswith(f"aim preflight: warning: {kept[1]}")


def test_an_error_stops_the_start_with_its_class_before_anything_is_written(
    planned: dict[str, Any], site: Site
) -> None:
    (site.root / "dev/kfd").unlink()
    small = replace(site, space=lambda _: Space(size_bytes=GIB, free_bytes=GIB))
    with pytest.raises(NoAcceleratorError, match="/dev/kfd is not here") as caught:
        prepare(planned, small)
    assert "modprobe" in caught.value.hint
    assert len(caught.value.details) == 2  # shared memory and the disk are too small as well
    assert not (Path(planned["runtime"]["state_dir"]) / "plan.json").exists()
    (site.root / "dev/kfd").touch()
    with pytest.raises(CacheError, match="/dev/shm has"):
        prepare(planned, small)


def test_the_checks_of_a_start_take_milliseconds(planned: dict[str, Any], site: Site) -> None:
    """Well under ten on an idle core; the best of several, because others work on this machine too."""
    times = []
    for _ in range(10):
        began = time.perf_counter()
        look(needs_of(planned, {}), site, without=("cache", "ports"))
        times.append(time.perf_counter() - began)
    assert min(times) < 0.010
