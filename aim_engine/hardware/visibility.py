"""Which of the AMD GPUs the engine will see, and in which order: GPUs in HIP's order and an environment in, the same
GPUs renumbered as the engine will count them out, or why the variables contradict each other.

Pure. Knows how ROCm's runtimes read their variables; knows no detector and no engine's command line.

ROCR_VISIBLE_DEVICES comes first and counts in the order of the KFD nodes; HIP_VISIBLE_DEVICES, or CUDA_VISIBLE_DEVICES
in its place, counts within what that leaves (ROCr's amd_filter_device.cpp, clr's rocdevice.cpp). Both runtimes stop
silently at the first word they do not understand; here that is an error where it cannot be meant. Read in their
sources, not tried on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from aim_engine.errors import InputError
from aim_engine.hardware.amd.order import is_about_size
from aim_engine.hardware.inventory import Finding, Gpu

ROCR, HIP, CUDA = "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"
_OPENCL, _TOOLKIT = "GPU_DEVICE_ORDINAL", "AMD_VISIBLE_DEVICES"
NAMES = (ROCR, HIP, CUDA, _OPENCL, _TOOLKIT)

_INDEX = re.compile(r"0|[1-9][0-9]{0,3}", re.ASCII)
_NEGATIVE = re.compile(r"-[0-9]{1,9}", re.ASCII)
_FEW = 8  # GPUs that are still listed one by one
_ID = re.compile(r"GPU-[0-9A-F]{1,16}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Visible:
    """`gpus`: those the engine sees first, `index` being its number for each, then the hidden ones with the reason.
    `settings` are the variables that chose ("HIP_VISIBLE_DEVICES=2,3"), `notes` what is odd about them.
    """

    gpus: tuple[Gpu, ...]
    settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def visible(gpus: tuple[Gpu, ...], environment: Mapping[str, str]) -> Visible:
    """The GPUs (given in HIP's order, which is that of the KFD nodes) as the environment's variables leave them.

    Raises:
        InputError: the variables contradict each other, or name something that is not here.
    """
    counted = [gpu for gpu in gpus if gpu.usable or is_about_size(gpu.unusable)] or list(gpus)
    others = [gpu for gpu in gpus if not _among(gpu, counted)]  # which no runtime counts: see amd/order.py
    try:
        return _visible(counted, others, environment)
    except InputError as error:
        aside = f"; {len(others)} more cannot be used: {others[0].unusable}" if others else ""
        raise InputError(error.message, hint=error.hint + aside) from None


def _visible(gpus: list[Gpu], others: list[Gpu], environment: Mapping[str, str]) -> Visible:
    if not gpus:
        return Visible(gpus=())
    notes = list(_asides(environment))
    rocr, hip = environment.get(ROCR, "").strip(), _hip_choice(environment)
    left, settings, hidden_by = list(gpus), list[str](), dict[int, str]()
    if rocr:
        settings = [f"{ROCR}={rocr}"]
        left = _chosen(left, settings[0], rocr, notes, ids=True)
        _refuse_none(left, gpus, settings[0], [ROCR])
        hidden_by = {id(gpu): settings[0] for gpu in gpus if not _among(gpu, left)}
    if hip:
        if rocr:
            _refuse_wrong_count(left, settings[0], rocr, *hip)
        setting = "=".join(hip)
        before, left = left, _chosen(left, setting, hip[1], notes, ids=False)
        hip_names = [name for name in (HIP, CUDA) if environment.get(name, "").strip()]
        _refuse_none(left, before, setting, hip_names)
        hidden_by |= {id(gpu): setting for gpu in before if not _among(gpu, left)}
        settings += [f"{name}={hip[1]}" for name in hip_names]
    order = [*left, *(gpu for gpu in gpus if not _among(gpu, left)), *others]
    return Visible(gpus=_renumbered(order, hidden_by), settings=tuple(settings), notes=tuple(notes))


def set_here(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables in it that would choose among GPUs that are here."""
    return tuple(name for name in (ROCR, HIP, CUDA) if environment.get(name, "").strip())


def as_seen(finding: Finding, environment: Mapping[str, str]) -> Finding:
    """The finding with its GPUs as the environment's variables leave them.

    Raises:
        InputError: as `visible` does.
    """
    seen = visible(finding.gpus, environment)
    return replace(finding, gpus=seen.gpus, notes=(*finding.notes, *seen.notes), visibility=seen.settings)


def put_first(settings: Sequence[str], indices: Sequence[int]) -> str:
    """What to set so that the devices which the engine counts as `indices` now are its first ones: the settings'
    own words in another order ("HIP_VISIBLE_DEVICES=5,2"), or "" where they do not say.
    """
    last = settings[-1].partition("=")[0] if settings else ""
    of_last = [one for one in settings if last in (HIP, CUDA) and not one.startswith(ROCR)] or list(settings[-1:])
    changed = []
    for setting in of_last:
        name, _, value = setting.partition("=")
        words = [word.strip() for word in value.split(",")]
        if any(index >= len(words) for index in indices):
            return ""
        changed.append(f"{name}={','.join(words[index] for index in indices)}")
    return " ".join(changed)


def _asides(environment: Mapping[str, str]) -> Iterator[str]:
    """What is said of variables that choose nothing."""
    for name in (ROCR, HIP, CUDA):
        if name in environment and not environment[name].strip():
            yield f"{name} is set to nothing, which counts as not set"
    ordinal = environment.get(_OPENCL, "").strip()
    if ordinal and not any(environment.get(name, "").strip() for name in (ROCR, HIP, CUDA)):
        # ROCm's documentation ("GPU isolation") says that it restricts HIP too; clr reads it for OpenCL alone
        raise InputError(
            f"{_OPENCL}={ordinal} restricts OpenCL, and HIP only by ROCm's documentation, not by its source",
            hint=f"set {HIP}={ordinal} instead, and unset {_OPENCL}",
        )
    if ordinal:  # Slurm sets it beside ROCR_VISIBLE_DEVICES
        yield f"{_OPENCL}={ordinal} is OpenCL's: the engine does not go by it"
    toolkit = environment.get(_TOOLKIT, "").strip()
    if toolkit not in ("", "all"):
        yield f"{_TOOLKIT}={toolkit} is for the container's start: inside it, the engine does not go by it"


def _hip_choice(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """The name and value that HIP goes by; an empty value counts as unset, as vLLM has it.

    Not stripped: HIP itself takes no spaces, so what holds some must be refused, not read.
    """
    given = [(name, environment[name]) for name in (HIP, CUDA) if environment.get(name, "").strip()]
    if len(given) == 2 and given[0][1] != given[1][1]:
        raise InputError(
            f"{HIP}={given[0][1]} and {CUDA}={given[1][1]} differ, and HIP knows only one choice",
            hint=f"unset one of them ({HIP} is AMD's own): vLLM would refuse to start, and ROCm's profiler abort it",
        )
    return given[0] if given else None


def _chosen(gpus: Sequence[Gpu], setting: str, value: str, notes: list[str], *, ids: bool) -> list[Gpu]:
    """The GPUs that `value` names, in its order, up to the first that is not here (as the runtimes do).

    A negative index is the usual way to hide the rest.
    """
    chosen: list[Gpu] = []
    for word in value.split(","):
        if _NEGATIVE.fullmatch(word.strip()):
            return chosen
        place = _place(gpus, setting, word, ids=ids)
        if place is None:
            if not chosen:
                raise InputError(f"{setting} leaves no GPU: {word.strip()} is not here", hint=_here(gpus, ids=ids))
            notes.append(f"{setting}: {word.strip()} is not here, so it and what follows it count for nothing")
            return chosen
        if _among(gpus[place], chosen):
            raise InputError(
                f"{setting} names {_named(place, gpus[place])} twice",
                hint="name each GPU once: a repeated one hides more",
            )
        chosen.append(gpus[place])
    return chosen


def _place(gpus: Sequence[Gpu], setting: str, word: str, *, ids: bool) -> int | None:
    """Where among `gpus` the one is that a word names; None for an index that is not here."""
    plain = word.strip()
    if ids and plain.upper().startswith("GPU-"):
        return _place_of_id(gpus, setting, plain)
    if plain.upper().startswith("GPU-"):
        # HIP takes ids since ROCm 6, vLLM reads the words as numbers
        raise InputError(f"{setting}: {plain} is an id, and only indices are understood by all who read it",
                         hint=f"{_here(gpus, ids=True)}; {ROCR} takes ids")  # fmt: skip
    # HIP compares the word with the number it read, so " 3" and "03" hide everything from there on
    if not _INDEX.fullmatch(plain if ids else word):
        legal = "an index or GPU- with 16 hex digits" if ids else "an index without spaces around it"
        hint = f"{_here(gpus, ids=ids)}; separate them by commas alone"
        raise InputError(f"{setting}: {word!r} is not {legal}", hint=hint)
    return int(plain) if int(plain) < len(gpus) else None


def _place_of_id(gpus: Sequence[Gpu], setting: str, word: str) -> int:
    """ROCR takes any beginning of an id, of one device only: partitions of a GPU share theirs, and it takes none."""
    asked = word.upper()
    found = [place for place, gpu in enumerate(gpus) if gpu.unique_id and _id(gpu.unique_id).upper().startswith(asked)]
    if len(found) == 1 and _ID.fullmatch(asked):
        return found[0]
    if found:
        indices = ",".join(map(str, found))
        raise InputError(
            f"{setting}: {word} names {len(found)} devices here, and ROCR takes none of them then",
            hint=f"name them by their indices: {ROCR}={indices} (partitions of one GPU share its id)",
        )
    known = dict.fromkeys(_id(gpu.unique_id) for gpu in gpus if gpu.unique_id)
    raise InputError(
        f"{setting}: {word} is not here",
        hint=f"the ids here are {', '.join(known)}" if known else "no GPU here tells its id: name them by index",
    )


def _refuse_wrong_count(left: Sequence[Gpu], rocr_setting: str, rocr: str, name: str, value: str) -> None:
    """With ROCR's choice in force, an index of HIP's that is beyond it is a mistake: both were counted from the same
    list, which HIP does not do (torch refuses to start where HIP's list is the longer one).
    """
    words = [word.strip() for word in value.split(",")]
    beyond = [word for word in words if _INDEX.fullmatch(word) and int(word) >= len(left)]
    if not beyond:
        return
    rocr_words = [word.strip() for word in rocr.split(",")]
    places = [str(rocr_words.index(word)) for word in words if word in rocr_words[: len(left)]]
    instead = ",".join(places) if len(places) == len(words) else ",".join(map(str, range(len(left))))
    none_left = "leave no GPU" if len(beyond) == len(words) else f"contradict each other: there is no {beyond[0]}"
    raise InputError(
        f"{rocr_setting} and {name}={value} {none_left}: {name} counts within what {ROCR} leaves, from 0",
        hint=f"write {name}={instead}, or unset one of the two",
    )


def _renumbered(order: Sequence[Gpu], hidden_by: Mapping[int, str]) -> tuple[Gpu, ...]:
    """The GPUs counted in this order, links too; `hidden_by` is by a GPU's identity."""
    new_index = {gpu.index: place for place, gpu in enumerate(order)}
    return tuple(
        replace(
            gpu,
            index=place,
            xgmi_peers=tuple(sorted(new_index[peer] for peer in gpu.xgmi_peers if peer in new_index)),
            unusable=f"hidden by {hidden_by[id(gpu)]}" if id(gpu) in hidden_by else gpu.unusable,
        )
        for place, gpu in enumerate(order)
    )


def _among(gpu: Gpu, gpus: Sequence[Gpu]) -> bool:
    """By identity: two devices may be equal in all that is known of them."""
    return any(one is gpu for one in gpus)


def _refuse_none(left: Sequence[Gpu], before: Sequence[Gpu], setting: str, names: Sequence[str]) -> None:
    """Everything hidden is an error as an index is that is not here: there is nothing left to serve on."""
    if left:
        return
    indices = "0" if len(before) == 1 else f"0-{len(before) - 1}"
    hint = f"unset {' and '.join(names)}, or name {indices}: {_here(before, ids=False)}"
    raise InputError(f"{setting} hides every GPU", hint=hint)


def _here(gpus: Sequence[Gpu], *, ids: bool) -> str:
    """The indices with what each is known by outside of the variables: they count on whatever is left."""
    if len(gpus) > _FEW:
        return f"the indices here are {_told(0, gpus[0], ids=ids)} to {_told(len(gpus) - 1, gpus[-1], ids=ids)}"
    return "the indices here are " + ", ".join(_told(place, gpu, ids=ids) for place, gpu in enumerate(gpus))


def _told(place: int, gpu: Gpu, *, ids: bool) -> str:
    known = [gpu.pci_address, _id(gpu.unique_id) if ids and gpu.unique_id else None]
    shown = ", ".join(word for word in known if word)
    return f"{place} ({shown})" if shown else f"{place}"


def _named(place: int, gpu: Gpu) -> str:
    return f"GPU {_told(place, gpu, ids=False)}"


def _id(unique_id: str) -> str:
    """As ROCR writes it."""
    return f"GPU-{unique_id.removeprefix('0x').zfill(16)}"
