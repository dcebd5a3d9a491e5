"""AIM Engine: serve a language model on AMD GPUs with the best settings known for it.

The program in five lines (`aim_engine.cli.serve` says it in code):

    request = read_request(flags, environment)      # what was asked, and where each value came from
    inventory = detect(request.hardware)            # what is here
    catalog = load_catalog(request.model)           # what we know
    plan = make_plan(request, inventory, catalog)   # which one, and why
    run(plan)                                       # inside the container, or outside
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aim_engine.engine import AIMEngine

__all__ = ["AIMEngine", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`from aim_engine import AIMEngine`, loaded when it is asked for: a plan needs but a part of it."""
    if name == "AIMEngine":
        from aim_engine.engine import AIMEngine

        return AIMEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
