"""The tiny model for long prompts: its folder comes in, a copy that takes many more tokens goes out. Positions are
computed, so that no weight changes.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

CONTEXT = 32768
_IDS = range(10, 300)  # of its vocabulary, none of them special


def longer(model: Path, folder: Path) -> Path:
    """The copy, below `folder`, for anybody to read."""
    made = folder / "long"
    shutil.copytree(model, made)
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        values = json.loads((made / name).read_text(encoding="utf-8"))
        (made / name).write_text(json.dumps({**values, key: CONTEXT}), encoding="utf-8")
    for place in (folder, made, *made.iterdir()):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return made


def long_prompt(tokens: int) -> list[int]:
    """Random ones: no prefix of it has been seen before."""
    return random.choices(_IDS, k=tokens)
