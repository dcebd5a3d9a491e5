"""The detector table: surroundings and a wish in, an `Inventory` out, or the reasons there is none.

Knows the order in which layers are asked, nothing of how they look.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.amd import AmdSmiDetector
from aim_engine.hardware.amd_cli import AmdSmiProgramDetector
from aim_engine.hardware.cpu import CpuDetector, survey_host
from aim_engine.hardware.inventory import Detector, Finding, Inventory, Surroundings
from aim_engine.hardware.kfd import KfdDetector
from aim_engine.hardware.nvidia import NvmlDetector

# The first that finds something is believed, so the order is from the best device to the last resort.
DETECTORS: tuple[Detector, ...] = (
    AmdSmiDetector(), AmdSmiProgramDetector(), KfdDetector(), NvmlDetector(), CpuDetector(),
)  # fmt: skip
DETECT = "detect"
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
    if root is not None:  # the variables of this machine choose nothing on that one
        return _live(detectors, replace(surroundings, root=root, environment={}))
    return declared_inventory(wish)


def _live(detectors: Sequence[Detector], surroundings: Surroundings) -> Inventory:
    deadline = time.monotonic() + surroundings.timeout_seconds
    without: list[Finding] = []
    blocked: tuple[str, Finding] | None = None
    for place, detector in enumerate(detectors):
        if blocked and detector.vendor != blocked[0]:
            break
        more = any(later.vendor == detector.vendor for later in detectors[place + 1 :])
        left = max(0.0, deadline - time.monotonic())
        finding = detector.detect(replace(surroundings, timeout_seconds=left * _SHARE if more else left))
        if finding.gpus:
            return _inventory(finding, without, surroundings)
        if finding.blocking and not blocked:
            blocked = (detector.vendor, finding)
        without.append(finding)
    raise _refused(blocked[1], without) if blocked else _nothing(without)


def _refused(blocked: Finding, without: Sequence[Finding]) -> NoAcceleratorError:
    """The first reason is the error; what the other layers said of the same hardware is its details."""
    others = _said_by(finding for finding in without if finding is not blocked)
    return NoAcceleratorError(blocked.reason, hint=blocked.hint, details=(*blocked.notes, *others))


def _said_by(findings: Iterable[Finding]) -> list[str]:
    """What layers without GPUs said, each thing once: several for one vendor say the same where there is nothing."""
    return [text for text in dict.fromkeys(t for found in findings for t in (*found.notes, found.reason)) if text]


def _inventory(finding: Finding, without: Sequence[Finding], surroundings: Surroundings) -> Inventory:
    host, host_notes = survey_host(surroundings)
    notes = _said_by(without)
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
