"""Starts of the real vLLM by the dozen: commands in, what each engine says of its KV cache out.

Run by the interpreter that has vLLM: JSON lines on stdin, `{argv, env}` (the words after `vllm serve`) or `{save,
folder}` (a config, to be saved with random weights), and one line on stdout for each. vLLM is imported once, in a
parent that forks for every line, so that a start takes a second and not sixteen. The engine is built as the server
builds it, from the words that its own parser reads; only the HTTP side is left out. Knows nothing of AIM Engine's
reckoning.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 180
# vllm/v1/core/kv_cache_utils.py; vllm/v1/worker/cpu_worker.py
MEMORY_WORDS = ("To serve at least one request", "No available memory for the cache", "on kv cache allocation is less")


def main() -> None:
    """Answer each line; what goes wrong with one is its answer."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the engine prints; the answers shall stand alone
    parser = _parser()
    gc.freeze()  # or each child would copy all of the parent's pages when it collects
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(_forked(json.loads(line), parser), file=answers, flush=True)


def _parser() -> Any:
    """The parser of `vllm serve`. On the way everything is imported that an engine needs, and no thread is started: a
    fork would lose it.
    """
    import vllm.entrypoints.cli.serve
    import vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors
    import vllm.renderers.hf
    import vllm.v1.engine.core
    import vllm.v1.engine.llm_engine
    import vllm.v1.executor.uniproc_executor
    import vllm.v1.worker.cpu_model_runner
    import vllm.v1.worker.cpu_worker  # noqa: F401
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


def _forked(task: dict[str, Any], parser: Any) -> str:
    """The answer of a child of its own; its JSON, because what it left half-written is not."""
    inlet, outlet = os.pipe()
    child = os.fork()
    if not child:
        os.close(inlet)
        signal.alarm(LONGEST_SECONDS)
        answer = _answer(task, parser)
        with os.fdopen(outlet, "w") as out:
            out.write(json.dumps(answer))
        os._exit(0)  # no finalisers: they are the parent's
    os.close(outlet)
    with os.fdopen(inlet) as source:
        said = source.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or json.dumps({"error": f"the engine ended with {status}"})


def _answer(task: dict[str, Any], parser: Any) -> dict[str, Any]:
    try:
        if "save" in task:
            return _saved(task["save"], Path(task["folder"]))
        return _started(parser.parse_args(task["argv"]), task["env"])
    except BaseException as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())[:600]
        return {"refused" if any(memory in words for memory in MEMORY_WORDS) else "error": words}


def _saved(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A checkpoint with random weights, as transformers saves one. The config stays as it was given."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    written = json.dumps(config)
    (folder / "config.json").write_text(written)
    read = AutoConfig.from_pretrained(folder)
    AutoModelForCausalLM.from_config(read, dtype=torch.bfloat16).save_pretrained(folder)
    (folder / "config.json").write_text(written)
    return {"saved": str(folder)}


def _started(arguments: Any, env: dict[str, str]) -> dict[str, Any]:
    os.environ.update(env)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import validate_parsed_serve_args
    from vllm.model_executor.models import registry
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.llm_engine import LLMEngine

    # a process of its own for each new architecture would be eight seconds, and is for GPUs (registry.py)
    registry._run_in_subprocess = lambda inspect: inspect()
    arguments.model = arguments.model_tag or arguments.model  # vllm/entrypoints/cli/serve.py
    validate_parsed_serve_args(arguments)
    context = UsageContext.OPENAI_API_SERVER
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(context)
    engine = LLMEngine.from_vllm_config(config, usage_context=context)
    cache = engine.vllm_config.cache_config  # what the metric vllm:cache_config_info shows
    return {
        "blocks": cache.num_gpu_blocks or 0,
        "tokens": cache.kv_cache_size_tokens or 0,
        "concurrency": cache.kv_cache_max_concurrency or 0.0,
        "context": config.model_config.max_model_len,
    }


if __name__ == "__main__":
    main()
