"""Texts by which engines and libraries tell why they end: no input; `SIGNATURES` out, each with its failure and remedy.

Data; each names where its text comes from. How they are looked for is in `failures`.
"""

from __future__ import annotations

from aim_engine.errors import (
    CacheError,
    DoesNotFitError,
    EngineRefusedError,
    HubUnreachableError,
    InputError,
    ModelAccessError,
)
from aim_engine.runtime.device_signatures import DEVICE_SIGNATURES
from aim_engine.runtime.signature import Signature

# The first that matches wins: the specific before the general, the cause before its consequence.
SIGNATURES: tuple[Signature, ...] = (
    Signature(
        pattern=r"aim serve: (?:error: )?cannot start the engine: (?P<what>.+)",
        kind="program",
        error=EngineRefusedError,
        sentence="the engine cannot be started: {what}",
        hint="the engine's program is not installed where the plan expects it",
        source="aim_engine/runtime/serve.py",
    ),
    Signature(
        pattern=r"the estimated maximum model length is (?P<tokens>\d+)",
        kind="cache",
        error=DoesNotFitError,
        sentence="the context length does not fit in memory; at most {tokens} tokens do",
        hint="set AIM_MAX_MODEL_LEN={tokens} or less, or use more GPUs (AIM_GPU_COUNT)",
        source="vllm/v1/core/kv_cache_utils.py",
        serving=True,
    ),
    Signature(
        pattern=r"To serve at least one request with the model's max seq len|No available memory for the cache blocks"
        r"|Cannot auto-fit max_model_len: not enough",
        kind="no cache",
        error=DoesNotFitError,
        sentence="the weights leave no memory for the KV cache",
        hint="use more GPUs (AIM_GPU_COUNT), a lower precision (AIM_PRECISION) or a smaller model",
        source="vllm/v1/core/kv_cache_utils.py",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>(?:Free|Available) memory on (?:device|node)[^\n]*?is less than desired (?:GPU|CPU) memory"
        r" utilization)",
        kind="memory",
        error=DoesNotFitError,
        sentence="other programs hold the memory that was planned for: {what}",
        hint="end them, or lower the share: AIM_ENGINE_ARGS='{{\"gpu-memory-utilization\": 0.8}}'",
        source="vllm/v1/worker/utils.py, vllm/v1/worker/cpu_worker.py",
        serving=True,
    ),
    Signature(
        pattern=r"Not enough memory\. Please try to increase --mem-fraction-static"
        r"|Loaded weights leave no GPU memory for the KV cache",
        kind="cache",
        error=DoesNotFitError,
        sentence="the weights leave no memory for the KV cache in the engine's share of the GPU",
        hint="use more GPUs (AIM_GPU_COUNT), a lower precision (AIM_PRECISION), or a larger share: "
        "AIM_ENGINE_ARGS='{{\"mem-fraction-static\": 0.9}}'",
        source="sglang/srt/mem_cache/kv_cache_configurator.py, sglang/srt/model_executor/pool_configurator.py",
    ),
    Signature(
        pattern=r"allocation is less than requested memory for kv",
        kind="memory",
        error=DoesNotFitError,
        sentence="the KV cache that was asked for is larger than the free memory",
        hint="ask for a smaller KV cache, or a shorter AIM_MAX_MODEL_LEN",
        source="vllm/v1/worker/cpu_worker.py",
        serving=True,
    ),
    *DEVICE_SIGNATURES,
    Signature(
        pattern=r"No space left on device|Disk quota exceeded",
        kind="disk",
        error=CacheError,
        sentence="the disk is full",
        hint="free some space, or set AIM_CACHE_DIR to a larger volume",
        source="errno(3): ENOSPC, EDQUOT",
    ),
    Signature(
        pattern=r"Address already in use",
        kind="port",
        error=InputError,
        sentence="the port was taken while the engine started",
        hint="stop that program, or choose another AIM_PORT",
        source="errno(3): EADDRINUSE",
    ),
    Signature(
        pattern=r"GatedRepoError|Access to model \S+ is restricted|401 Client Error|403 Client Error",
        kind="gated",
        error=ModelAccessError,
        sentence="the hub does not give access to the model",
        hint="accept the model's licence on its page, and set HF_TOKEN",
        source="huggingface_hub/errors.py",
    ),
    Signature(
        pattern=r"RepositoryNotFoundError|RevisionNotFoundError|HFValidationError|Repo id must be in the form",
        kind="absent",
        error=ModelAccessError,
        sentence="there is no such model: neither a folder here, nor a repository on the hub",
        hint="check the name or the path",
        source="huggingface_hub/errors.py, huggingface_hub/utils/_validators.py",
    ),
    Signature(
        pattern=r"An error happened while trying to locate the file on the Hub|NameResolutionError"
        r"|Temporary failure in name resolution|50[234] Server Error"
        r"|Max retries exceeded with url: \S*huggingface"
        r"|\bhttpx2?\.(?:RemoteProtocolError|Connect\w+|Read\w+|PoolTimeout|ProxyError): "
        r"|Server error '50\d [^\n']*' for url",
        kind="hub",
        error=HubUnreachableError,
        sentence="the hub did not answer",
        hint="check the network, or download the model first and set AIM_OFFLINE=1",
        source="huggingface_hub/file_download.py (_raise_on_head_call_error), httpx2, urllib3/exceptions.py, requests",
    ),
    Signature(
        pattern=r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to 'https://huggingface\.co'"
        r"|outgoing traffic has been disabled",
        kind="not cached",
        error=ModelAccessError,
        sentence="the model is not in the cache, and the hub was not to be asked or did not answer",
        hint="download it to AIM_CACHE_DIR first, or unset AIM_OFFLINE",
        source="huggingface_hub/errors.py, transformers/utils/hub.py",
    ),
    Signature(
        pattern=r"Error while deserializing header|SafetensorError|does not appear to have a file named config\.json"
        r"|Cannot find any model weights|Couldn't instantiate the backend tokenizer",
        kind="checkpoint",
        error=ModelAccessError,
        sentence="the model's files are damaged or incomplete",
        hint="{mend_files}",
        source="safetensors, transformers/utils/hub.py, vllm/model_executor/model_loader/default_loader.py",
    ),
    Signature(
        pattern=r"(?P<what>There is no module or parameter named [^\n]{1,120}|The size of tensor a [^\n]{1,120}"
        r"|Following weights were not initialized[^\n]{0,120}"
        r"|start \(\d+\) \+ length \(\d+\) exceeds dimension size[^\n]{0,20}"
        r"|assert param\w*\.shape == loaded_weight\.shape)",
        kind="checkpoint",
        error=ModelAccessError,
        sentence="the checkpoint's tensors are not those of its architecture: {what}",
        hint="the model's files belong to different models or versions; {mend_files}",
        source="vllm/model_executor/models/utils.py, vllm/model_executor/model_loader/default_loader.py",
    ),
    Signature(
        pattern=r"(?:contains|references) custom code [^\n]{0,200}?must be executed to correctly load"
        r"|requires you to execute the configuration file|consider setting `trust_remote_code=True`",
        kind="remote code",
        error=InputError,
        sentence="the model needs code of its own, and the engine does not run that unless told to",
        hint="read that code first; AIM_ENGINE_ARGS='{{\"trust-remote-code\": true}}' runs it",
        source="transformers/dynamic_module_utils.py, vllm/transformers_utils/config.py",
    ),
    Signature(
        pattern=r"tokeniz[^\n]*, in \w*from_pretrained\n(?:[^\n]*\n){1,40}?[^\n]*JSONDecodeError: (?P<what>[^\n]+)",
        kind="checkpoint",
        error=ModelAccessError,
        sentence="the model's tokenizer is damaged: {what}",
        hint="{mend_files}",
        source="transformers/tokenization_utils_base.py",
    ),
    Signature(
        pattern=r"model type `?(?P<what>[\w-]+)`? but Transformers does not recognize this architecture",
        kind="architecture",
        error=EngineRefusedError,
        sentence="this engine does not know models of type {what}",
        hint="check model_type in the model's config.json; a newer model needs a newer engine image",
        source="transformers/models/auto/configuration_auto.py",
    ),
    Signature(
        pattern=r"User-specified max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len"
        r"(?: \(\w+=(?P<derived>\d+))?",
        kind="option",
        error=EngineRefusedError,
        sentence="the model was not made for a context of {asked} tokens",
        hint="set AIM_MAX_MODEL_LEN to {derived} or less",
        source="vllm/config/model.py",
    ),
    Signature(
        pattern=r"Model architectures \[(?P<what>[^\]]*)\] (?:are not supported|failed to be inspected)"
        r"|Model architecture (?P<old>\S+) is not supported in-tree",
        kind="architecture",
        error=EngineRefusedError,
        sentence="this engine cannot serve the architecture {what}{old}",
        hint="use a newer engine image, or another model",
        source="vllm/model_executor/models/registry.py",
    ),
    Signature(
        pattern=r"The supplied chat template[^\n(]*\((?P<what>[^)\n]+)\) (?:appears|looks)",
        kind="option",
        error=EngineRefusedError,
        sentence="there is no chat template {what}",
        hint="give AIM_ENGINE_ARGS the path of a chat-template that this user can read where the engine runs, or leave "
        "it out",
        source="vllm/renderers/chat_utils.py",
    ),
    Signature(
        pattern=r"invalid tool call parser: (?P<what>\S+)|(?P<old>invalid reasoning parser: \S+)"
        r"|(?:Reasoning|Tool) parser '(?P<other>[^']*)' not found",
        kind="option",
        error=EngineRefusedError,
        sentence="the engine has no parser named {what}{old}{other}",
        hint="the engine's log lists the legal names; correct AIM_ENGINE_ARGS or the recipe",
        source="vllm/entrypoints/launchers/launcher.py, vllm/reasoning/abs_reasoning_parsers.py,"
        " vllm/tool_parsers/abstract_tool_parser.py",
    ),
    Signature(
        pattern=r"(?P<what>[Hh]ead[_ ](?:size|dim(?:ension)?)\b[^\n]{0,60}not supported"
        r"|[Uu]nsupported (?:head[_ ](?:size|dim)|\w+ attention configuration)[^\n]{0,60})",
        kind="architecture",
        error=EngineRefusedError,
        sentence="the attention kernel does not support this model: {what}",
        hint="use another attention backend or another model",
        source="vllm/v1/attention/backends, csrc/cpu",
    ),
    Signature(
        pattern=r"(?P<what>No working C\+\+ compiler found)|(?P<other>Failed to find C compiler)",
        kind="option",
        error=EngineRefusedError,
        sentence="the engine has to compile something, and there is no compiler: {what}{other}",
        hint="set TORCHDYNAMO_DISABLE=1, or install g++ and gcc where the engine runs",
        source="torch/_inductor/exc.py (InvalidCxxCompiler), triton/runtime/build.py; seen with vLLM 0.32 in an image"
        " without g++",
    ),
    Signature(
        pattern=r"(?:vllm|sglang)(?: serve)?: error: (?P<what>.+)|api_server\.py: error: (?P<old>.+)"
        r"|\berror: (?P<other>"
        r"(?:unrecognized arguments|argument |ambiguous option).+)",
        kind="option",
        error=EngineRefusedError,
        sentence="the engine does not understand its arguments: {what}{old}{other}",
        hint="correct AIM_ENGINE_ARGS or the recipe",
        source="argparse, vllm/utils/argparse_utils.py",
    ),
    Signature(
        pattern=r"validation errors? for \w*(?:Config|Args)[^\n]*"
        r"(?:\n[^\n]*){0,4}?\n[^\n]*?(?:Value error|Assertion failed), (?P<what>(?:(?! \[type=)[^\n]){1,600})",
        kind="option",
        error=EngineRefusedError,
        sentence="the engine refused its configuration: {what}",
        hint="correct the model, AIM_ENGINE_ARGS or the recipe",
        source="pydantic, vllm/config",
    ),
    Signature(
        pattern=r"validation errors? for \w*(?:Config|Args)",
        kind="option",
        error=EngineRefusedError,
        sentence="the engine refused its configuration",
        hint="correct AIM_ENGINE_ARGS or the recipe; the engine's log says which value",
        source="pydantic, vllm/config",
    ),
)
