"""Pre-flight checks of disk, cache, model and ports: `Needs` and a `Site` in, one `Check` each out.

Asks no network and leaves nothing behind. Knows no layout of a cache: what is missing is in the needs.
"""

from __future__ import annotations

import os

from aim_engine.errors import AimError
from aim_engine.hardware.preflight.check import (
    ACCESS,
    DISK,
    Check,
    Checkpoint,
    Needs,
    Site,
    failure,
    in_words,
    ok,
    skipped,
    warning,
)
from aim_engine.hardware.preflight.folders import check_writable, deepest_existing
from aim_engine.hardware.preflight.ports import check_port

_HERE = "the weights are here"


def cache(needs: Needs, site: Site) -> Check:
    """Can the cache folder be written, or be made where it is not there yet?"""
    folder = needs.cache_dir
    place = deepest_existing(folder)
    try:
        check_writable("the cache folder", place, "AIM_CACHE_DIR")
    except AimError as error:
        if place == folder:
            return of_error("cache", error)
        sentence = f"the cache folder {folder} cannot be made by uid {site.uid}: {place} is not writable"
        return failure("cache", DISK, sentence, f"{_volume(site)}, or set AIM_CACHE_DIR")
    return ok("cache", f"{folder} can be written" if place == folder else f"{folder} will be made")


def disk(needs: Needs, site: Site) -> Check:
    """Is there room for the weights that are still to be fetched?"""
    checkpoint = needs.checkpoint
    if checkpoint is None or checkpoint.presence == "whole":
        return skipped("disk", f"{_HERE}: nothing is to be fetched" if checkpoint else "there is no plan for a model")
    place = deepest_existing(checkpoint.folder)
    space = site.space(place)
    if checkpoint.presence == "absent" and (space.read_only or not os.access(place, os.W_OK)):
        sentence = f"{checkpoint.name} is to be fetched to {checkpoint.folder}, which uid {site.uid} cannot write"
        return failure("disk", DISK, sentence, f"{_volume(site)}, or one that holds the weights")
    if checkpoint.missing_bytes is None:
        return skipped("disk", f"the size of {checkpoint.name} is not known: {in_words(space.free_bytes)} are free")
    need = f"{in_words(checkpoint.missing_bytes)} of {checkpoint.name} are still to be fetched to {checkpoint.folder}"
    if space.free_bytes >= checkpoint.missing_bytes or space.size_bytes == 0:
        return ok("disk", f"{need}, and {in_words(space.free_bytes)} are free")
    sentence = f"{need}, and only {in_words(space.free_bytes)} are free"
    remedy = "free some space, or mount a larger volume there (AIM_CACHE_DIR, HF_HUB_CACHE)"
    if checkpoint.reckoned:
        return warning("disk", f"about {sentence}", remedy)
    return failure("disk", DISK, sentence, remedy)


def model_access(needs: Needs, site: Site) -> Check:
    """May the model be fetched? Only what is known without asking the network."""
    del site
    checkpoint = needs.checkpoint
    if checkpoint is None:
        return skipped("model access", "there is no plan for a model")
    if checkpoint.presence == "whole":
        return ok("model access", f"{_HERE}: no network is needed")
    if needs.offline and checkpoint.presence != "unknown":
        return _offline(checkpoint)
    return _token(checkpoint, needs.has_token)


def _token(checkpoint: Checkpoint, has_token: bool) -> Check:
    if has_token:
        return ok("model access", "a Hugging Face token is set")
    if checkpoint.gated:
        return failure("model access", ACCESS, f"{checkpoint.name} is gated, and no HF_TOKEN is set",
                       "accept its terms on its page, then set HF_TOKEN to a token of that account")  # fmt: skip
    if checkpoint.gated is None:
        return skipped("model access", f"whether {checkpoint.name} asks for a token is not known; no HF_TOKEN is set")
    return ok("model access", f"{checkpoint.name} needs no token")


def _offline(checkpoint: Checkpoint) -> Check:
    command = f"HF_HUB_CACHE={checkpoint.folder} hf download {checkpoint.name}"
    remedy = f"fetch it where there is a network: {command}, mount a cache that holds it, or leave AIM_OFFLINE out"
    if checkpoint.presence == "absent":
        return failure("model access", ACCESS, f"AIM_OFFLINE=1, and {checkpoint.folder} does not hold "
                       f"{checkpoint.name}", remedy)  # fmt: skip
    return warning("model access", f"AIM_OFFLINE=1, and {checkpoint.folder} holds only a part of {checkpoint.name}",
                   remedy)  # fmt: skip


def ports(needs: Needs, site: Site) -> Check:
    """Are both ports free?"""
    del site
    try:
        check_port(needs.host, needs.port, "AIM_PORT")
        check_port(needs.host, needs.health_port, "AIM_HEALTH_PORT")
    except AimError as error:
        return of_error("ports", error)
    return ok("ports", f"{needs.port} and {needs.health_port} are free")


def _volume(site: Site) -> str:
    return f"mount a volume there that uid {site.uid} may write"


def of_error(name: str, error: AimError) -> Check:
    """An error as a check that found it."""
    return failure(name, error.code, error.message, error.hint)
