"""A plan for a recorded host is the same, byte for byte, from its folder or from what `detect --json` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.fakes.trees import host_names, plant_host, read_host

MODEL = "Qwen/Qwen3-32B"


@pytest.mark.parametrize("name", host_names())
def test_plans_of_a_folder_and_of_its_inventory_are_identical(name: str, cli: Run, tmp_path: Path) -> None:
    folder = plant_host(read_host(name), tmp_path / "host")
    detected = cli("detect", "--hardware", str(folder), "--json")
    plan = cli("plan", MODEL, "--hardware", str(folder), "--json", AIM_OFFLINE="1")
    if detected.code:  # no GPU and no inventory: planning says the same
        assert (plan.code, plan.last_words) == (detected.code, detected.last_words)
        return
    file = tmp_path / "inventory.json"
    file.write_text(detected.stdout)
    again = cli("plan", MODEL, "--hardware", str(file), "--json", AIM_OFFLINE="1")
    assert (again.code, again.stdout) == (plan.code, plan.stdout)
    assert cli("detect", "--hardware", str(file), "--json").stdout == detected.stdout
