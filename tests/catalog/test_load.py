"""Folders of recipes and cards: what is read, in which order, and every error at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from aim_engine.catalog.load import (
    Catalog,
    CatalogFolders,
    catalog_folders,
    known_models,
    load_catalog,
    load_everything,
    nearest_models,
    read_loose_file,
)
from aim_engine.errors import CatalogError
from tests.building import MODEL, write_recipe


@pytest.fixture
def folders(tmp_path: Path) -> CatalogFolders:
    """A user's and a built-in folder of each kind, all empty."""
    found = CatalogFolders(
        recipes=(tmp_path / "mine", tmp_path / "built-in"), models=(tmp_path / "my-models", tmp_path / "models")
    )
    for folder in (*found.recipes, *found.models):
        folder.mkdir()
    return found


def ids(catalog: Catalog) -> list[str]:
    return [recipe.recipe_id for recipe in catalog.recipes]


def write_card(root: Path, model_id: str, text: str = "") -> Path:
    path = root / f"{model_id}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"model_id: {model_id}\n{text}")
    return path


def test_the_models_recipes_and_the_families_are_loaded_and_nothing_else(folders: CatalogFolders) -> None:
    write_recipe(folders.recipes[1], "one")
    write_recipe(folders.recipes[1], "any", model_id='"*"')
    write_recipe(folders.recipes[1], "other", model_id="org/other")
    assert ids(load_catalog(MODEL, folders)) == ["any", "one"]
    assert ids(load_catalog(None, folders)) == ["any"]


def test_other_models_files_are_never_opened(folders: CatalogFolders) -> None:
    """They are broken, or would never answer."""
    write_recipe(folders.recipes[1], "one")
    write_recipe(folders.recipes[1], "broken", "a: [", model_id="org/other")
    os.mkfifo(folders.recipes[1] / "org/other/hang.yaml")
    write_card(folders.models[1], MODEL)
    (folders.models[1] / "Qwen" / "Other.yaml").write_text("a: [")
    assert ids(load_catalog(MODEL, folders)) == ["one"]


def test_only_the_asked_models_files_are_opened(folders: CatalogFolders) -> None:
    for number in range(20):
        write_recipe(folders.recipes[1], f"other-{number}", model_id=f"org/other-{number}")
    wanted = {write_recipe(folders.recipes[1], "one"), write_card(folders.models[1], MODEL)}
    opened: set[Path] = set()
    listening = [True]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event == "open" and str(arguments[0]).endswith(".yaml"):
            opened.add(Path(str(arguments[0])))

    import sys

    sys.addaudithook(hear)
    load_catalog(MODEL, folders)
    listening.clear()
    assert opened == wanted


def test_the_users_recipe_takes_the_built_in_ones_place_and_is_said_so(folders: CatalogFolders) -> None:
    mine = write_recipe(folders.recipes[0], "one", precision="fp8")
    theirs = write_recipe(folders.recipes[1], "one")
    catalog = load_catalog(MODEL, folders)
    assert [(recipe.precision, recipe.order) for recipe in catalog.recipes] == [("fp8", 0)]
    assert catalog.notes == (f"recipe one: {mine} is used instead of {theirs}",)


def test_the_users_card_comes_first(folders: CatalogFolders) -> None:
    write_card(folders.models[0], MODEL, "license: mine\n")
    write_card(folders.models[1], MODEL, "license: theirs\n")
    card = load_catalog(MODEL, folders).card
    assert card is not None
    assert card.license == "mine"


def test_every_error_of_every_file_is_reported_at_once(folders: CatalogFolders) -> None:
    first = write_recipe(folders.recipes[0], "one", "precision: [")
    second = write_recipe(folders.recipes[1], "two", precision="bf61")
    third = write_recipe(folders.recipes[1], "three", model_id="org/other").rename(
        folders.recipes[1] / MODEL / "three.yaml"
    )
    card = write_card(folders.models[1], MODEL, "licence: x\nprecision: y\n")
    with pytest.raises(CatalogError) as caught:
        load_catalog(MODEL, folders)
    details = "\n".join(caught.value.details)
    assert len(caught.value.details) == 5
    assert all(str(path) in details for path in (first, second, third, card))
    assert "did you mean license?" in details
    assert caught.value.message.startswith(f"5 errors in 4 files, the first in {first}: is not YAML")


def test_a_single_error_is_the_message(folders: CatalogFolders) -> None:
    path = write_recipe(folders.recipes[1], "one", "precision: [")
    with pytest.raises(CatalogError, match=f"^an error in {path}: is not YAML: "):
        load_catalog(MODEL, folders)


