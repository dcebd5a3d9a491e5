"""`aim-engine fit MODEL`: how many of which GPUs hold a model, in which precision and with how long a context."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from aim_engine.catalog.model_card import ModelCard
from aim_engine.cli.arguments import FITTING, add_model, add_settings, typed_flags, unknown_numbers
from aim_engine.cli.terminal import Terminal
from aim_engine.decide import know, look
from aim_engine.errors import DoesNotFitError, InputError, NoRecipeError
from aim_engine.fits import Fit, fits, fits_here, precisions_of
from aim_engine.hardware.declared import declared_inventory
from aim_engine.hardware.products import all_products
from aim_engine.report import Paint, table
from aim_engine.request import Request, read_request
from aim_engine.selection.memory import Ledger, in_gib

_DESCRIPTION = """Say how many of which GPUs hold a model, in which precision and with how long a context: the page to
open before buying GPUs. It is about memory alone, not about speed and not about recipes.

Without --hardware every AMD GPU that is known is looked at, as many of them as one server is built with; with it those
GPUs, line by line. The numbers are those of the plan: what is computed and what is assumed stands beside them.
"""
_EXAMPLES = """examples:
  aim-engine fit Qwen/Qwen3-32B                                  every GPU, every precision that is known
  aim-engine fit Qwen/Qwen3-32B --hardware MI300X:8              line by line
  aim-engine fit Qwen/Qwen3-32B --context 32768 --concurrency 64 --precision fp8
"""
_BAR = 30
_SHADES = {"weights": "█", "kv cache": "▓"}  # then what is assumed, and what is free
_OTHER, _FREE = "▒", "·"


def add_to(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "fit", help="how many of which GPUs hold a model", description=_DESCRIPTION, epilog=_EXAMPLES
    )
    add_model(parser)
    parser.add_argument("--context", dest="context", metavar="TOKENS", help="the same as --max-model-len")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    add_settings(parser, only=FITTING)


def run(arguments: argparse.Namespace, terminal: Terminal, environment: dict[str, str]) -> int:
    typed = typed_flags(arguments)
    if arguments.context is not None:
        typed["max_model_len"] = arguments.context
    request = read_request(typed, environment)
    everywhere = request.origins.get("hardware", "default") == "default"
    card, found = _found(request, everywhere=everywhere)
    if arguments.json:
        asked = {"concurrency": request.concurrency, "nodes": request.nodes}
        rows = [one.as_json() for one in found]
        terminal.result_json({"model_id": request.required_model, "source": card.source, **asked, "fits": rows})
    else:
        terminal.result("\n".join(_page(request, card, found, terminal.paint, everywhere=everywhere)))
    if not any(one.gpu_count for one in found):
        raise DoesNotFitError(
            f"{request.required_model} fits on none of these", hint="a shorter context (--context), fewer requests at "
            "once (--concurrency), a lower precision or more GPUs"
        )  # fmt: skip
    return 0


def _found(request: Request, *, everywhere: bool) -> tuple[ModelCard, list[Fit]]:
    inventory = declared_inventory("MI300X:8") if everywhere else look(request)
    card = know(request, inventory).card
    if card is None or card.architecture is None:
        raise NoRecipeError(f"the numbers of {request.required_model} are not known", hint=unknown_numbers(request))
    limit, asked = card.architecture.max_context, request.max_model_len
    if isinstance(asked, int) and asked > limit:
        raise InputError(
            f"{asked:,} tokens are more than the model's own {limit:,}", hint=f"ask for a --context of at most {limit}"
        )
    precisions = precisions_of(card) if request.precision == "auto" else (request.precision,)
    if everywhere:
        return card, fits(card, request, all_products(), precisions)
    found = fits_here(card, request, inventory, precisions)
    if not found:
        raise InputError(f"{inventory.in_words()}: no GPU whose facts are known", hint="name one: --hardware MI300X:8")
    return card, found


def _page(request: Request, card: ModelCard, found: Sequence[Fit], paint: Paint, *, everywhere: bool) -> list[str]:
    at_once = f"{request.concurrency} request{'s' if request.concurrency > 1 else ''} of full length at once"
    over = f", over {request.nodes} nodes" if request.nodes > 1 else ""
    lines = [paint("strong", f"{request.required_model}, {at_once}{over}"), ""]
    if everywhere:
        count = "of each" if over else "gpus"
        lines += table([("gpu", "memory", "precision", count, "context", "a gpu", ""), *map(_row, found)], paint)
    for one in () if everywhere else found:
        lines += _ledger_page(one, paint)
    while lines[-1] == "":
        lines.pop()
    marks = f"{_SHADES['weights']} weights  {_SHADES['kv cache']} kv cache  {_OTHER} other  {_FREE} free"
    return [*lines, "", paint("dim", f"{marks}; of the share of a GPU that the engine may take"),
            paint("dim", f"weights: {card.weights_basis}, from {card.source or 'the checkpoint'}")]  # fmt: skip


def _row(one: Fit) -> tuple[str, ...]:
    head = (one.product, in_gib(one.memory_bytes), one.precision)
    book = one.ledger
    if one.gpu_count is None or book is None:
        return (*head, "–", "–", "–", _short(one.reason))
    return (*head, str(one.gpu_count), f"{book.context_tokens:,}", in_gib(book.total_bytes), _bar(book))


def _short(reason: str) -> str:
    return reason.partition(": ")[0] if reason.startswith("it does not fit") else reason


def _ledger_page(one: Fit, paint: Paint) -> list[str]:
    book = one.ledger
    count = f"{one.gpu_count} x " if one.gpu_count else "no number of "
    title = paint("strong", f"{count}{one.product} in {one.precision}{'' if one.gpu_count else ' that is here'}")
    if book is None:
        return [title, f"  {one.reason}", ""]
    rows = [(line.name, in_gib(line.bytes), line.basis, line.note) for line in book.lines]
    total = (
        "together",
        in_gib(book.total_bytes),
        "",
        f"of {in_gib(book.budget_bytes)} the engine may take of each GPU",
    )
    verdict = f"context {book.context_tokens:,} tokens" if one.gpu_count else one.reason
    lines = table([("memory of one", "bytes", "basis", "how"), *rows, total], paint)
    return [title, f"  {_bar(book)}  {verdict}", *(f"  {line}" for line in lines), ""]


def _bar(book: Ledger) -> str:
    """What each line takes of the budget; more than all of it is cut."""
    cells = ""
    share = 0.0
    for line in sorted(book.lines, key=lambda one: [*_SHADES, one.name].index(one.name)):
        share += line.bytes / max(1, book.budget_bytes)
        cells = cells.ljust(min(_BAR, round(share * _BAR)), _SHADES.get(line.name, _OTHER))
    return cells.ljust(_BAR, _FREE)
