"""Small JSON files that a cache folder keeps of each checkpoint: a shelf, the cache's folder and values in and out.
Each is replaced in one step, so that no reader and no second writer ever sees half of one.

`AIM_CACHE_DIR/<shelf>/<checkpoint>/v<format>/<hash of the key>.json`. Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

_LARGEST_FILE = 64 * 1024
_MOST_FILES = 100  # of one checkpoint; the oldest go
_FOLDER_MODE, _FILE_MODE = 0o755, 0o644  # for everybody who shares the cache, whatever the umask


class Dated(Protocol):
    """What a shelf keeps. `date` is when it was made, in UTC, as text that sorts."""

    @property
    def date(self) -> str: ...

    def as_json(self) -> dict[str, Any]: ...


Kept = TypeVar("Kept", bound=Dated)


@dataclass(frozen=True, kw_only=True)
class Shelf(Generic[Kept]):
    """One kind of file. `read` makes a value of a file's JSON, or raises ValueError."""

    name: str
    format: int
    read: Callable[[Any], Kept]

    def recall(
        self, cache_dir: Path, checkpoints: Iterable[str]
    ) -> tuple[tuple[Kept, ...], tuple[tuple[Path, str], ...]]:
        """All that is kept of these checkpoints, and each file that cannot be read, with the reason."""
        found: list[Kept] = []
        unread: list[tuple[Path, str]] = []
        names = {_name(checkpoint) for checkpoint in checkpoints}
        for path in sorted(path for place in self._places(cache_dir) for name in names
                           for path in self._files(place / name)):  # fmt: skip
            try:
                found.append(self._read(path))
            except (OSError, ValueError) as error:
                unread.append((path, str(error.strerror if isinstance(error, OSError) else error)))
        return tuple(found), tuple(unread)

    def keep(self, cache_dir: Path, checkpoint: str, key: Any, value: Kept) -> Path:
        """Write it down, in place of the last one of the same key (any JSON); where.

        Raises:
            OSError: the cache cannot be written to, or its disk is full.
        """
        data = json.dumps(value.as_json(), indent=1).encode()
        name = f"{_digest(json.dumps(key, sort_keys=True).encode())[:24]}.json"
        ours, own = self._places(cache_dir)
        try:
            return self._write(ours / _name(checkpoint), name, data)
        except PermissionError:  # the cache is shared, and this part of it is another user's
            return self._write(own / _name(checkpoint), name, data)

    def _places(self, cache_dir: Path) -> tuple[Path, Path]:
        """Everybody's, and our own where everybody's is somebody else's."""
        return cache_dir / self.name, cache_dir / f"{self.name}-{os.getuid()}"

    def _files(self, folder: Path) -> Iterator[Path]:
        """Of this format alone: what a newer version has written is not ours to complain of."""
        with suppress(OSError):
            yield from (folder / f"v{self.format}").glob("[!.]*.json")

    def _read(self, path: Path) -> Kept:
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
            return self.read(json.loads(data))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def _write(self, folder: Path, name: str, data: bytes) -> Path:
        import tempfile  # here: a plan only reads

        below = folder / f"v{self.format}"
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
        self._tidy(folder)
        return below / name

    def _tidy(self, folder: Path) -> None:
        """Without what cannot be read, and without the oldest of very many. A comfort: others may be at it too."""
        dated: list[tuple[str, Path]] = []
        for path in self._files(folder):
            try:
                dated.append((self._read(path).date, path))
            except ValueError:
                with suppress(OSError):
                    path.unlink()
            except OSError:
                continue
        for _, path in sorted(dated)[:-_MOST_FILES]:
            with suppress(OSError):
                path.unlink()


def _name(checkpoint: str) -> str:
    """A folder's name for a hub id or a path; the digits keep those apart that look alike."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint).strip("-.")[-60:]
    return f"{plain or 'model'}-{_digest(os.fsencode(checkpoint))[:8]}"


def _digest(data: bytes) -> str:
    import hashlib  # here: a plan for declared hardware remembers nothing

    return hashlib.sha256(data).hexdigest()
