"""What the installed engine's own parser has accepted, in a small file beside the recipes that it was asked about:
recipes in, the same with that in their evidence out, and a record replaced.

`parsed.json` in each model's folder is written by `aim-engine validate --engine --record` alone. It counts for the very
bytes of a recipe's file and for one version of an engine. Asks no engine, and does not say what a record is worth.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aim_engine.catalog.evidence import Acceptance, Evidence
from aim_engine.catalog.recipe import Recipe
from aim_engine.catalog.yaml_file import MAX_FILE_BYTES, Problem
from aim_engine.errors import CacheError

RECORD = "parsed.json"
_FORMAT = 1
_FILE_MODE = 0o644  # for everybody who reads the recipes, whatever the umask
_LEGAL = {
    "file": re.compile(r"[^/\x00-\x1f]+"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "engine": re.compile(r"[A-Za-z0-9_.-]+ \d+\.\d+[A-Za-z0-9_.+-]*", re.ASCII),
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
}


@dataclass(frozen=True, kw_only=True, order=True)
class _Entry:
    """One file that one engine ("vllm 0.32.0") accepted whole."""

    file: str
    engine: str
    sha256: str
    date: str


def with_records(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The recipes, those that a record beside them speaks of with that in their evidence. What cannot be read says
    nothing; `damaged` tells of it.
    """
    known: dict[Path, tuple[_Entry, ...]] = {}
    found = []
    for recipe in recipes:
        folder = Path(recipe.file).parent
        if folder not in known:
            known[folder] = _entries(folder)
        found.append(_with(recipe, [one for one in known[folder] if one.file == Path(recipe.file).name]))
    return found


def damaged(recipes: Iterable[Recipe]) -> list[Problem]:
    """A warning for each record beside these recipes that cannot be read."""
    found = []
    for folder in sorted({Path(recipe.file).parent for recipe in recipes}):
        try:
            _read(folder)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            sentence = f"is no record of what an engine's parser accepted ({why}) and counts for nothing; remove it"
            found.append(Problem(file=str(folder / RECORD), kind="record", sentence=sentence, is_warning=True))
    return found


def digest(path: Path) -> str | None:
    """What tells a file's bytes from any others; None where it cannot be read."""
    import hashlib  # here: it takes 5 ms, and only plans with a record need it

    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def record(engine: str, verdicts: Mapping[Path, str | None], date: str) -> None:
    """Write down beside each file that `engine` ("vllm 0.32.0") accepted it, as it was when it had that digest; None
    takes back what was said of it. What other engines accepted stays; a folder where nothing changes is not written.

    Raises:
        CacheError: a folder cannot be written to.
    """
    for folder in sorted({path.parent for path in verdicts}):
        here = {path.name: text for path, text in verdicts.items() if path.parent == folder}
        before = _entries(folder)
        dates = {(one.file, one.sha256): one.date for one in before if one.engine == engine}
        after = [one for one in before
                 if not (one.engine == engine and one.file in here) and (folder / one.file).is_file()]  # fmt: skip
        after += [_Entry(file=name, engine=engine, sha256=text, date=dates.get((name, text), date))
                  for name, text in here.items() if text]  # fmt: skip
        if set(after) != set(before):
            _write(folder, sorted(after))


def _with(recipe: Recipe, entries: list[_Entry]) -> Recipe:
    if not entries:
        return recipe
    here = digest(Path(recipe.file))
    told = tuple(Acceptance(engine=one.engine, date=one.date) for one in entries if one.sha256 == here)
    variants = tuple(replace(one, evidence=_of(one.backend, one.evidence, told)) for one in recipe.variants)
    return replace(recipe, evidence=replace(recipe.evidence, accepted=told), variants=variants)


def _of(backend: str, evidence: Evidence, told: tuple[Acceptance, ...]) -> Evidence:
    """An engine was asked about its own variants only."""
    return replace(evidence, accepted=tuple(one for one in told if one.engine.partition(" ")[0] == backend))


def _entries(folder: Path) -> tuple[_Entry, ...]:
    try:
        return _read(folder)
    except (OSError, ValueError):
        return ()


def _read(folder: Path) -> tuple[_Entry, ...]:
    """All of a folder's record; nothing where there is none."""
    try:
        descriptor = os.open(folder / RECORD, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ()
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        raw = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT or not isinstance(raw.get("accepted"), list):
        raise ValueError(f"it is not of format {_FORMAT}")
    return tuple(_entry(one) for one in raw["accepted"])


def _entry(raw: Any) -> _Entry:
    if not isinstance(raw, dict):
        raise ValueError("an entry is no object")
    for key, legal in _LEGAL.items():
        if not isinstance(raw.get(key), str) or not legal.fullmatch(raw[key]):
            raise ValueError(f"an entry's {key} is none")
    return _Entry(**{key: raw[key] for key in _LEGAL})


def _write(folder: Path, entries: list[_Entry]) -> None:
    """In one step, so that nobody reads half of it."""
    import tempfile  # here: a plan only reads

    rows = [{key: getattr(one, key) for key in _LEGAL} for one in entries]
    data = json.dumps({"format": _FORMAT, "accepted": rows}, indent=1) + "\n"
    try:
        if not entries:
            (folder / RECORD).unlink(missing_ok=True)
            return
        descriptor, new = tempfile.mkstemp(dir=folder, prefix=f".{RECORD}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                os.fchmod(descriptor, _FILE_MODE)
                file.write(data)
            Path(new).replace(folder / RECORD)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CacheError(
            f"{folder / RECORD} cannot be written: {error.strerror}",
            hint=f"make {folder} writable for this user, or record recipes in a folder of yours: aim-engine validate "
            "--engine --record FOLDER",
        ) from None
