"""The measurements that a cache folder keeps: the folder and the names of checkpoints in, `Measurement`s out, and one
more in.

`AIM_CACHE_DIR/measured/<checkpoint>/v<format>/<hash of the occasion>.json`. What is damaged is told and otherwise as if
it were not there. Knows no plan, and nothing of what the figures mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aim_engine.catalog.kept_files import Shelf
from aim_engine.catalog.measurement import FORMAT, Measurement, read_measurement

_SHELF = Shelf(name="measured", format=FORMAT, read=read_measurement)


def recall(cache_dir: Path, checkpoints: Iterable[str]) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """All that is remembered of these checkpoints, and a sentence for every file that cannot be read."""
    found, unread = _SHELF.recall(cache_dir, checkpoints)
    return found, tuple(
        f"{path}, which tells of memory that was measured, cannot be read ({why}); what it told is assumed again, and "
        "the next start replaces it" for path, why in unread
    )  # fmt: skip


def keep(cache_dir: Path, measurement: Measurement) -> Path:
    """Write it down, in place of the last one of the same occasion; where.

    Raises:
        OSError: the cache cannot be written to, or its disk is full.
    """
    return _SHELF.keep(cache_dir, measurement.occasion.checkpoint, measurement.occasion.as_json(), measurement)
