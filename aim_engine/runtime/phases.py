"""How long each phase of a start may stand still, why so long, and what to do about one that does: data.

To stand still means: no line, no byte, no shard and no work of any of the engine's processes. Whatever is merely slow
works, so that these limits need not grow with a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aim_engine.runtime.progress import COMPILE, DOWNLOAD, GRAPHS, LOAD, PROFILE, RESOLVE, WARM


@dataclass(frozen=True, kw_only=True)
class Phase:
    """`name` in words; `still_seconds` for so long, `because`; `remedy` where it stands still for longer."""

    name: str
    still_seconds: float
    because: str
    remedy: str


_DRIVER = "look at the driver's log (dmesg) and at rocm-smi for a GPU that is lost or held by another program"

BY_NAME: Mapping[str, Phase] = {
    RESOLVE: Phase(
        name="loading the engine's program and the model's configuration",
        still_seconds=300,
        because="the hub's client gives up on each of a few small files after five silences of ten seconds",
        remedy="look whether the disk with the image and AIM_CACHE_DIR answers (df, dmesg), and whether the hub does "
        "(HF_ENDPOINT, HTTPS_PROXY); AIM_OFFLINE=1 asks nobody",
    ),
    DOWNLOAD: Phase(
        name="downloading the weights",
        still_seconds=300,
        because="the hub's client tries a silent connection again every ten seconds (HF_HUB_DOWNLOAD_TIMEOUT), five "
        "times without a byte",
        remedy="look at the network: HTTPS_PROXY, HF_ENDPOINT, a firewall in between; HF_HUB_DISABLE_XET=1 downloads "
        "the older way. What is there is kept: the next start goes on with it, or hf download does before it",
    ),
    LOAD: Phase(
        name="loading the weights",
        still_seconds=600,
        because="a network disk may answer again after minutes",
        remedy="look at the disk below the weights (df, dmesg, nfsstat): a network disk may be gone. A local copy, or "
        "one that is in the page cache (vmtouch, cat FILES >/dev/null), loads faster",
    ),
    COMPILE: Phase(
        name="compiling",
        still_seconds=600,
        because="a compiler works, so that only one that waits for another's lock is still",
        remedy="look whether another server holds a lock in the compile cache; keep AIM_CACHE_DIR on a volume, so that "
        'it compiles once; AIM_ENGINE_ARGS={"enforce-eager": true} does without',
    ),
    PROFILE: Phase(
        name="measuring memory and making the KV cache",
        still_seconds=600,
        because="of several GPUs the slowest decides, and they wait for each other",
        remedy=f"{_DRIVER}; NCCL_DEBUG=INFO tells whether GPUs wait for each other",
    ),
    GRAPHS: Phase(
        name="capturing graphs",
        still_seconds=600,
        because="of several GPUs the slowest decides, and they wait for each other",
        remedy=f'{_DRIVER}; AIM_ENGINE_ARGS={{"enforce-eager": true}} does without graphs',
    ),
    WARM: Phase(
        name="answering the first request",
        still_seconds=600,
        because="the first request may load many compiled kernels",
        remedy=f"{_DRIVER}; AIM_KEEP_ALIVE=1 leaves it up to be looked at",
    ),
}
