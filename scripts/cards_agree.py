"""Model cards beside what the hub says: ids of models in, every difference out, see scripts/cards-agree.

Reads config.json and the headers of the weights by small requests; no weights are fetched.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from wherever

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.hub import checkpoint_at_hub
from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.catalog.model_card import ModelCard
from aim_engine.errors import AimError

# Norms, biases and whatever else a count over shapes leaves out
_BYTES_APART = 0.001
_COULD_NOT_ASK = 41


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One card: its `differences` a sentence each, or `unasked`, why it could not be compared."""

    model_id: str
    differences: tuple[str, ...] = ()
    unasked: str = ""

    def in_words(self) -> str:
        if self.unasked:
            return f"{self.model_id}: not compared: {self.unasked}"
        return f"{self.model_id}: {'; '.join(self.differences) or 'as the hub has it'}"


def compare(card: ModelCard, environment: Mapping[str, str]) -> Compared:
    """The card beside the hub's own files. Never raises for what the hub answers."""
    try:
        there = checkpoint_at_hub(card.model_id, token=environment.get("HF_TOKEN"), environment=environment)
        if there is None:
            return Compared(model_id=card.model_id, unasked="huggingface_hub is not installed")
        found = card_of(there)
    except AimError as error:
        return Compared(model_id=card.model_id, unasked=error.message)
    return Compared(model_id=card.model_id, differences=tuple(differences(card, found)))


def differences(card: ModelCard, found: ModelCard) -> Iterator[str]:
    """What the card says otherwise than the checkpoint. What a card leaves out is no difference."""
    if card.family and card.family != found.family:
        yield f"architecture {card.family}, the hub's {found.family}"
    if card.precision and card.precision != found.precision:
        yield f"precision {card.precision}, the hub's {found.precision}"
    if card.architecture and found.architecture:
        yield from _of_shape(card.architecture, found.architecture)
    own = card.precision or ""
    mine, theirs = card.weights_bytes.get(own), found.weights_bytes.get(own)
    if mine and theirs and abs(mine - theirs) > _BYTES_APART * theirs:
        yield f"weights_bytes {mine:,} in {own}, the hub's {theirs:,}"


def _of_shape(mine: Architecture, theirs: Architecture) -> Iterator[str]:
    for field in fields(Architecture):
        ours, there = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name != "caches" and ours != there:
            yield f"{field.name} {ours:,}, the hub's {there:,}"
    if replace(mine, caches=mine.layer_caches) != replace(theirs, caches=theirs.layer_caches):
        yield "what the layers keep is not what the hub's config says"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/cards-agree", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", metavar="ORG/NAME", nargs="*", help="which cards (default: all)")
    asked = parser.parse_args().models
    own = os.environ.get("AIM_MODELS_DIR")
    _, cards, problems = load_everything(catalog_folders(None, Path(own) if own else None))
    known = {card.model_id: card for card in cards}
    if problems or not set(asked) <= set(known):
        missing = ", ".join(sorted(set(asked) - set(known)))
        print(f"cards-agree: {problems[0].sentence if problems else f'no card of {missing}'}", file=sys.stderr)
        return 10
    results = []
    for name in asked or sorted(known):
        results.append(compare(known[name], os.environ))
        print(results[-1].in_words(), flush=True)
    wrong, unasked = (
        sum(map(bool, found)) for found in zip(*((r.differences, r.unasked) for r in results), strict=True)
    )
    print(f"{len(results) - wrong - unasked} agree, {wrong} differ, {unasked} could not be compared", file=sys.stderr)
    return 1 if wrong else _COULD_NOT_ASK if unasked == len(results) else 0


if __name__ == "__main__":
    sys.exit(main())
