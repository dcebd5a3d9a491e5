"""The table of vLLM's options by version, and the registry of backends."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from aim_engine.backends import vllm
from aim_engine.backends import vllm_platforms as platforms
from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.registry import backend
from aim_engine.backends.vllm_translation import translate
from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.errors import InputError
from tests.building import ROOT

DATA = json.loads((ROOT / "aim_engine/backends/vllm_versions.json").read_text())


def test_the_table_speaks_only_of_versions_of_its_grid_in_order() -> None:
    grid = DATA["grid"]
    parsed = [versions.parse_version(text) for text in grid]
    assert parsed == sorted(parsed)  # type: ignore[type-var]
    for first, last in DATA["options"].values():
        assert grid.index(first) <= grid.index(last)


def test_what_replaces_an_option_exists_today() -> None:
    assert all(versions.has_option(new, None) for new in DATA["renamed"].values())
    for gone in [*DATA["renamed"], *DATA["without_effect"], *DATA["replaced"]]:
        assert not versions.has_option(gone, None), gone


def test_every_option_of_a_shipped_recipe_exists_today_and_in_the_version_it_names() -> None:
    """In that version's own words, that is."""
    recipes, _, _ = load_everything(catalog_folders())
    missed = [
        (recipe.recipe_id, change.key, version)
        for recipe in recipes
        for variant in recipe.variants
        if variant.backend == vllm.name
        for version in (None, versions.parse_version(variant.evidence.engine.removeprefix("vllm ").strip() or None))
        for change in translate(variant.args, variant.env, variant.optional, version).absent
    ]
    assert missed == []


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("0.11.1rc2.dev141+g38f.rocm700", (0, 11, 1)), ("0.9.2", (0, 9, 2)), ("1", (1,)), ("odd", None), (None, None)],
)
def test_versions(text: str | None, parsed: tuple[int, ...] | None) -> None:
    assert versions.parse_version(text) == parsed


def test_an_unknown_vendor_is_taken_for_the_first_platform() -> None:
    from tests.building import cpu_here, here

    assert platforms.platform_for(here().gpus[0]).name == "rocm"
    assert platforms.platform_for(cpu_here().gpus[0]).name == "cpu"


def test_the_registry_knows_vllm_and_says_what_there_is() -> None:
    assert backend("vllm").name == vllm.name
    with pytest.raises(InputError, match="AIM_BACKEND: 'vlm' is not a backend of this installation") as caught:
        backend("vlm")
    assert caught.value.hint.startswith("did you mean vllm? use one of vllm")


def test_a_plug_in_joins_through_its_entry_point(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = tmp_path_factory.mktemp("site")
    (site / "my_backend.py").write_text("name = 'mine'\n")
    metadata = site / "my_backend-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-backend\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[aim_engine.backends]\nmine = my_backend\n")
    program = f"import sys; sys.path[:0] = [{str(site)!r}, {str(ROOT)!r}]\n" + (
        "from aim_engine.backends.registry import backend; print(backend('mine').name)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("mine\n", "")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_installed_vllm_is_found() -> None:
    engine = vllm.find(tuple(sys.path), sys.executable)
    assert engine is not None
    assert versions.parse_version(engine.version) is not None
