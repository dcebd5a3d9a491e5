"""The detector table: surroundings and a wish in, an `Inventory` out, or the reasons there is none.

Knows the order in which layers are asked, nothing of how they look.
"""

from __future__ import annotations

from collections.abc import Sequence

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.amd import AmdSmiDetector
from aim_engine.hardware.cpu import CpuDetector, survey_host
from aim_engine.hardware.inventory import Detector, Finding, Inventory, Surroundings

# The first that finds something is believed, so the order is from the best device to the last resort.
DETECTORS: tuple[Detector, ...] = (AmdSmiDetector(), CpuDetector())
DETECT = "detect"


def detect(wish: str, surroundings: Surroundings, *, detectors: Sequence[Detector] = DETECTORS) -> Inventory:
    """What is here ("detect"), what one layer alone finds ("cpu"), or what `wish` declares ("MI300X:8", a file).

    An inventory that is returned lists at least one GPU; whether any is usable is for the reader to check.

    Raises:
        NoAcceleratorError: nothing was found, or hardware is there that cannot be used; says why and what to do.
        InputError: `wish` declares no hardware that is known.
    """
    word = wish.strip().lower()
    asked = [detector for detector in detectors if word in (DETECT, detector.name)]
    if asked:
        return _live(asked, surroundings)
    from aim_engine.hardware.declared import declared_inventory  # here: live detection does not pay for it

    return declared_inventory(wish)


def _live(detectors: Sequence[Detector], surroundings: Surroundings) -> Inventory:
    without: list[Finding] = []
    for detector in detectors:
        finding = detector.detect(surroundings)
        if finding.gpus:
            return _inventory(finding, without, surroundings)
        if finding.blocking:
            raise NoAcceleratorError(finding.reason, hint=finding.hint, details=finding.notes)
        without.append(finding)
    raise _nothing(without)


def _inventory(finding: Finding, without: Sequence[Finding], surroundings: Surroundings) -> Inventory:
    host, host_notes = survey_host(surroundings)
    notes = [note for earlier in without for note in (*earlier.notes, earlier.reason)]
    if notes:
        notes[-1] += f"; using the {finding.gpus[0].product}"
    # the CPU's own finding carries the host's notes already
    notes += dict.fromkeys((*finding.notes, *host_notes))
    return Inventory(
        source=finding.source, gpus=finding.gpus, notes=tuple(notes), host=host, recorded=not surroundings.is_live
    )


def _nothing(without: Sequence[Finding]) -> NoAcceleratorError:
    reasons = tuple(finding.reason for finding in without)
    return NoAcceleratorError(
        "no accelerator was found: " + ("; ".join(reasons) or "there is no way to look for one"),
        hint=next((finding.hint for finding in without if finding.hint), ""),
        details=tuple(note for finding in without for note in finding.notes),
    )
