"""What a model needs where: a card, kinds of GPUs and a request in, one `Fit` for each kind and precision out.

Only about memory: whether there is a recipe does not matter, for each is reckoned with one made of the card. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from aim_engine.backends.registry import backend
from aim_engine.catalog.load import Catalog
from aim_engine.catalog.model_card import BITS, ModelCard
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.products import Product, product_by_name
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request
from aim_engine.selection.candidate import Judged
from aim_engine.selection.memory import Ledger
from aim_engine.selection.select import Chooser


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The fewest GPUs of a kind that hold the model in a precision (`gpu_count`, with the ledger of one of them), or
    None and `reason` why not; then `ledger` is that of the placement that lacks the least, where there is one. Of
    several nodes the GPUs are one's.
    """

    product: str
    memory_bytes: int
    precision: str
    gpu_count: int | None
    ledger: Ledger | None
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """`{gpu, gpu_memory_bytes, precision, gpu_count, max_model_len, memory, reason}`."""
        return {
            "gpu": self.product,
            "gpu_memory_bytes": self.memory_bytes,
            "precision": self.precision,
            "gpu_count": self.gpu_count,
            "max_model_len": self.ledger.context_tokens if self.ledger and self.gpu_count else None,
            "memory": self.ledger.as_json() if self.ledger else None,
            "reason": self.reason,
        }


def precisions_of(card: ModelCard) -> tuple[str, ...]:
    """The checkpoint's own, then those that the card knows a checkpoint or the bytes of, most bits first."""
    known = {*card.weights_bytes, *card.precisions}
    return tuple(sorted(known, key=lambda name: (name != card.precision, -BITS[name], name)))


def fits(card: ModelCard, request: Request, products: Iterable[Product], precisions: Iterable[str]) -> list[Fit]:
    """Every kind of GPU with every precision, as many of them as one server is built with at most."""
    asked = tuple(precisions)
    return [_fit(replace(card, precision=precision), request, declared_inventory(f"{one.name}:{one.max_per_node}"), one)
            for one in products for precision in asked]  # fmt: skip


def fits_here(card: ModelCard, request: Request, inventory: Inventory, precisions: Iterable[str]) -> list[Fit]:
    """The same for the GPUs of one inventory, with what others hold of them."""
    names = [name for name in inventory.usable_products if name != "CPU"]
    return [_fit(replace(card, precision=precision), request, inventory, product_by_name(name))
            for name in names for precision in precisions]  # fmt: skip


# Several nodes are served whole; the page is about the fewest GPUs of each that would do.
_FEWEST = Chooser(name="fit", choose=lambda offered: min(offered, key=lambda one: one.candidate.gpu_count))


def _fit(card: ModelCard, request: Request, inventory: Inventory, product: Product) -> Fit:
    made = backend(request.backend).derive(card, request.required_model, product)
    if made is None:
        return _no(product, card, "the model's numbers are not known")
    wish = replace(
        request, metric="latency", precision="auto", recipe=None, gpu_count=None, force=False, min_evidence="derived"
    )
    outcome = make_plan(wish, inventory, Catalog(recipes=(made,), card=card), advise=False,
                        chooser=_FEWEST if request.nodes > 1 else None)  # fmt: skip
    if isinstance(outcome, Refusal):
        return _refused(outcome, product, card)
    return _of(outcome, product, card)


def _of(plan: Plan, product: Product, card: ModelCard) -> Fit:
    return Fit(product=product.name, memory_bytes=product.memory_bytes, precision=str(card.precision),
               gpu_count=plan.winner.gpu_count, ledger=plan.ledger)  # fmt: skip


def _refused(refusal: Refusal, product: Product, card: ModelCard) -> Fit:
    nearest = min(refusal.judged, key=_lacks, default=None)
    if nearest is None:
        return _no(product, card, refusal.error.message)
    failures = [verdict for verdict in nearest.failures if verdict.rule != "memory"] or list(nearest.failures)
    reason = failures[0].sentence if failures else refusal.error.message
    return replace(_no(product, card, reason), ledger=nearest.candidate.ledger)


def _lacks(judged: Judged) -> tuple[int, int]:
    book = judged.candidate.ledger
    others = sum(verdict.rule != "memory" for verdict in judged.failures)
    return others, book.missing_bytes if book else 0


def _no(product: Product, card: ModelCard, reason: str) -> Fit:
    return Fit(product=product.name, memory_bytes=product.memory_bytes, precision=str(card.precision), gpu_count=None,
               ledger=None, reason=reason)  # fmt: skip
