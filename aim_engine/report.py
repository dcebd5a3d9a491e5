"""Plans, refusals and lists in, text for people and JSON shapes for programs out. Prints nothing itself.

`paint(style, text)` colours a piece of text, or returns it as it is; styles are "good", "bad", "dim" and "strong".
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import Recipe
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.hardware.links import xgmi_in_words
from aim_engine.plan import Plan, Refusal
from aim_engine.request import SETTINGS
from aim_engine.selection.candidate import Judged, Verdict
from aim_engine.selection.memory import Ledger, in_gib
from aim_engine.selection.standing import as_it_stands

Paint = Callable[[str, str], str]

_FEW = 8  # GPUs that are still named one by one
# What AMD's operator calls a profile's standing. Only a benchmark on that GPU makes one "optimized".
_AMD_TYPE = {"measured": "optimized", "served": "preview"}


def plain(_style: str, text: str) -> str:
    """The paint that paints nothing."""
    return text


def plan_text(plan: Plan, paint: Paint = plain) -> str:
    """The plan as a page: what, on what, why this one, why not each other, and the command."""
    winner, recipe = plan.winner, plan.winner.recipe
    lines = [paint("strong", f"{plan.model} on {plan.inventory.in_words()}: {plan.recipe_id}"), ""]
    lines += _facts(
        ("recipe", recipe.file or "made from the model's own numbers; in no file"),
        ("checkpoint", plan.checkpoint),
        ("precision", recipe.precision),
        ("devices", _placement(plan)),
        ("context", _context(plan)),
        ("tuned for", plan.request.metric),
        ("evidence", plan.evidence.in_words()),
        ("engine", f"{plan.engine.distribution} {plan.engine.version}" if plan.engine else "not known here"),
        ("hardware", _source(plan.inventory)),
    )
    if plan.ledger:
        lines += ["", paint("strong", "Memory of one device"), *_ledger_lines(plan.ledger)]
    lines += ["", paint("strong", "Why this one")]
    chosen = next(one for one in plan.judged if one.candidate is winner)
    lines += [f"  {_mark(v.passed, paint)} {v.rule}: {v.sentence}" for v in chosen.verdicts]
    others = [one for one in plan.judged if one.candidate is not winner]
    if others:
        lines += ["", paint("strong", "Why not the others"), *whys(others, paint)]
    lines += _section("Settings that were given", _given(plan), paint)
    lines += _section("Environment of the engine", [f"{k}={v}" for k, v in plan.command.env.items()], paint)
    lines += ["", paint("strong", "Command"), f"  {shlex.join(plan.command.argv)}"]
    lines += _section("If the start fails", _ladder(plan), paint)
    lines += _section("Notes", plan.notes, paint)
    own = [warning for warning in plan.warnings if warning not in plan.request.warnings]  # those were said already
    lines += _section("Warnings", own, paint)
    return "\n".join(lines)


def refusal_text(refusal: Refusal, paint: Paint = plain) -> str:
    """Every candidate with what speaks against it; the reason itself is the error's to say."""
    if not refusal.judged:
        return ""
    return "\n".join([paint("strong", "What was looked at"), *whys(refusal.judged, paint)])


def _source(inventory: Inventory) -> str:
    return "declared, not looked for" if inventory.source == "declared" else f"found by {inventory.source}"


def inventory_text(inventory: Inventory, paint: Paint = plain) -> str:
    """What was found, one line a device, how to read that, then the host and the notes."""
    header = ("#", "product", "memory", "free", "gfx", "device", "address", "partition", "state")
    rows = [header, *(_gpu_row(gpu) for gpu in inventory.gpus)]
    lines = [paint("strong", f"{inventory.in_words()} ({_source(inventory)})"), *table(rows)]
    lines += _about_the_table(inventory, paint)
    host = inventory.host
    if host is not None:
        isa = ", ".join(host.isa) or "none that matters"
        memory = f"{in_gib(host.memory_available_bytes)} of {in_gib(host.memory_bytes)} memory available"
        cores = f"{host.cores} usable cores on {host.numa_nodes} NUMA node(s)"
        lines += ["", f"host: {host.architecture}, {cores}, {memory}; {isa}"]
    return "\n".join([*lines, *_section("Notes", inventory.notes, paint)])


def _about_the_table(inventory: Inventory, paint: Paint) -> list[str]:
    gpus, lines = inventory.gpus, []
    if any(gpu.pci_address or not gpu.usable for gpu in gpus):
        lines.append("#: the engine's number for it (AMD: the order of the KFD nodes, after the visibility variables); "
                     "– is one that it does not see")  # fmt: skip
    if any(gpu.is_partition and gpu.usable and gpu.memory_free_bytes is None for gpu in gpus):
        lines.append("free –: the driver does not say how much of a partition's own memory is free")
    lines = [paint("dim", line) for line in lines]
    hives = xgmi_in_words(gpus)
    lines += [f"chosen by {' and '.join(inventory.visibility)}"] if inventory.visibility else []
    return lines + ([f"XGMI: {hives}"] if hives else [])


