"""What is laid into the cache before a start: a plan in; files, links and prepared caches there, and the plan out.

A cache may be shared by users who do not know each other: what we lay there everybody may read, and what somebody else
keeps there gets a twin of our own, `vllm-1000` beside `vllm`, to which the plan is led. Knows no engine: it goes by the
folders that the plan's variables, files and links name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aim_engine.errors import CacheError
from aim_engine.hardware.preflight.folders import unwritable
from aim_engine.runtime.contract import Contract

_FOLDER_MODE, _FILE_MODE = 0o755, 0o644  # whatever the umask


def lay_out(plan: Mapping[str, Any], contract: Contract) -> Mapping[str, Any]:
    """Lay everything out; the plan as it was, or led to folders of our own.

    Raises:
        CacheError: a file or a folder cannot be written, or the disk is full.
    """
    cache = Path(contract.cache_dir)
    texts = dict(contract.command.files)
    moved = {folder: f"{folder}-{os.getuid()}" for folder in _folders(contract) if not _is_usable(folder, texts)}
    for path, text in texts.items():
        write_file(Path(led(path, moved)), text)
    for folder, source, pattern in contract.command.links:
        link_files(Path(led(folder, moved)), Path(source), pattern)
    if contract.image_cache is not None:
        seed_cache(Path(contract.image_cache), cache, moved)
    return _led_plan(plan, moved) if moved else plan


def _folders(contract: Contract) -> list[str]:
    """The cache's own folders, one level below it, that the plan names."""
    command, above = contract.command, f"{contract.cache_dir}/"
    named = [part for value in command.env.values() for part in value.split(os.pathsep)]
    named += [path for path, _ in command.files] + [folder for folder, *_ in command.links]
    below = (path.removeprefix(above).partition("/")[0] for path in named if path.startswith(above))
    return [above + name for name in dict.fromkeys(below) if name]


def _is_usable(folder: str, texts: Mapping[str, str]) -> bool:
    """Whether we may keep things there: it is ours, or its owner lets others write. Being root is no permission: what
    root leaves among another user's files that user cannot change. Of root's folders what is the same may be read.
    """
    try:
        found = os.stat(folder)  # noqa: PTH116
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if found.st_uid == os.getuid() or found.st_mode & 0o022:
        _open_up(Path(folder))
        if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return True
    files = {path: text for path, text in texts.items() if path.startswith(f"{folder}/")}
    return found.st_uid == 0 and bool(files) and all(_holds(Path(path), text) for path, text in files.items())


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except (OSError, UnicodeDecodeError):
        return False


def led(path: str, moved: Mapping[str, str]) -> str:
    """The path, or what lies there instead."""
    for folder, own in moved.items():
        if path == folder or path.startswith(f"{folder}/"):
            return own + path[len(folder) :]
    return path


def _led_plan(plan: Mapping[str, Any], moved: Mapping[str, str]) -> dict[str, Any]:
    command = plan["command"]
    env = {
        name: os.pathsep.join(led(part, moved) for part in value.split(os.pathsep))
        for name, value in command["env"].items()
    }
    files = [{**file, "path": led(file["path"], moved)} for file in command.get("files", ())]
    links = [{**link, "folder": led(link["folder"], moved)} for link in command.get("links", ())]
    notes = [*plan.get("notes", ()), *(_note(folder, own) for folder, own in moved.items())]
    return {**plan, "command": {**command, "env": env, "files": files, "links": links}, "notes": notes}


def _note(folder: str, own: str) -> str:
    try:
        owner = f"belongs to uid {os.stat(folder).st_uid}"  # noqa: PTH116
    except OSError:
        owner = "belongs to somebody else"
    return f"{folder} {owner}: {own} is used instead"


def seed_cache(prepared: Path, cache: Path, moved: Mapping[str, str] | None = None) -> None:
    """Lay what the image's build prepared into the cache, where it is not there yet. A comfort: a cache that cannot
    take it has been, or will be, complained of elsewhere, and the engine makes what is missing.
    """
    for folder, _, names in os.walk(prepared):
        for name in names:
            source = Path(folder) / name
            target = Path(led(str(cache / source.relative_to(prepared)), moved or {}))
            try:
                if not target.exists():
                    write_file(target, source.read_text())
            except (OSError, UnicodeDecodeError, CacheError):
                return


def link_files(folder: Path, source: Path, pattern: str) -> None:
    """Links in `folder` to the source's files. What is there already stays, but for links that lead nowhere."""
    try:
        _make_folder(folder)
        for file in sorted(source.glob(pattern)):
            link = folder / file.name
            if link.is_symlink() and not link.exists():
                link.unlink()
            with suppress(FileExistsError):  # another start may have been faster
                link.symlink_to(file)
    except OSError as error:
        raise unwritable("the folder", str(folder), "AIM_CACHE_DIR", error) from error


def write_file(path: Path, text: str) -> None:
    """Write one of the files that the engine needs; another start may read it meanwhile, so it is replaced whole."""
    try:
        if _holds(path, text):
            return
        _make_folder(path.parent)
        descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor
                os.fchmod(descriptor, _FILE_MODE)
                file.write(text)
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable("the file", str(path), "AIM_CACHE_DIR", error) from error


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, to be read by everybody."""
    for place in reversed(list(_missing(folder))):
        with suppress(FileExistsError):
            place.mkdir()
        _open_up(place)


def _missing(folder: Path) -> Iterator[Path]:
    for place in (folder, *folder.parents):
        if place.exists():
            return
        yield place


def _open_up(folder: Path) -> None:
    """Let everybody read a folder of ours."""
    found = folder.stat()
    if found.st_uid == os.getuid() and found.st_mode & _FOLDER_MODE != _FOLDER_MODE:
        folder.chmod(found.st_mode & 0o7777 | _FOLDER_MODE)
