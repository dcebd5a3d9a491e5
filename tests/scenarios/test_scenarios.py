"""Each folder beside this file is a case: what is asked where (request.yaml), and what must come of it (expected.yaml).

A new case needs no Python. The format:

    request.yaml    about: one sentence on what the case shows
                    flags: {metric: throughput}         as typed, by the setting's name (gpu_count, not gpu-count)
                    env: {AIM_MODEL: org/name}          the process's whole environment; its HIP_VISIBLE_DEVICES and
                                                        the like choose among AMD's GPUs that are found here
                    hardware: MI300X:8                  as if found here; a .json file of this folder is an inventory
                    declared: true                      as if given by AIM_HARDWARE instead: then no engine is known
                    engine: {version: 0.18.1+rocm700, distribution: vllm}
    recipes/        used before the built-in recipes (optional); a parsed.json there is as validate --record writes it
    models/         likewise for cards (optional)

    expected.yaml   recipe_id, gpu_count, max_model_len, ...   equal to the plan's value of that key
                    gpu_indices: [4, 5]                 the GPUs that are used
                    argv_contains: [--dtype bfloat16]   words in this order in the command
                    argv_lacks: [--swap-space]
                    env: {NAME: value or null}          null: not set
                    unset: [NAME]                       all that is taken out of the engine's environment
                    notes, warnings: [text]             each found in one of them
                    why_not: {recipe@gpus: text}        found in what is said against that candidate
                    error: {class: NoRecipe, code: 30, contains: [text], hint: [text]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aim_engine.backends.registry import backend
from aim_engine.catalog.load import catalog_folders, load_catalog
from aim_engine.errors import AimError
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.visibility import Visible, visible
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import read_request

HERE = Path(__file__).resolve().parent
CASES = sorted(path.parent for path in HERE.glob("*/request.yaml"))

ASKED_KEYS = {"about", "flags", "env", "hardware", "declared", "engine"}
TEXT_KEYS = {"gpu_indices", "argv_contains", "argv_lacks", "env", "unset", "notes", "warnings", "why_not", "error"}


def read(path: Path) -> dict[str, Any]:
    words: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return words


def inventory_of(case: Path, asked: dict[str, Any]) -> Inventory:
    wish = str(asked.get("hardware", "MI300X:8"))
    if wish.endswith(".json"):
        found = Inventory.from_json((case / wish).read_bytes(), where=wish)
    else:
        found = declared_inventory(wish)
    if asked.get("declared"):
        return found
    seen = visible(found.gpus, asked.get("env", {})) if found.gpus[0].vendor == "amd" else Visible(gpus=found.gpus)
    return Inventory(
        source="amdsmi",
        gpus=seen.gpus,
        notes=(*found.notes, *seen.notes),
        visibility=(*found.visibility, *seen.settings),
    )


def engine_of(asked: dict[str, Any], site: Path) -> Engine | None:
    """The engine, found by the metadata of its installation in `site`."""
    if "engine" not in asked:
        return None
    words = {"distribution": "vllm", **asked["engine"]}
    (site / f"{words['distribution'].replace('-', '_')}-{words['version']}.dist-info").mkdir()
    if words["distribution"] == "sglang":  # it is its torch that says what it runs on
        (site / "torch").mkdir()
        (site / "torch" / "version.py").write_text("hip = '7.2'\n")
    return backend(words["distribution"].partition("-")[0]).find((str(site),), "python")


def outcome(case: Path, site: Path) -> Plan | Refusal | AimError:
    asked = read(case / "request.yaml")
    assert asked.keys() <= ASKED_KEYS
    folders = catalog_folders(*((case / name) if (case / name).is_dir() else None for name in ("recipes", "models")))
    try:
        request = read_request(asked.get("flags", {}), asked.get("env", {}))
        catalog = load_catalog(request.required_model, folders)
        return make_plan(request, inventory_of(case, asked), catalog, engine_of(asked, site))
    except AimError as error:
        return error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scenario(case: Path, tmp_path: Path) -> None:
    expected = read(case / "expected.yaml")
    assert expected, "expects nothing"
    found = outcome(case, tmp_path)
    if "error" in expected:
        check_error(found, expected.pop("error"))
    else:
        assert isinstance(found, Plan), found
        check_plan(found, expected)
    if not isinstance(found, AimError):
        check_candidates(found.as_json()["candidates"], expected.pop("why_not", {}))


def check_error(found: Plan | Refusal | AimError, expected: dict[str, Any]) -> None:
    assert not isinstance(found, Plan), found.recipe_id
    error = found.error if isinstance(found, Refusal) else found
    assert (error.error_class, error.code) == (expected["class"], expected["code"]), error.message
    everything = "\n".join((error.message, *error.details))
    for text in expected.get("contains", []):
        assert text in everything
    for text in expected.get("hint", []):
        assert text in error.hint


def check_plan(plan: Plan, expected: dict[str, Any]) -> None:
    words = plan.as_json()
    argv = f" {' '.join(words['command']['argv'])} "
    for key, value in expected.items():
        if key not in TEXT_KEYS:
            assert json.loads(json.dumps(words[key])) == value, key  # lists, as in YAML
    assert [gpu["index"] for gpu in words["gpus"]] == expected.get("gpu_indices", [g["index"] for g in words["gpus"]])
    for text in expected.get("argv_contains", []):
        assert f" {text} " in argv
    for text in expected.get("argv_lacks", []):
        assert f" {text} " not in argv
    assert words["command"]["unset"] == tuple(expected.get("unset", words["command"]["unset"]))
    for name, value in expected.get("env", {}).items():
        assert words["command"]["env"].get(name) == value, name
    for key in ("notes", "warnings"):
        for text in expected.get(key, []):
            assert any(text in one for one in words[key]), (text, words[key])


def check_candidates(candidates: list[dict[str, Any]], why_not: dict[str, str]) -> None:
    said = {
        f"{one['recipe_id']}@{one['gpu_count']}": one["passed_over"]
        or "; ".join(verdict["sentence"] for verdict in one["verdicts"] if not verdict["passed"])
        for one in candidates
    }
    for who, text in why_not.items():
        assert text in said[who]


def test_every_folder_is_a_whole_case_and_says_what_it_shows() -> None:
    folders = [path for path in HERE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert sorted(folders) == CASES
    for case in CASES:
        assert (case / "expected.yaml").is_file(), case.name
        assert read(case / "request.yaml").get("about"), case.name
    assert len(CASES) >= 25
