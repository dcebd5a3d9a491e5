"""The sglang backend: a placed recipe in, the argv and environment of sglang's server out.

Starts nothing and reads no environment. What differs between versions is data in sglang_versions.py; what runs in the
server's process beside sglang, its key among it, is runtime/sglang_server.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aim_engine.backends import sglang_versions as versions
from aim_engine.backends import vllm_caches as kernel_caches
from aim_engine.backends.base import MOST_WHOLE, Complaint, Loading, ServeJob, ServerCommand, ServerUrls, Step
from aim_engine.backends.environment import base_url, layered
from aim_engine.backends.kernels import Need, complaints, no_aiter, no_quick_reduce, precision_needs
from aim_engine.backends.sglang_options import named, recipe_complaints, rendered, serve_options, version_of
from aim_engine.backends.vllm_platforms import PLATFORMS, Platform, platform_for
from aim_engine.backends.vllm_versions import parse_version
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe, Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import AimError, CatalogError, InputError
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product

name = "sglang"
context_option = "context-length"

_SERVER = ("-m", "aim_engine.runtime.sglang_server")
# The word of torch's version.py that is set where it was built for a platform; with none of them it is for the CPU
_TORCH_WORDS = {"rocm": "hip", "cuda": "cuda"}
_NOTE = (
    "memory: what sglang takes is reckoned from its source (0.5.23) and was never compared with a running one on a GPU;"
    " windows and states of hybrid models are reckoned as vLLM keeps them"
)
# Doors beside the guarded one, each opened by a variable alone
_OTHER_DOORS = ("SGLANG_GRPC_PORT", "SGLANG_RUST_SERVER")


def find(search_path: tuple[str, ...], python: str) -> Engine | None:
    """The installed sglang, from the names of the metadata folders on the import path, and what its torch is for."""
    for folder in map(Path, (part or "." for part in search_path)):
        try:
            found = sorted(path.name for path in folder.glob("sglang-*.dist-info"))
        except OSError:  # a part of the import path that may not be looked into
            continue
        if found:
            return _engine(found[-1].removesuffix(".dist-info").partition("-")[2], python, search_path)
    return None


def _engine(version: str, python: str, search_path: tuple[str, ...]) -> Engine:
    built_for = _build_of_torch(search_path)
    kernels = kernel_caches.find_kernels(search_path) if built_for and built_for.compiles_kernels else (None, None)
    return Engine(
        name=name,
        version=version,
        platform=built_for.name if built_for else None,
        runs_on=built_for.runs_on if built_for else (),
        distribution=name,
        # -P: a folder called sglang or torch in the working directory must not be imported instead
        launch=(python, "-P", *_SERVER),
        kernels=kernels[0],
        kernels_version=kernels[1],
    )


def _build_of_torch(search_path: tuple[str, ...]) -> Platform | None:
    """An image's sglang is built from source and does not say for what; its torch does."""
    for folder in map(Path, search_path):
        try:
            text = (folder / "torch" / "version.py").read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        words = {build for build, word in _TORCH_WORDS.items() if _is_set(word, text)} or {"cpu"}
        return next((platform for platform in PLATFORMS if platform.name in words), None)
    return None


def _is_set(word: str, text: str) -> bool:
    return bool(re.search(rf"^{word}\b[^=\n]*= *['\"]", text, re.MULTILINE))


def over_nodes(variant: Variant, nodes: int, here: int, overrides: Mapping[str, Any], engine: Engine | None) -> Variant:
    """Not yet: its leader and its workers are told of each other otherwise than vLLM's, and nobody has tried it."""
    raise InputError(
        f"AIM Engine does not start sglang on more than one node (AIM_NODES={nodes})", hint="use AIM_BACKEND=vllm"
    )


