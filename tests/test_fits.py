"""What a model needs where: the fewest GPUs that hold it, for each kind and precision, and why not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.errors import DoesNotFitError
from aim_engine.fits import Fit, fits, fits_here, precisions_of
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.products import all_products, product_by_name
from aim_engine.plan import Plan, Refusal
from tests.building import CARD, GIB, here, request


def on(gpu: str, precision: str = "bf16", **flags: str) -> Fit:
    (found,) = fits(CARD, request(**flags), [product_by_name(gpu)], [precision])
    return found


@pytest.mark.parametrize(
    ("gpu", "precision", "count"),
    [("MI300X", "bf16", 1), ("MI210", "bf16", 2), ("W7900", "bf16", 2), ("R9700", "bf16", 4), ("R9700", "fp8", 2),
     ("MI355X", "fp8", 1)],
)  # fmt: skip
def test_the_fewest_gpus(gpu: str, precision: str, count: int) -> None:
    found = on(gpu, precision)
    assert (found.gpu_count, found.reason) == (count, "")
    assert found.ledger is not None
    assert found.ledger.fits
    if count > 1:  # and half as many do not hold it, with as little context as a plan would offer
        fewer = declared_inventory(f"{gpu}:{count // 2}")
        (less,) = fits_here(CARD, request(), fewer, [precision])
        assert less.gpu_count is None
        assert less.reason.startswith("it does not fit by ")


def test_why_not() -> None:
    assert on("MI210", "fp8").reason == "the checkpoint is fp8, in which MI210 does not compute"
    short = on("RX 9070 GRE")
    assert (short.gpu_count, short.ledger is not None and not short.ledger.fits) == (None, True)
    (unknown,) = fits(replace(CARD, architecture=None), request(), [product_by_name("MI300X")], ["bf16"])
    assert unknown.reason == "the model's numbers are not known"


def test_a_longer_context_and_more_at_once_take_more() -> None:
    assert on("MI300X", max_model_len="40960", concurrency="1").gpu_count == 1
    assert (on("MI300X", max_model_len="40960", concurrency="16").gpu_count or 0) > 1


def test_what_others_hold_counts() -> None:
    held = here("MI300X:2", free={0: 30 * GIB, 1: 30 * GIB})
    (found,) = fits_here(CARD, request(), held, ["bf16"])
    assert found.gpu_count is None
    (free,) = fits_here(CARD, request(), here("MI300X:2"), ["bf16"])
    assert free.gpu_count == 1


def test_a_recipe_s_wishes_do_not_matter() -> None:
    """It is about memory: neither evidence nor a pin, a count nor the metric changes it."""
    plain = on("MI300X")
    assert (
        on("MI300X", metric="throughput", recipe="x", min_evidence="measured", gpu_count="4").as_json()
        == plain.as_json()
    )


def test_precisions_are_the_own_one_first() -> None:
    assert precisions_of(CARD) == ("bf16", "fp8")
    assert precisions_of(replace(CARD, precision="fp8")) == ("fp8", "bf16")
    assert precisions_of(replace(CARD, weights_bytes={}, precision=None)) == ()


def test_every_product_has_a_row_for_every_precision() -> None:
    products = all_products()
    found = fits(CARD, request(), products, ["bf16", "fp8"])
    assert [(one.product, one.precision) for one in found] == [
        (product.name, precision) for product in products for precision in ("bf16", "fp8")
    ]


def test_it_is_the_plan_s_own_ledger() -> None:
    from aim_engine.backends.vllm import derive
    from aim_engine.catalog.load import Catalog
    from aim_engine.plan import make_plan

    made = derive(CARD, CARD.model_id, product_by_name("MI210"))
    assert made is not None
    plan = make_plan(request(), declared_inventory("MI210:8"), Catalog(recipes=(made,), card=CARD))
    assert isinstance(plan, Plan)
    assert plan.ledger == on("MI210").ledger
    refused = make_plan(request(), declared_inventory("MI210:1"), Catalog(recipes=(made,), card=CARD))
    assert isinstance(refused, Refusal)
    assert isinstance(refused.error, DoesNotFitError)