@pytest.mark.parametrize(
    ("place", "text_id", "text_model", "sentence"),
    [
        ("Qwen/Qwen3-32B/one.yaml", "two", MODEL, "recipe_id: must be the file's name, one"),
        ("Qwen/Qwen3-32B/one.yaml", "one", "org/x", 'model_id: must be that of its folder, "Qwen/Qwen3-32B", found'),
        ("Qwen/Qwen3-32B/deep/one.yaml", "one", MODEL, 'must be that of its folder, "Qwen/Qwen3-32B/deep"'),
        ("_families/cpu/one.yaml", "one", MODEL, 'model_id: must be that of its folder, "*", found "Qwen/Qwen3-32B"'),
    ],
)
def test_the_path_is_the_id(folders: CatalogFolders, place: str, text_id: str, text_model: str, sentence: str) -> None:
    path = write_recipe(folders.recipes[1], text_id, model_id=text_model)
    target = folders.recipes[1] / place
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    with pytest.raises(CatalogError, match="an error in") as caught:
        load_catalog(MODEL, folders)
    assert sentence in caught.value.message


def test_two_recipes_of_one_folder_with_one_id(folders: CatalogFolders) -> None:
    first = write_recipe(folders.recipes[1], "one", model_id='"*"')
    shutil.copy(first, folders.recipes[1] / "_families" / "one.yml")
    with pytest.raises(CatalogError, match=f"recipe_id: is taken already, by {first}"):
        load_catalog(None, folders)


def test_a_card_lies_at_its_id(folders: CatalogFolders) -> None:
    write_card(folders.models[1], "Qwen/Other").rename(folders.models[1] / "Qwen" / "Qwen3-32B.yaml")
    with pytest.raises(CatalogError, match='model_id: must be its path, "Qwen/Qwen3-32B"'):
        load_catalog(MODEL, folders)


@pytest.mark.parametrize("kind", ["recipes", "models"])
def test_a_folder_that_is_missing_or_a_file_is_an_error(folders: CatalogFolders, kind: str) -> None:
    folder = getattr(folders, kind)[0]
    folder.rmdir()
    with pytest.raises(CatalogError, match=f"the {kind} folder {folder} is not there or is not a folder"):
        load_catalog(MODEL, folders)
    folder.write_text("")
    with pytest.raises(CatalogError, match="is not a folder"):
        load_catalog(MODEL, folders)


def test_a_file_where_the_models_folder_should_be_cannot_be_read(folders: CatalogFolders) -> None:
    (folders.recipes[1] / "Qwen").mkdir()
    (folders.recipes[1] / MODEL).write_text("")
    with pytest.raises(CatalogError, match="cannot be read: Not a directory"):
        load_catalog(MODEL, folders)


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is closed to root; tests/cli tries it as another user")
def test_a_folder_that_may_not_be_read(folders: CatalogFolders) -> None:
    (folders.recipes[1] / MODEL).mkdir(parents=True)
    (folders.recipes[1] / MODEL).chmod(0)
    with pytest.raises(CatalogError, match="cannot be read: Permission denied"):
        load_catalog(MODEL, folders)


def test_a_mounted_configmap_is_read_once(folders: CatalogFolders) -> None:
    """Kubernetes mounts links to files in a folder whose name begins with two dots."""
    data = folders.recipes[0] / MODEL / "..2026_01_01"
    data.mkdir(parents=True)
    shutil.move(write_recipe(folders.recipes[0], "one"), data / "one.yaml")
    (folders.recipes[0] / MODEL / "..data").symlink_to(data)
    (folders.recipes[0] / MODEL / "one.yaml").symlink_to("..data/one.yaml")
    assert ids(load_catalog(MODEL, folders)) == ["one"]


@pytest.mark.parametrize("model_id", ["../secrets", "..", "org/../../etc"])
def test_an_id_never_leaves_its_folder(folders: CatalogFolders, model_id: str) -> None:
    outside = folders.recipes[1].parent / "secrets"
    outside.mkdir()
    (outside / "x.yaml").write_text("a: [")
    (folders.models[1].parent / "secrets.yaml").write_text("a: [")
    assert load_catalog(model_id, folders).recipes == ()