def read_terms(
    args: Mapping[str, ArgumentValue], overrides: Mapping[str, Any], gpu: Gpu, engine: Engine | None
) -> ServingTerms:
    """What sglang's options mean for memory on that GPU; its defaults where an option is not set."""
    merged: dict[str, Any] = {**named(args), **named(overrides)}
    batch = _whole(merged.get("chunked-prefill-size")) or versions.default_batch_tokens(gpu.memory_bytes)
    if merged.get("chunked-prefill-size") == -1:  # a prompt is never cut: as many as may be in a step
        batch = _whole(merged.get("max-prefill-tokens")) or 16384
    width = (_whole(merged.get("tp-size")) or 1) * (_whole(merged.get("pp-size")) or 1)
    share = _fraction(merged.get("mem-fraction-static"))
    on_host = platform_for(gpu).explicit_cache
    return ServingTerms(
        context_tokens=_whole(merged.get("context-length")),
        memory_fraction=share or versions.default_memory_fraction(gpu.memory_bytes, batch, width),
        static_share=not on_host,
        block_tokens=_whole(merged.get("page-size")) or 1,
        batch_tokens=batch,
        kv_element_bytes=1 if str(merged.get("kv-cache-dtype", "auto")).startswith("fp8") else 2,
        eager=merged.get("disable-cuda-graph") is True or merged.get("cuda-graph-backend-decode") == "disabled",
        host_memory=on_host,
        kernel_block_tokens=1,
        prefix_caching=merged.get("disable-radix-cache") is not True,
        pipeline_parallel_size=_whole(named(args).get("pp-size")) or 1,
        cache_given="max-total-tokens" in merged,
        others=tuple(sorted((option, str(value)) for option, value in merged.items())),
    )


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """A recipe for a model that has none on that GPU."""
    from aim_engine.backends import sglang_derived  # here: most models that are served have recipes

    return sglang_derived.derive(card, model_id, product)


def refused_format(method: str, vendor: str, engine: Engine | None) -> str:
    """Nothing: which formats sglang loads where is not known here."""
    return ""


def objection(model: Loading, options: Mapping[str, Any], engine: Engine | None) -> AimError | None:
    """None: which models sglang loads is not known here."""
    return None


def doubts(model: Loading, options: Mapping[str, Any], engine: Engine | None) -> Iterator[str]:
    """That nobody has looked whether sglang has a class for it."""
    yield f"whether sglang can load {model.name} was not checked: what it has classes for is not known here"


def command(job: ServeJob) -> ServerCommand:
    """The argv, environment and URLs of sglang's server for this job."""
    notes: list[str] = []
    warnings: list[str] = []
    for complaint in _kernel_complaints(job.gpu_type, job.precision, "", job.args, job.env):
        raise CatalogError(f"recipe {job.recipe_id}: {complaint.key} {complaint.sentence}", hint="mend the recipe")
    options, origins = serve_options(job, notes, warnings)
    if len(job.served_names) > 1:
        notes.append(f"sglang names the model {job.served_names[0]}, and answers to any other name too")
    notes.append(_NOTE)
    launch = job.engine.launch if job.engine else ("python3", *_SERVER)
    platform = platform_for(job.gpus[0])
    env, empty = layered(job, _defaults(job, platform), platform.visible_variables, origins=origins, notes=notes)
    return ServerCommand(
        argv=(*launch, "--model-path", job.model, *rendered(options)),
        env=env,
        unset=(*empty, *_unwanted(job.environment, notes)),
        links=kernel_caches.links(job.engine, job.cache_dir) if kernel_caches.KERNELS in env else (),
        served_names=job.served_names,
        urls=_urls(job),
        probe_body={"model": job.served_names[0], "prompt": "Hello", "max_tokens": 1, "temperature": 0},
        notes=tuple(notes),
        warnings=tuple(warnings),
        origins=origins,
        options=options,
    )


