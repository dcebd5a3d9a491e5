"""What would break or spoil a start, before it is tried: `Needs` and a `Site` in, one `Check` for each question out.

`aim-engine doctor` shows them all, and every start asks the same. Starts nothing, changes nothing, asks no network, and
takes a few milliseconds. Knows no plan: what a start needs is told by whoever made one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from aim_engine.errors import AimError, InternalError, error_classes
from aim_engine.hardware.preflight import amd, files, memory
from aim_engine.hardware.preflight.check import ACCESS, DEVICES, DISK, INPUT, MEMORY, Check, Needs, Site, skipped

Look = Callable[[Needs, Site], Check]

# A further check is a line here. The order is that in which a person would mend things.
CHECKS: Mapping[str, Look] = {
    "devices": amd.devices,
    "GPU memory": memory.gpu_memory,
    "shared memory": memory.shared_memory,
    "cache": files.cache,
    "disk": files.disk,
    "model access": files.model_access,
    "ports": files.ports,
    "host memory": memory.host_memory,
    "locked memory": memory.locked_memory,
    "numa balancing": amd.numa_balancing,
    "iommu": amd.iommu,
    "driver": amd.driver,
    "variables": amd.variables,
}
# What says something of a model wherever it will be served; all others are about this machine.
_ANYWHERE = ("model access",)
# What the folder of a recorded host holds all of.
_RECORDED = ("devices",)
# Of several errors the first of these is the one to mend first.
_GRAVITY = (DEVICES, MEMORY, DISK, ACCESS, INPUT)


def look(needs: Needs, site: Site, *, without: Sequence[str] = ()) -> tuple[Check, ...]:
    """Every check but those named."""
    return tuple(_ask(name, CHECKS[name], needs, site) for name in CHECKS if name not in without)


def look_from_elsewhere(needs: Needs, site: Site, *, recorded: Site | None = None) -> tuple[Check, ...]:
    """The same for a machine that is not this one: almost nothing can be said of it from here, and what a recording
    holds of it where it is `recorded`.
    """
    places = {**dict.fromkeys(_ANYWHERE, site), **dict.fromkeys(_RECORDED if recorded else (), recorded)}
    return tuple(
        _ask(name, check, needs, place) if (place := places.get(name)) else skipped(name, "not this machine")
        for name, check in CHECKS.items()
    )


def _ask(name: str, check: Look, needs: Needs, site: Site) -> Check:
    try:
        return check(needs, site)
    except (OSError, ValueError) as error:  # a question that cannot be answered is no reason against a start
        return skipped(name, f"it could not be looked at: {error}")


def worst(checks: Iterable[Check]) -> Check | None:
    """The gravest error, or else the first warning, or None where all is well."""
    found = list(checks)
    errors = [check for check in found if check.outcome == "error"]
    warnings = [check for check in found if check.outcome == "warning"]
    return min(errors, key=_gravity) if errors else next(iter(warnings), None)


def _gravity(check: Check) -> int:
    return _GRAVITY.index(check.code) if check.code in _GRAVITY else len(_GRAVITY)


def error_of(checks: Iterable[Check]) -> AimError | None:
    """The gravest error as one of the error tree, the others as its details; None where there is none."""
    found = list(checks)
    gravest = worst(found)
    if gravest is None or gravest.outcome != "error":
        return None
    others = tuple(
        f"{check.sentence}; remedy: {check.remedy}"
        for check in found
        if check.outcome == "error" and check is not gravest
    )
    kind = next((kind for kind in error_classes() if kind.code == gravest.code), InternalError)
    return kind(gravest.sentence, hint=gravest.remedy, details=others)
