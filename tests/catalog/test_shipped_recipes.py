"""Every recipe in recipes/, one by one: it says why and on what evidence, fits the GPUs it is for, is chosen for
something that could be asked, and is the only one to be chosen for it.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from aim_engine.backends.registry import is_known
from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.load import CatalogFolders, load_catalog, load_everything
from aim_engine.catalog.recipe import Recipe, Variant, read_recipe
from aim_engine.hardware.declared import declared_inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import read_request
from aim_engine.values import METRICS
from tests.building import ROOT

FOLDERS = CatalogFolders(recipes=(ROOT / "recipes",), models=(ROOT / "models",))
RECIPES, CARDS, _PROBLEMS = load_everything(FOLDERS)
MODEL_RECIPES = [one for one in RECIPES if not one.is_family]
SHAPES: dict[str, Architecture] = {card.model_id: card.architecture for card in CARDS if card.architecture}

every_recipe = pytest.mark.parametrize("recipe", MODEL_RECIPES, ids=lambda recipe: recipe.recipe_id)


def served(recipe: Recipe) -> Iterator[Variant]:
    """The variants of backends that are here; those of others have nobody to read them yet."""
    return (one for one in recipe.variants if is_known(one.backend) and one.enabled)


@cache
def outcome(
    model_id: str, gpu_type: str, gpus: int, precision: str, metric: str, backend: str = "vllm"
) -> Plan | Refusal:
    flags = {"model": model_id, "precision": precision, "metric": metric, "gpu_count": str(gpus), "backend": backend}
    request = read_request(flags, {})
    return make_plan(request, declared_inventory(f"{gpu_type}:{gpus}"), load_catalog(model_id, FOLDERS))


def asked_of(recipe: Recipe, variant: Variant) -> Iterator[Plan | Refusal]:
    """What comes of asking for the variant's precision and number of GPUs, for each metric that it serves."""
    for metric in (variant.metric,) if variant.metric else METRICS:
        yield outcome(recipe.model_id, recipe.gpu_type, variant.gpu_count, recipe.precision, metric, variant.backend)


def test_the_catalogue_is_as_wide_as_it_is_said_to_be() -> None:
    assert _PROBLEMS == []
    assert len({one.model_id for one in MODEL_RECIPES}) >= 50
    assert {one.precision for one in MODEL_RECIPES} >= {"bf16", "fp16", "fp8", "int4", "fp4"}
    assert {one.gpu_type for one in MODEL_RECIPES} >= {"MI300X", "MI308X", "MI325X", "MI350X", "MI355X", "MI250X",
                                                       "MI210", "R9700", "W7900"}  # fmt: skip
    assert {one.metric for recipe in MODEL_RECIPES for one in recipe.variants} == {None, *METRICS}


@every_recipe
def test_each_of_its_variants_is_chosen_for_its_gpu_precision_and_count(recipe: Recipe) -> None:
    """Unpinned, on its own hardware, for one metric at least; and for each it fits, by the ledger where the model has
    numbers.
    """
    for variant in served(recipe):
        found = list(asked_of(recipe, variant))
        for one in found:
            assert isinstance(one, Plan), (variant.gpu_count, one.error.message)
        assert any((one.recipe_id, one.winner.variant) == (recipe.recipe_id, variant) for one in found
                   if isinstance(one, Plan)), variant.gpu_count  # fmt: skip


@every_recipe
def test_its_memory_was_reckoned_or_it_is_said_that_it_was_not(recipe: Recipe) -> None:
    for variant in served(recipe):
        for found in asked_of(recipe, variant):
            assert isinstance(found, Plan)
            if recipe.model_id in SHAPES:
                assert found.ledger is not None
                assert found.ledger.fits
                assert found.context_tokens == found.winner.variant.args.get("max-model-len", found.context_tokens)
            else:
                assert any("whether it fits in memory was not checked" in one for one in found.warnings)


def test_no_two_variants_are_for_the_same() -> None:
    def key(recipe: Recipe, variant: Variant) -> tuple[object, ...]:
        return (recipe.model_id, recipe.gpu_type, recipe.precision, variant.backend, variant.gpu_count, variant.metric)

    keys = Counter(key(recipe, one) for recipe in RECIPES for one in recipe.variants)
    assert [one for one, count in keys.items() if count > 1] == []


@every_recipe
def test_its_file_begins_with_why_and_is_named_after_what_it_is_for(recipe: Recipe) -> None:
    assert Path(recipe.file).read_text().startswith("# ")
    metrics = {one.metric for one in recipe.variants}
    tuned = f"-{metrics.pop()}" if len(metrics) == 1 and None not in metrics else ""
    assert recipe.recipe_id.endswith(f"-{recipe.gpu_type.lower()}-{recipe.precision}{tuned}")


@every_recipe
def test_its_evidence_can_be_looked_up(recipe: Recipe) -> None:
    for evidence in {recipe.evidence, *(one.evidence for one in recipe.variants)}:
        assert evidence.level in ("derived", "reported"), "what was never run here cannot be more"
        assert len(evidence.source) > 20
        assert re.fullmatch(r"(vllm|sglang)( \d+(\.\d+)+)?", evidence.engine)
        assert datetime.date.fromisoformat(evidence.date) <= datetime.date(2026, 11, 22)
        if evidence.level == "reported":
            assert _is_a_citation(evidence), evidence.source


def _is_a_citation(evidence: Evidence) -> bool:
    """A repository with a path and a commit or a release, or a document with its name."""
    of_a_repository = re.search(r"github\.com/[\w.-]+/[\w.-]+[, ].*( at [0-9a-f]{8}| \d+\.\d+)", evidence.source)
    return bool(of_a_repository) or "rocm.docs.amd.com" in evidence.source


@every_recipe
def test_its_latent_attention_is_given_to_aiter_only_as_its_kernels_take_it(recipe: Recipe) -> None:
    """They have pages of one token (vLLM, rocm_aiter_mla.py) and for long 16 or 128 heads a GPU: vLLM 0.18 has what
    expands other pages and pads fewer heads (pull requests 27224 and 35850).
    """
    shape = SHAPES.get(recipe.model_id)
    if shape is None or not shape.kv_lora_rank:
        return
    for one in served(recipe):
        of_aiter = one.env.get("VLLM_ROCM_USE_AITER") == "1" and one.env.get("VLLM_ROCM_USE_AITER_MLA") != "0"
        is_new = _version(one.evidence.engine) >= (0, 18)
        heads = shape.attention_heads // one.gpu_count
        assert not of_aiter or is_new or (one.args.get("block-size") == 1 and heads in (16, 128)), one.gpu_count
        assert of_aiter or one.args.get("block-size") != 1, one.gpu_count


def _version(engine: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", engine))


def test_a_recipe_that_nobody_would_choose_is_found(tmp_path: Path) -> None:
    """The search above does not pass whatever it is given: a copy under another name is never chosen."""
    chosen = MODEL_RECIPES[0]
    path = tmp_path / "zz.yaml"
    path.write_text(Path(chosen.file).read_text().replace(f"recipe_id: {chosen.recipe_id}", "recipe_id: zz"))
    copy, problems = read_recipe(path)
    assert copy is not None, problems
    with pytest.raises(AssertionError):
        test_each_of_its_variants_is_chosen_for_its_gpu_precision_and_count(copy)
