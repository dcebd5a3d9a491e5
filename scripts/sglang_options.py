"""Unpacked sglang wheels in, the options of its command line by version out: aim_engine/backends/sglang_options.json.

    python scripts/sglang_options.py FOLDER...     each holds one version's sglang/ and its .dist-info

Reads the sources and imports nothing, so that versions whose requirements exclude each other can be read on any
machine. Old versions call add_argument, newer ones annotate fields with A[...] (server_args.py, arg_groups/fields).
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "aim_engine" / "backends" / "sglang_options.json"


def main(arguments: list[str]) -> int:
    by_version = dict(sorted(((version_of(Path(one)), read(Path(one) / "sglang" / "srt")) for one in arguments),
                             key=lambda pair: numbers(pair[0])))  # fmt: skip
    kept = json.loads(DATA.read_text()) if DATA.exists() else {}
    grid = list(by_version)
    spans: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    same: dict[str, str] = {}
    for version, found in by_version.items():
        for name, (kind, first) in found.items():
            spans.setdefault(name, [version, version])[1] = version
            kinds[name] = kind
            same.pop(name, None)  # the newest version that has it is right
            if first != name:
                same[name] = first
    data = {
        **{
            key: kept.get(key, empty)
            for key, empty in (("about", ""), ("short", {}), ("renamed", {}), ("replaced", {}))
        },
        "grid": grid,
        "same": dict(sorted(same.items())),
        "flags": sorted(name for name, kind in kinds.items() if kind == "flag"),
        "switches": sorted(name for name, kind in kinds.items() if kind == "switch"),
        "options": dict(sorted(spans.items())),
    }
    DATA.write_text(written(data))
    print(f"{len(spans)} options of {', '.join(grid)}")
    return 0


def written(data: dict[str, object]) -> str:
    """JSON with one line for each entry of a map of maps, so that a change is a line."""
    lines = []
    for key, value in data.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"{json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}" if value else f"{json.dumps(key)}: {{}}")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def version_of(folder: Path) -> str:
    info = next(folder.glob("sglang-*.dist-info"))
    return info.name.removeprefix("sglang-").removesuffix(".dist-info")


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def read(srt: Path) -> dict[str, tuple[str, str]]:
    """Each long option: (flag, switch or value; the option's first name)."""
    found: dict[str, tuple[str, str]] = {}
    for path in (srt / "server_args.py", *sorted((srt / "arg_groups" / "fields").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            for names, kind in (*_of_call(node), *_of_field(node)):
                for name in names:
                    found[name] = (kind, names[0])
    return found


def _of_call(node: ast.AST) -> Iterator[tuple[list[str], str]]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
        words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        names = [word[2:] for word in words if word.startswith("--")]
        action = next((ast.unparse(one.value) for one in node.keywords if one.arg == "action"), "")
        if names:
            yield sorted(names, key=len), _kind(action)


def _of_field(node: ast.AST) -> Iterator[tuple[list[str], str]]:
    """`tp_size: A[int, Arg(help=..., aliases=[...])] = 1`; a field without any words has no option."""
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
        return
    kind = node.annotation
    if not (isinstance(kind, ast.Subscript) and ast.unparse(kind.value) == "A" and isinstance(kind.slice, ast.Tuple)):
        return
    typed, *words = kind.slice.elts
    said = next((word for word in words if isinstance(word, ast.Call) and ast.unparse(word.func) == "Arg"), None)
    given = {one.arg: one.value for one in said.keywords} if said else {}
    if "no_cli" in given:
        return
    name = ast.literal_eval(given["cli_name"])[2:] if "cli_name" in given else node.target.id.replace("_", "-")
    others = [one[2:] for one in ast.literal_eval(given["aliases"])] if "aliases" in given else []
    action = ast.unparse(given["action"]) if "action" in given else ""
    yield [name, *others], _kind(action or ("store_true" if ast.unparse(typed) == "bool" else ""))


def _kind(action: str) -> str:
    if "BooleanOptional" in action:
        return "switch"
    return "flag" if "store_true" in action or "StoreTrue" in action else "value"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