def test_known_models_come_from_names_alone(folders: CatalogFolders) -> None:
    write_recipe(folders.recipes[0], "broken", "a: [", model_id="org/a")
    write_recipe(folders.recipes[1], "family", model_id='"*"')
    write_card(folders.models[1], "org/b")
    assert known_models(folders) == ("org/a", "org/b")


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("qwen/qwen3-32b", ["Qwen/Qwen3-32B"]),
        ("someone/Qwen3-32B", ["Qwen/Qwen3-32B"]),
        ("Qwen/Qwen3-32", ["Qwen/Qwen3-32B"]),
        ("Qwen/Qwne3-32B", ["Qwen/Qwen3-32B"]),
        ("Qwen/Qwen3-32B", []),  # the one that was asked for is no other
        ("Qwen/Qwen3-3B", []),  # another size is another model, not a misspelling
        ("Qwen/Qwen3-0.6B", []),
        ("Qwen/Qwen2.5-32B", []),
        ("nothing/like-it", []),
    ],
)
def test_nearest_models(asked: str, near: list[str]) -> None:
    assert nearest_models(asked, ["Qwen/Qwen3-32B", "org/gpt"]) == near


def test_loose_files_are_told_apart_and_checked(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "a", "one").rename(tmp_path / "one.yaml")
    (tmp_path / "card.yaml").write_text("model_id: a/b\nlicence: x\n")
    (tmp_path / "not.yaml").write_text("a: [")
    count, recipes, problems = read_loose_file(recipe)
    assert (count, len(recipes), problems) == (1, 1, [])
    count, _, problems = read_loose_file(tmp_path)
    assert count == 3
    assert {Path(problem.file).name for problem in problems} == {"card.yaml", "not.yaml"}
    with pytest.raises(CatalogError, match="is not there"):
        read_loose_file(tmp_path / "nowhere")


def test_any_part_of_a_catalogue_may_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root, an organisation's folder, a model's, a file; also where one stands in it."""
    root = tmp_path / "mine"
    file = write_recipe(root, "one", model_id="org/m")
    monkeypatch.chdir(root / "org")
    parts = (root, root / "org", root / "org" / "m", file, Path(), Path("../org"), Path(".."), Path("m"))
    assert [read_loose_file(part)[2] for part in parts] == [[]] * len(parts)
    (root / "org" / "m").rename(root / "org" / "n")
    for part in (root, root / "org", Path()):
        (problem,) = read_loose_file(part)[2]
        assert problem.sentence == 'must be that of its folder, "org/n", found "org/m"'


# --- what is shipped ---------------------------------------------------------------------------------------------


def test_everything_that_is_shipped_loads() -> None:
    recipes, cards, problems = load_everything(catalog_folders())
    assert problems == []
    assert {recipe.model_id for recipe in recipes} >= {MODEL, "*"}
    assert {card.model_id for card in cards} >= {MODEL}
    for recipe in recipes:
        assert recipe.description
        assert all(one.evidence.source for one in recipe.variants), recipe.recipe_id


def test_the_shipped_recipes_say_what_the_issue_asks_for() -> None:
    """Qwen3-32B on MI300X in bf16 and fp8 on 1, 2, 4 and 8 GPUs, and families for the CPU."""
    catalog = load_catalog(MODEL, catalog_folders())
    shapes = {(r.gpu_type, r.precision): [v.gpu_count for v in r.variants] for r in catalog.recipes}
    assert shapes[("MI300X", "bf16")] == shapes[("MI300X", "fp8")] == [1, 2, 4, 8]
    assert {precision for gpu_type, precision in shapes if gpu_type == "CPU"} == {"bf16", "fp16"}


def test_a_shipped_variant_says_the_tensor_parallel_size_of_its_name() -> None:
    recipes, _, _ = load_everything(catalog_folders())
    for recipe in recipes:
        for one in recipe.variants:
            assert one.args.get("tensor-parallel-size", one.gpu_count) == one.gpu_count, recipe.recipe_id


def test_no_shipped_recipe_claims_what_nobody_has_done() -> None:
    """No AMD GPU was at hand: nothing may say that it was served or measured on one."""
    recipes, _, _ = load_everything(catalog_folders())
    levels = {one.evidence.level for recipe in recipes if recipe.gpu_type != "CPU" for one in recipe.variants}
    assert levels <= {"derived", "reported", "parsed"}


def test_a_link_that_leads_back_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "again").symlink_to(tmp_path)
    recipes, _, problems = load_everything(CatalogFolders(recipes=(tmp_path,), models=()))
    assert (recipes, problems) == ([], [])


@pytest.mark.parametrize("place", ["/dev/null", "/no/such/folder"])
def test_a_search_folder_that_is_none(folders: CatalogFolders, place: str) -> None:
    with pytest.raises(CatalogError, match=f"{place} is not there or is not a folder") as caught:
        load_everything(CatalogFolders(recipes=(Path(place),), models=folders.models))
    assert "AIM_RECIPES_DIR" in str(caught.value.hint)
