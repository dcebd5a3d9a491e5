"""The measurements that a cache folder keeps: the folder and the names of checkpoints in, `Measurement`s out, and one
more in. One small file each, replaced in one step, so that no reader and no second writer ever sees half of one.

`AIM_CACHE_DIR/measured/<checkpoint>/<hash of the occasion>.json`. What is damaged is told and otherwise as if it were
not there. Knows no plan, and nothing of what the figures mean.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from aim_engine.catalog.measurement import FORMAT, Measurement, read_measurement

_FOLDER = "measured"
_LARGEST_FILE = 64 * 1024
_MOST_FILES = 100  # of one checkpoint; the oldest go
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644  # for everybody who shares the cache, whatever the umask


def recall(cache_dir: Path, checkpoints: Iterable[str]) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """All that is remembered of these checkpoints, and a sentence for every file that cannot be read."""
    found: list[Measurement] = []
    notes: list[str] = []
    names = {_name(checkpoint) for checkpoint in checkpoints}
    for path in sorted(path for place in _places(cache_dir) for name in names for path in _files(place / name)):
        try:
            found.append(_read(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            notes.append(f"{path}, which tells of memory that was measured, cannot be read ({why}); what it told is "
                         "assumed again, and the next start replaces it")  # fmt: skip
    return tuple(found), tuple(notes)


def keep(cache_dir: Path, measurement: Measurement) -> Path:
    """Write it down, in place of the last one of the same occasion; where.

    Raises:
        OSError: the cache cannot be written to, or its disk is full.
    """
    data = json.dumps(measurement.as_json(), indent=1).encode()
    key = _digest(json.dumps(measurement.occasion.as_json(), sort_keys=True).encode())[:24]
    ours, own = _places(cache_dir)
    try:
        return _write(ours / _name(measurement.occasion.checkpoint), f"{key}.json", data)
    except PermissionError:  # the cache is shared, and this part of it is another user's
        return _write(own / _name(measurement.occasion.checkpoint), f"{key}.json", data)


def _places(cache_dir: Path) -> tuple[Path, Path]:
    """Everybody's, and our own where everybody's is somebody else's."""
    return cache_dir / _FOLDER, cache_dir / f"{_FOLDER}-{os.getuid()}"


def _name(checkpoint: str) -> str:
    """A folder's name for a hub id or a path; the digits keep those apart that look alike."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint).strip("-.")[-60:]
    return f"{plain or 'model'}-{_digest(os.fsencode(checkpoint))[:8]}"


def _digest(data: bytes) -> str:
    import hashlib  # here: a plan for declared hardware remembers nothing

    return hashlib.sha256(data).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """Of this format alone: what a newer version has written is not ours to complain of."""
    with suppress(OSError):
        yield from (folder / f"v{FORMAT}").glob("[!.]*.json")


def _read(path: Path) -> Measurement:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        data = os.read(descriptor, _LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > _LARGEST_FILE:
        raise ValueError("it is too large")
    try:
        return read_measurement(json.loads(data))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _write(folder: Path, name: str, data: bytes) -> Path:
    import tempfile  # here: a plan only reads

    below = folder / f"v{FORMAT}"
    for place in (folder.parent, folder, below):
        with suppress(FileExistsError):
            place.mkdir(parents=True)
            place.chmod(_FOLDER_MODE)
    descriptor, new = tempfile.mkstemp(dir=below, prefix=f".{name}.")
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(descriptor, _FILE_MODE)
            file.write(data)
        Path(new).replace(below / name)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
    _tidy(folder)
    return below / name


def _tidy(folder: Path) -> None:
    """Without what cannot be read, and without the oldest of very many. A comfort: others may be at it too."""
    dated: list[tuple[str, Path]] = []
    for path in _files(folder):
        try:
            dated.append((_read(path).date, path))
        except ValueError:
            with suppress(OSError):
                path.unlink()
        except OSError:
            continue
    for _, path in sorted(dated)[:-_MOST_FILES]:
        with suppress(OSError):
            path.unlink()