def recipes_text(judged: Iterable[Judged], chosen: Iterable[Judged], paint: Paint = plain) -> str:
    """A table of variants with their state on this hardware."""
    winners = {id(one.candidate) for one in chosen}
    rows = [("recipe", "model", "GPUs", "precision", "metric", "evidence", "state")]
    rows += [
        (
            one.candidate.recipe.recipe_id,
            "any" if one.candidate.recipe.is_family else one.candidate.recipe.model_id,
            f"{one.candidate.variant.gpu_count} x {one.candidate.recipe.gpu_type}",
            one.candidate.recipe.precision,
            one.candidate.variant.metric or "both",
            as_it_stands(one.candidate.variant.evidence, None).level,
            "chosen" if id(one.candidate) in winners else state(one),
        )
        for one in judged
    ]
    return "\n".join(table(rows, paint))


def state(judged: Judged) -> str:
    """A candidate's state in a few words: "works", or the first thing that speaks against it."""
    if judged.passed:
        return "works" if judged.candidate.ledger else "works, if the model fits"
    return "; ".join(_brief(verdict) for verdict in judged.failures)


def _brief(verdict: Verdict) -> str:
    """Without the sum behind "it does not fit by 41.0 GiB"."""
    return verdict.sentence.partition(": ")[0] if verdict.rule == "memory" else verdict.sentence


def models_text(cards: Sequence[ModelCard], recipes: Iterable[Recipe], paint: Paint = plain) -> str:
    """A table of the known models: what their own checkpoint holds, the bytes of each known precision, and for which
    GPUs there are recipes.
    """
    by_model: dict[str, dict[str, Recipe]] = {}
    for recipe in recipes:
        by_model.setdefault(recipe.model_id, {})[recipe.recipe_id] = recipe
    rows = [("model", "precision", "weights", "context", "recipes", "license", "for")]
    for card in cards:
        found = by_model.get(card.model_id, {})
        context = f"{card.architecture.max_context:,}" if card.architecture else "–"
        gpus = ", ".join(dict.fromkeys(one.gpu_type for one in found.values()))
        rows.append((card.model_id, card.precision or "–", _sizes(card), context, str(len(found)),
                     card.license or "–", gpus or "–"))  # fmt: skip
    return "\n".join(table(rows, paint))


def _sizes(card: ModelCard) -> str:
    """The model's own precision first."""
    known = sorted(card.weights_bytes.items(), key=lambda one: (one[0] != card.precision, -one[1]))
    own = [f"{'' if name == card.precision else f'{name} '}{in_gib(size)}" for name, size in known]
    return ", ".join(own) or "–"


def profile_type(level: str) -> str:
    """What AMD's operator calls a profile with evidence of that level."""
    return _AMD_TYPE.get(level, "unoptimized")


def operator_profiles(plan: Plan) -> list[dict[str, Any]]:
    """The plan in the shape that AMD's operator reads from `dry-run --format=json` (amd-enterprise-ai/aim-build)."""
    winner, recipe = plan.winner, plan.winner.recipe
    model_bytes = plan.ledger.lines[0].bytes * winner.tensor_parallel_size if plan.ledger else 0
    metadata = {
        "engine": winner.variant.backend,
        "accelerator_type": "cpu" if recipe.gpu_type == "CPU" else "gpu",
        "accelerator_model": recipe.gpu_type,
        "accelerator_count": winner.gpu_count,
        "gpu": recipe.gpu_type,
        "gpu_count": winner.gpu_count,
        "precision": recipe.precision,
        "metric": plan.request.metric,
        "type": profile_type(plan.evidence_counts_as),
    }
    profile = {
        "aim_id": plan.model,
        "model_id": plan.checkpoint,
        "metadata": metadata,
        "engine_args": {**winner.variant.args, **plan.request.engine_args},
        # the recipe's own: the operator sets them in the pods, whose folders are others than those of this container
        "env_vars": dict(winner.variant.env),
    }
    return [
        {
            "filename": f"{plan.recipe_id}.yaml",
            "path": recipe.file,
            "profile": profile,
            "models": [{"name": plan.checkpoint, "source": f"hf://{plan.checkpoint}",
                        "size_gb": round(model_bytes / 1e9, 2)}],
            "script": script(plan),
        }
    ]  # fmt: skip


def script(plan: Plan) -> str:
    """The command as a bash script."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in plan.command.env.items()]
    return "\n".join(["#!/usr/bin/env bash", *exports, f"exec {shlex.join(plan.command.argv)}", ""])


def table(rows: Sequence[Sequence[str]], paint: Paint = plain) -> list[str]:
    """Rows as aligned columns, the first row as their names; the last column is left as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return [paint("dim", lines[0]), *lines[1:]]


def _facts(*pairs: tuple[str, str]) -> list[str]:
    return [f"  {name:<11} {value}" for name, value in pairs]


