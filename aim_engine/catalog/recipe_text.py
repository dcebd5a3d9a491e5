"""A `Recipe` in, the text of its file out: what `read_recipe` reads back as the same recipe. Writes no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.json_schema import MODELINES
from aim_engine.catalog.recipe import Recipe, Variant


class _Dumper(yaml.SafeDumper):
    """Indents lists, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def recipe_text(recipe: Recipe, remarks: Sequence[str] = (), variant_remarks: Mapping[int, str] | None = None) -> str:
    """The file. `remarks` stand at its top as comments, `variant_remarks` above the variants of so many GPUs."""
    document: dict[str, Any] = {
        "recipe_id": recipe.recipe_id,
        "model_id": recipe.model_id,
        "huggingface_id": recipe.huggingface_id,
        "precision": recipe.precision,
        **({"description": recipe.description} if recipe.description else {}),
        "hardware": {"gpu_type": recipe.gpu_type},
        "evidence": recipe.evidence.as_written(),
    }
    for one in recipe.variants:
        document.setdefault(f"{one.backend}_serve", {})[f"{one.gpu_count}_gpu"] = _variant(one, recipe.evidence)
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=116)
    lines = [MODELINES["recipe"], *(f"# {line}".rstrip() for line in remarks)]
    for line in body.splitlines():
        key = line.strip().removesuffix(":")
        count = key.removesuffix("_gpu")
        if line.startswith("  ") and key.endswith("_gpu") and count.isdigit():
            remark = (variant_remarks or {}).get(int(count))
            lines += [f"  # {remark}"] if remark else []
        lines.append(line)
    return "\n".join([*lines, ""])


def _variant(variant: Variant, of_recipe: Evidence) -> dict[str, Any]:
    return {
        "enabled": variant.enabled,
        **({"metric": variant.metric} if variant.metric else {}),
        **(
            {"evidence": variant.evidence.as_written()}
            if variant.evidence.as_written() != of_recipe.as_written()
            else {}
        ),
        "args": dict(variant.args),
        "env": dict(variant.env),
        **({"optional": list(variant.optional)} if variant.optional else {}),
    }
