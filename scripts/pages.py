"""Files that are made from others: what each should hold in; the stale ones written, or only named, out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def renewed(stale: Mapping[Path, str]) -> int:
    """Write them and name them on stderr. With --check nothing is written, and the exit status is 1 if any is."""
    checking = "--check" in sys.argv
    for path, text in stale.items():
        print(path.relative_to(ROOT), file=sys.stderr)
        if not checking:
            path.write_text(text)
    return int(checking and bool(stale))
