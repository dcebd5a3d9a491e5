"""The detector table: surroundings and a wish in, an `Inventory` out, or the reasons there is none.

Knows the order in which layers are asked, nothing of how they look.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.amd.cli import AmdSmiProgramDetector
from aim_engine.hardware.amd.detector import AmdSmiDetector
from aim_engine.hardware.cpu import CpuDetector, survey_host
from aim_engine.hardware.inventory import Detector, Finding, Inventory, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from aim_engine.hardware.nvidia.detector import NvmlDetector

# The first that finds something is believed, so the order is from the best device to the last resort.
DETECTORS: tuple[Detector, ...] = (
    AmdSmiDetector(), AmdSmiProgramDetector(), KfdDetector(), NvmlDetector(), CpuDetector(),
)  # fmt: skip
DETECT = "detect"
_AS_GOOD = "auto"  # what AMD's own charts write for it
# What one layer may take of the time that is left while others for the same vendor wait: a hung one must leave some.
_SHARE = 0.7


def detect(wish: str, surroundings: Surroundings, *, detectors: Sequence[Detector] = DETECTORS) -> Inventory:
    """What is here ("detect"), what one layer alone finds ("cpu"), or what `wish` declares ("MI300X:8", a file, a
    recorded host's folder).

    An inventory that is returned lists at least one GPU; whether any is usable is for the reader to check.

    Raises:
        NoAcceleratorError: nothing was found, or hardware is there that cannot be used; says why and what to do.
        InputError: `wish` declares no hardware that is known.
    """
    word = wish.strip().lower()
    asked = [detector for detector in detectors if word in (DETECT, detector.name)]
    if asked:
        return _live(asked, surroundings)
    from aim_engine.hardware.declared import declared_inventory, recorded_host  # here: others do not pay for it

    root = recorded_host(wish)
    return declared_inventory(wish) if root is None else _recorded(detectors, surroundings, root)


def is_this_machine(wish: str, *, detectors: Sequence[Detector] = DETECTORS) -> bool:
    """Whether `wish` means hardware to be looked for here, and not declared or recorded one."""
    return wish.strip().lower() in (DETECT, _AS_GOOD, *(detector.name for detector in detectors))


def _recorded(detectors: Sequence[Detector], surroundings: Surroundings, root: Path) -> Inventory:
    """The variables of the recorded host choose among its GPUs; those of this machine choose nothing on it."""
    from aim_engine.hardware import recording

    environment = recording.variables(root)
    found = _live(detectors, replace(surroundings, root=root, environment=environment))
    notes = [f"{setting} was set on the recorded host, and counts here too" for setting in found.visibility]
    return replace(found, notes=(*found.notes, *notes))


def _live(detectors: Sequence[Detector], surroundings: Surroundings) -> Inventory:
    deadline = time.monotonic() + surroundings.timeout_seconds
    without: list[Finding] = []
    blocked: list[Finding] = []
    vendor = ""
    for place, detector in enumerate(detectors):
        if blocked and detector.vendor != vendor:
            break
        more = any(later.vendor == detector.vendor for later in detectors[place + 1 :])
        left = max(0.0, deadline - time.monotonic())
        finding = detector.detect(replace(surroundings, timeout_seconds=left * _SHARE if more else left))
        if finding.gpus:
            return _inventory(finding, without, surroundings)
        if finding.blocking:
            blocked.append(finding)
            vendor = detector.vendor
        without.append(finding)
    raise _refused(blocked, without) if blocked else _nothing(without)


def _refused(blocked: Sequence[Finding], without: Sequence[Finding]) -> NoAcceleratorError:
    """The first reason that is certain, or else the first, is the error; what the other layers said of the same
    hardware is its details: that Python's amdsmi is missing tells nobody that the driver is not loaded.
    """
    cause = next((finding for finding in blocked if finding.certain), blocked[0])
    others = _said_by(finding for finding in without if finding is not cause)
    details = tuple(text for text in dict.fromkeys((*cause.notes, *others)) if text != cause.reason)
    return NoAcceleratorError(cause.reason, hint=cause.hint, details=details)


def _said_by(findings: Iterable[Finding]) -> list[str]:
    """What layers without GPUs said, each thing once: several for one vendor say the same where there is nothing."""
    return [text for text in dict.fromkeys(t for found in findings for t in (*found.notes, found.reason)) if text]


def _inventory(finding: Finding, without: Sequence[Finding], surroundings: Surroundings) -> Inventory:
    host, host_notes = survey_host(surroundings)
    notes = _said_by(layer for layer in without if not layer.optional)
    if notes:
        notes[-1] += f"; using the {finding.gpus[0].product}"
    # the CPU's own finding carries the host's notes already
    notes += dict.fromkeys((*finding.notes, *host_notes))
    return Inventory(
        source=finding.source,
        gpus=finding.gpus,
        notes=tuple(notes),
        host=host,
        visibility=finding.visibility,
        hint="" if all(gpu.usable for gpu in finding.gpus) else finding.hint,
        driver_version=finding.driver_version,
        library_version=finding.library_version,
        recorded=not surroundings.is_live,
    )


def _nothing(without: Sequence[Finding]) -> NoAcceleratorError:
    reasons = dict.fromkeys(finding.reason for finding in without if finding.reason)
    return NoAcceleratorError(
        "no accelerator was found: " + ("; ".join(reasons) or "there is no way to look for one"),
        hint=next((finding.hint for finding in without if finding.hint), ""),
        details=tuple(note for finding in without for note in finding.notes),
    )