def _section(title: str, lines: Iterable[str], paint: Paint) -> list[str]:
    shown = [f"  {line}" for line in lines]
    return ["", paint("strong", title), *shown] if shown else []


def _mark(passed: bool, paint: Paint) -> str:
    return paint("good", "✓") if passed else paint("bad", "✗")


def whys(judged: Iterable[Judged], paint: Paint) -> list[str]:
    """One line for a recipe and a reason, with all the placements that it speaks against."""
    placements: dict[tuple[str, bool, str], list[str]] = {}
    for one in judged:
        reason = one.passed_over or "; ".join(f"{v.rule}: {v.sentence}" for v in one.failures) or "it would do"
        placements.setdefault((one.candidate.recipe.recipe_id, one.passed, reason), []).append(_on(one))
    return [
        f"  {paint('dim', '·') if passed else paint('bad', '✗')} {recipe_id} on {', '.join(where)}: {reason}"
        for (recipe_id, passed, reason), where in placements.items()
    ]


def _on(judged: Judged) -> str:
    candidate = judged.candidate
    replicas = f" ({candidate.replicas} replicas)" if candidate.replicas > 1 else ""
    return f"{candidate.gpu_count}{replicas}"


def _placement(plan: Plan) -> str:
    winner = plan.winner
    shape = f"tensor parallel {winner.tensor_parallel_size}"
    if winner.nodes > 1:
        shape = f"each of {winner.nodes} nodes, {shape}, pipeline parallel {winner.pipeline_parallel_size}"
        shape += f", {winner.copies} data-parallel copies" if winner.copies > 1 else ""
    if winner.recipe.gpu_type == "CPU":
        return "the CPU" + (f" of {shape}" if winner.nodes > 1 else "")
    if winner.replicas > 1:
        shape += f", {winner.replicas} data-parallel replicas"
    many = f"{winner.gpu_count} of {len(plan.inventory.gpus)}"
    if all(gpu.pci_address is None for gpu in winner.gpus):
        return f"{many} (GPU {', '.join(str(gpu.index) for gpu in winner.gpus)}), {shape}"
    names = [gpu.name for gpu in winner.gpus]
    in_a_row = winner.gpus[-1].index - winner.gpus[0].index == len(names) - 1
    shown = f"{names[0]} to {names[-1]}" if len(names) > _FEW and in_a_row else ", ".join(names)
    return f"{many}, {shape}: {shown}"


def _context(plan: Plan) -> str:
    if isinstance(plan.context_tokens, int):
        return f"{plan.context_tokens:,} tokens x {plan.request.concurrency} at once"
    return f"{plan.context_tokens or 'as the recipe or the model says'}"


# The runtime's names of failures, as people say them.
_FAILURES = {"cache": "no room for the context", "no cache": "no room for any context", "memory": "out of memory",
             "kernel": "a kernel fails", "collective": "the GPUs cannot work together",
             "crash": "it crashes twice"}  # fmt: skip


def _ladder(plan: Plan) -> list[str]:
    """What is given up after which failure, in its order."""
    found = [(words, [rung.gives_up for rung in plan.ladder if name in rung.failures])
             for name, words in _FAILURES.items()]  # fmt: skip
    return [f"{words}: give up {', then '.join(steps)}" for words, steps in found if steps]


def _ledger_lines(book: Ledger) -> list[str]:
    lines = [f"  {line.name:<15} {in_gib(line.bytes):>10}  {line.basis:<8}  {line.note}" for line in book.lines]
    total = (f"  {'together':<15} {in_gib(book.total_bytes):>10}  of {in_gib(book.budget_bytes)} the engine may take; "
             f"{in_gib(book.low_bytes)} to {in_gib(book.high_bytes)} with what is assumed")  # fmt: skip
    if not book.fits or not book.capacity.tokens:
        return [*lines, total]
    held = f"{book.capacity.tokens:,} tokens, {book.capacity.concurrency:,.1f} requests of full length"
    return [*lines, total, f"  {'room for':<15} {held}"]


def _given(plan: Plan) -> list[str]:
    """Every setting that is not at its default, with where it came from; a secret only by its name."""
    lines = []
    for setting in SETTINGS:
        origin = plan.request.origins.get(setting.field, "default")
        if origin != "default":
            value = "(set)" if setting.secret else getattr(plan.request, setting.field)
            value = int(value) if isinstance(value, bool) else setting.default if value is None else value
            lines.append(f"{setting.variable} = {value} ({'argument' if setting.field == 'model' else origin})"
                         if origin == "flag" else f"{setting.variable} = {value} ({origin})")  # fmt: skip
    return lines


def _gpu_row(gpu: Gpu) -> tuple[str, ...]:
    free = in_gib(gpu.memory_free_bytes) if gpu.memory_free_bytes is not None else "–"
    number = str(gpu.index) if gpu.usable else "–"
    return (number, gpu.product, in_gib(gpu.memory_bytes), free, gpu.gfx or "–", gpu.device_id or "–",
            gpu.pci_address or "–", gpu.partition or "–", gpu.unusable or "usable")  # fmt: skip
