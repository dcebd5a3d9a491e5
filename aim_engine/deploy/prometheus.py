"""Endpoints as scrape targets: endpoints in, a file for Prometheus' file_sd_configs out, replaced in one step.

The format: prometheus.io/docs/prometheus/latest/configuration/configuration, file_sd_config. A target is the health
sidecar, whose /metrics needs no key.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aim_engine.deploy.endpoints import Endpoint
from aim_engine.errors import CacheError

_READABLE_BY_ALL = 0o644  # Prometheus is another user
_HINT = "name a file in a folder that you may write"


def targets(endpoints: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """One group for each endpoint that runs and whose health port can be reached."""
    return [
        {"targets": [f"{one.address}:{one.health_port}"], "labels": _labels(one)}
        for one in endpoints
        if one.is_running and one.health_port
    ]


def _labels(endpoint: Endpoint) -> dict[str, str]:
    labels = {
        "container": endpoint.name,
        "model": endpoint.model,
        "recipe": endpoint.recipe,
        "backend": endpoint.backend,
        "precision": endpoint.precision,
        "gpu_type": endpoint.gpu_type,
        "gpu_count": str(endpoint.gpu_count),
    }
    return {name: text for name, text in labels.items() if text}


def check_target(path: Path) -> None:
    """That the file can be kept at all, before there is anything to write.

    Raises:
        CacheError: its folder is not there, or not ours to write.
    """
    folder = _behind(path).parent
    if not folder.is_dir():
        raise CacheError(f"{path} cannot be written: there is no folder {folder}", hint=_HINT)
    if not os.access(folder, os.W_OK | os.X_OK) or _behind(path).is_dir():
        raise CacheError(f"{path} cannot be written: it is no file that you may write", hint=_HINT)


def _behind(path: Path) -> Path:
    """What a link leads to: the link stays one."""
    return Path(os.path.realpath(path))


def write_targets(path: Path, endpoints: Iterable[Endpoint]) -> bool:
    """Replace the file where something has changed, which is what Prometheus notices; True where it has.

    Raises:
        CacheError: it cannot be written; what was there is kept.
    """
    text = json.dumps(targets(endpoints), indent=2) + "\n"
    with suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return False
    try:
        _replace(_behind(path), text)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = f"make room: df -h {_behind(path).parent} shows how much there is" if full else _HINT
        raise CacheError(f"{path} cannot be written: {error.strerror}", hint=hint) from None
    return True


def _replace(path: Path, text: str) -> None:
    # a name that file_sd's *.json does not match
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), _READABLE_BY_ALL)
        os.replace(temporary, path)  # noqa: PTH105 - one step, over whatever is there
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108
        raise
