"""The page of what can break: the rows of the fault matrix in, docs/faults.md out; see scripts/faults."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a file, from wherever

from scripts.pages import ROOT, renewed
from tests.faults.fault import Fault
from tests.faults.table import FAULTS

PAGE = ROOT / "docs" / "faults.md"
_BEGINNING = """\
# What breaks, and how it ends

Made by `scripts/faults` from the rows in `tests/faults`; not edited by hand. Each of these {count} faults is
injected for real by a test (the engine is the real vLLM, on a CPU), which asserts what its row says: the exit code with
the class in the last words, how many times an engine was started, what the ladder gave up, and the words.

- **found** – *planning*: before any engine is started; *start*: until it is ready; *serving*: afterwards; *stopping*:
  after a stop was asked for.
- **ends** – the exit code and the class of the last words, or that it serves on or serves again, with the class of the
  attempt that failed.
- **starts** – of an engine, the first included; of a fault while serving or stopping, those that it costs.
- **is told** – a piece of the message; and after the arrow one of the remedy.

The codes are explained in the README, `AIM_KEEP_ALIVE=1` keeps what ended inspectable, and `AIM_FALLBACK=0` switches
further attempts off.
"""
_HEAD = "| what happens | found | ends | starts | is told |\n| --- | --- | --- | --- | --- |\n"


def page(faults: Sequence[Fault]) -> str:
    """docs/faults.md."""
    parts = list(dict.fromkeys(fault.about for fault in faults))
    sections = [f"\n## {part}\n\n{_HEAD}" + "".join(_row(one) for one in faults if one.about == part) for part in parts]
    return _BEGINNING.format(count=len(faults)) + "".join(sections)


def _row(fault: Fault) -> str:
    alone = ", with AIM_FALLBACK=0" if "AIM_FALLBACK=0" in fault.injected else ""
    return f"| {_cell(fault.what)}{alone} | {fault.when} | {_end(fault)} | {fault.attempts} | {_told(fault)} |\n"


def _end(fault: Fault) -> str:
    if fault.code is not None:
        return f"{fault.code} {fault.error_class}"
    if not fault.error_class:
        return "serves on"
    without = f", without: {', '.join(fault.gives_up)}" if fault.gives_up else ""
    return f"serves again after {fault.error_class}{without}"


def _told(fault: Fault) -> str:
    return _cell(" → ".join(filter(None, (fault.says, fault.remedy))) or "–")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    wanted = page(FAULTS)
    return renewed({} if PAGE.is_file() and PAGE.read_text() == wanted else {PAGE: wanted})


if __name__ == "__main__":
    sys.exit(main())