def words(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as words of argv."""
    return rendered(options)


def steps(job: ServeJob) -> tuple[Step, ...]:
    """What sglang can do without."""
    from aim_engine.backends.sglang_steps import steps_of  # here: only a plan that will be served has a ladder

    return steps_of(job, read_terms(job.args, job.overrides, job.gpus[0], job.engine))


def _urls(job: ServeJob) -> ServerUrls:
    base = base_url(job)
    version = version_of(job)
    cheap = version is None or version >= versions.CHEAP_HEALTH_SINCE
    return ServerUrls(base=base, health=f"{base}/health" if cheap else f"{base}/get_model_info",
                      metrics=f"{base}/metrics", models=f"{base}/v1/models", load=f"{base}/load",
                      probe=f"{base}/v1/completions")  # fmt: skip


def review(recipe: Recipe, variant: Variant) -> list[Complaint]:
    """Options that no known version of sglang has, those that AIM Engine sets itself, and what the GPU has no kernels
    for.
    """
    kernels = _kernel_complaints(recipe.gpu_type, recipe.precision, recipe.huggingface_id, variant.args, variant.env)
    return [*recipe_complaints(variant.args), *kernels]


def _kernel_complaints(
    gpu_type: str, precision: str, checkpoint: str, args: Mapping[str, ArgumentValue], env: Mapping[str, str]
) -> Iterator[Complaint]:
    quantization = str(args.get("quantization") or "").lower()
    needs = [*precision_needs(precision, checkpoint, quantization)]
    if env.get("SGLANG_USE_AITER", "").lower() in ("1", "true"):
        needs.insert(0, Need(key="env.SGLANG_USE_AITER", kind="aiter", lacks=no_aiter))
    if env.get("ROCM_QUICK_REDUCE_QUANTIZATION", "NONE").upper() not in ("", "NONE"):
        needs.append(Need(key="env.ROCM_QUICK_REDUCE_QUANTIZATION", kind="quick-reduce", lacks=no_quick_reduce))
    if args.get("attention-backend") == "aiter":
        needs.append(Need(key="args.attention-backend", kind="aiter", lacks=no_aiter))
    return complaints(gpu_type, needs)


def inspector(engine: Engine) -> Callable[[Variant], list[Complaint]]:
    """The installed sglang's own judgement of a variant. Imports sglang, which takes seconds.

    Raises:
        EngineRefusedError: sglang cannot be imported.
    """
    from aim_engine.backends.sglang_parser import InstalledParser

    parser, version = InstalledParser(), parse_version(engine.version)

    def inspect(variant: Variant) -> list[Complaint]:
        optional = {versions.canonical(one) for one in variant.optional}
        options: dict[str, tuple[str, ...]] = {}
        for option, value in variant.args.items():
            installed = versions.installed_name(option, version)
            if installed is None and versions.canonical(option) in optional:
                continue
            installed = installed or option  # the parser will say so itself
            options[installed] = tuple(rendered({installed: value}))
        return list(parser.complaints(options, variant.env))

    return inspect


def _defaults(job: ServeJob, platform: Platform) -> dict[str, str]:
    cache = job.cache_dir
    defaults = {
        "HF_HOME": str(cache),
        "SGLANG_CACHE_DIR": str(cache / name),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        **{variable: str(cache / folder) for variable, folder in platform.caches.items()},
        # or /health, asked every second, would make the engine generate a token each time, and say 503 while one long
        # prompt is read (http_server.py, health_generate); what tells a hang are the counters
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
    }
    for linked in kernel_caches.links(job.engine, cache):
        defaults[kernel_caches.KERNELS] = linked.folder
    return defaults | ({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if job.offline else {})


def _unwanted(environment: Mapping[str, str], notes: list[str]) -> Iterator[str]:
    """The user's variables that would open the engine to requests that no guard sees."""
    for variable in _OTHER_DOORS:
        if variable in environment:
            notes.append(f"{variable} is taken out of the engine's environment: it opens a door without the guard")
            yield variable


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_WHOLE else None


def _fraction(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1 else None
