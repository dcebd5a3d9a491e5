"""Texts by which engines and libraries tell why they end: no input; `SIGNATURES` out, each with its failure and remedy.

Data; each names where its text comes from. How they are looked for is in `failures`.
"""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.errors import (
    AimError,
    CacheError,
    DoesNotFitError,
    EngineCrashedError,
    EngineRefusedError,
    HubUnreachableError,
    InputError,
    ModelAccessError,
)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A text that tells a failure. `kind` names what failed, for the ladder; `serving` says that it tells as much of an
    engine that was ready. Groups of `pattern` may be used in `sentence` and `hint` as {name}; {mend_files} is what
    to do about a model's damaged files.
    """

    pattern: str
    kind: str
    error: type[AimError]
    sentence: str
    hint: str
    source: str
    serving: bool = False


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
        pattern=r"To serve at least one request with the model's max seq len|No available memory for the cache blocks",
        kind="cache",
        error=DoesNotFitError,
        sentence="the weights leave no memory for the KV cache",
        hint="use more GPUs (AIM_GPU_COUNT), a lower precision (AIM_PRECISION) or a shorter AIM_MAX_MODEL_LEN",
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
    Signature(
        pattern=r"(?:HIP|CUDA) out of memory|torch\.OutOfMemoryError|hipErrorOutOfMemory|CUDA error: out of memory",
        kind="memory",
        error=DoesNotFitError,
        sentence="the GPU ran out of memory",
        hint="use a shorter AIM_MAX_MODEL_LEN, more GPUs (AIM_GPU_COUNT) or a lower precision (AIM_PRECISION)",
        source="c10/hip/HIPCachingAllocator.cpp, c10/cuda/CUDACachingAllocator.cpp",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>Memory access fault by GPU node-?\d+[^\n]{0,120})",
        kind="kernel",
        error=EngineCrashedError,
        sentence="a kernel touched memory that is not its own: {what}",
        hint="AIM_ENGINE_ARGS may name another attention backend; report it with the engine's log",
        source="ROCR-Runtime, runtime/hsa-runtime/core/runtime/runtime.cpp",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>(?:HIP|CUDA) error: (?:invalid device function|no kernel image is available[^\n]{0,60}"
        r"|an illegal memory access[^\n]{0,40}|unspecified launch failure)|hipErrorNoBinaryForGpu[^\n]{0,80}"
        r"|(?:ImportError|ModuleNotFoundError|RuntimeError|AssertionError)[^\n]{0,80}\baiter\b[^\n]{0,120})",
        kind="kernel",
        error=EngineCrashedError,
        sentence="a GPU kernel failed: {what}",
        hint="VLLM_ROCM_USE_AITER=0 does without AITER's kernels; a newer engine image may have others",
        source="hip/hip_runtime_api.h (hipGetErrorString), github.com/ROCm/aiter",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>HSA_STATUS_ERROR_\w+[^\n]{0,120}|(?:HIP|CUDA) error: (?:no (?:ROCm|CUDA)-capable device"
        r"|device (?:not ready|lost|busy)|the device is unavailable)[^\n]{0,60}|hipErrorNoDevice\b|hipErrorDeinit\w+)",
        kind="device",
        error=EngineCrashedError,
        sentence="a GPU is lost: {what}",
        hint="look at the driver's log (dmesg) and at aim-engine doctor; a GPU may need a reset by its host",
        source="ROCR-Runtime, inc/hsa.h; hip/hip_runtime_api.h (hipGetErrorString)",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>(?:DistBackendError: )?(?:NCCL|RCCL) (?:error|WARN)[^\n]{0,160}"
        r"|nccl(?:System|Internal|UnhandledCuda|Remote)Error[^\n]{0,120}|hipIpc(?:Open|Get)MemHandle[^\n]{0,120})",
        kind="collective",
        error=EngineCrashedError,
        sentence="the GPUs cannot work together: {what}",
        hint="check /dev/shm (--shm-size 16g or --ipc=host) and the links between the GPUs (aim-engine doctor); "
        "NCCL_DEBUG=INFO says more",
        source="torch/csrc/distributed/c10d/NCCLUtils.hpp, rccl/src/include/nccl.h",
        serving=True,
    ),
    Signature(
        pattern=r"_multiprocessing\.SemLock\(\n(?:[^\n]*[\^~]\n)?[^\n]*Error: \[Errno \d+\] (?P<what>[^\n]+)"
        r"|\w*Error: \[Errno \d+\] (?P<old>[^\n:]+: '/?(?:psm_|sem\.mp-|dev/shm/)[^'\n]*')",
        kind="shared memory",
        error=CacheError,
        sentence="the engine cannot use /dev/shm: {what}{old}",
        hint="start the container without --ipc none, and with --shm-size 8g or --ipc=host (in Kubernetes: an emptyDir "
        "of medium Memory at /dev/shm)",
        source="multiprocessing/synchronize.py, multiprocessing/shared_memory.py",
    ),
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
        pattern=r"LocalEntryNotFoundError|OfflineModeIsEnabled|We couldn't connect to 'https://huggingface\.co'"
        r"|outgoing traffic has been disabled",
        kind="not cached",
        error=ModelAccessError,
        sentence="the model is not in the cache, and the hub was not to be asked or did not answer",
        hint="download it to AIM_CACHE_DIR first, or unset AIM_OFFLINE",
        source="huggingface_hub/errors.py, transformers/utils/hub.py",
    ),
    Signature(
        pattern=r"NameResolutionError|Temporary failure in name resolution|50[234] Server Error"
        r"|Max retries exceeded with url: \S*huggingface",
        kind="hub",
        error=HubUnreachableError,
        sentence="the hub did not answer",
        hint="check the network, or download the model first and set AIM_OFFLINE=1",
        source="urllib3/exceptions.py, requests",
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
        r"|Following weights were not initialized[^\n]{0,120})",
        kind="checkpoint",
        error=ModelAccessError,
        sentence="the checkpoint's tensors are not those of its architecture: {what}",
        hint="the model's files belong to different models or versions; {mend_files}",
        source="vllm/model_executor/models/utils.py, vllm/model_executor/model_loader/default_loader.py",
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
        r"(?:\n[^\n]*){0,4}?\n[^\n]*?(?:Value error|Assertion failed), (?P<what>[^\n\[]{1,300})",
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
    Signature(
        pattern=r"[Ff]ailed to infer device type",
        kind="device",
        error=EngineRefusedError,
        sentence="the engine found no device it can run on",
        hint="pass the GPUs to the container: --device /dev/kfd --device /dev/dri",
        source="vllm/config/device.py",
    ),
)
