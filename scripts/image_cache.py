"""Run by the image's build: FOLDER comes in, and FOLDER/vllm holds what vLLM finds out about each architecture of the
catalogue by importing its code in a process of its own, which takes seconds of every first start.

vLLM keeps that under VLLM_CACHE_ROOT/modelinfos, with the hash of the architecture's source (_LazyRegisteredModel in
vllm/model_executor/models/registry.py), so it is right for as long as the same vLLM reads it. What cannot be found out
during a build, where no GPU is, is left to the first start: this never fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from aim_engine.backends import vllm as backend
from aim_engine.catalog.load import CatalogFolders, catalog_folders, load_everything


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) / "vllm"
    kept = root / "modelinfos"
    kept.mkdir(parents=True, exist_ok=True)
    os.environ["VLLM_CACHE_ROOT"] = str(root)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            make_whole(Path(scratch))
            inspect(architectures())
    except Exception as error:
        print(f"no model inspection at build time: {type(error).__name__}: {error}")
    print(f"model inspection of {len(list(kept.glob('*.json')))} architectures in {kept}")
    for path in Path(arguments[0]).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return 0


def architectures() -> list[str]:
    _, cards, _ = load_everything(CatalogFolders(recipes=(), models=catalog_folders().models))
    return sorted({card.family for card in cards if card.family})


def make_whole(folder: Path) -> None:
    """vLLM chooses its platform by the version of a distribution called `vllm`, whatever the wheel is called."""
    engine = backend.find(tuple(sys.path), sys.executable)
    if engine is None or engine.distribution == "vllm":
        return
    info = folder / f"vllm-{engine.version}+{engine.platform}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {engine.version}+{engine.platform}\n")
    sys.path.insert(0, str(folder))


def inspect(names: list[str]) -> None:
    from vllm.model_executor.models import registry

    module: Any = registry
    if hasattr(module, "_run_in_subprocess"):
        # That process exists so that a GPU is not initialised in the server's own; here is none, and it costs seconds
        # for each architecture.
        module._run_in_subprocess = lambda function: function()
    for name in names:
        model = module.ModelRegistry.models.get(name)
        try:
            if model is None:
                raise LookupError("this vLLM does not know it")
            model.inspect_model_cls()
        except Exception as error:
            print(f"{name} is not inspected: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
