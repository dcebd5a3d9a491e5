"""Rows of the fault matrix: settings, models, hubs, disks, memory, ports and state."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tests.faults.fault import Fault

_planning = partial(Fault, when="planning", test="cli/test_faults.py")
_start = partial(Fault, when="start", test="engine/test_faults_at_start.py", attempts=1)
_serving = partial(Fault, when="serving", test="engine/test_faults_while_serving.py")
_container = partial(Fault, when="planning", test="image/test_faults_in_containers.py")

_SETTINGS: tuple[Fault, ...] = (
    _planning(
        id="bad-setting", what="A setting has a value that it cannot have", injected="AIM_MAX_MODEL_LEN=plenty",
        error_class="Input", code=10, says="AIM_MAX_MODEL_LEN: 'plenty' is not legal", remedy="use auto or recipe or",
    ),
    _planning(
        id="engine-args-no-json", what="AIM_ENGINE_ARGS is no JSON", injected="AIM_ENGINE_ARGS={",
        error_class="Input", code=10, says="AIM_ENGINE_ARGS: '{' is not legal", remedy="JSON",
    ),
    _planning(
        id="unknown-option", what="An option that the installed engine lacks", injected="no-such-option",
        error_class="Input", code=10, says="has no option no-such-option", remedy="vllm serve --help=all",
    ),
    _planning(
        id="owned-option", what="An option that AIM Engine sets itself", injected="tensor-parallel-size",
        error_class="Input", code=10, says="is set by AIM_GPU_COUNT", remedy="use AIM_GPU_COUNT instead",
    ),
    _planning(
        id="bad-dtype", what="A type of numbers that is none", injected="dtype float8_e4m3fn",
        error_class="Input", code=10, says="dtype must be one of auto, half", remedy="correct the value",
    ),
    _start(
        id="bad-choice", what="A word that the engine's option does not have", injected="kv-cache-dtype fp3",
        error_class="EngineRefused", code=50, says="invalid choice", remedy="AIM_ENGINE_ARGS",
    ),
    _start(
        id="unknown-quantization", what="A quantization that the engine does not know", injected="quantization nope",
        error_class="EngineRefused", code=50, says="nope", remedy="AIM_ENGINE_ARGS",
    ),
    _start(
        id="quantization-of-others", what="A quantization that is not the checkpoint's",
        injected="quantization awq for bf16 weights",
        error_class="EngineRefused", code=50, says="awq", remedy="AIM_ENGINE_ARGS",
    ),
    _start(
        id="unknown-tool-parser", what="A tool parser that the engine does not have", injected="tool-call-parser nope",
        error_class="EngineRefused", code=50, says="no parser named nope", remedy="lists the legal names",
    ),
    _start(
        id="no-chat-template", what="A chat template that is not there", injected="chat-template /nowhere/...",
        error_class="EngineRefused", code=50, says="chat template", remedy="AIM_ENGINE_ARGS",
    ),
    _planning(
        id="context-beyond-the-model", what="A context longer than the model's own",
        injected="AIM_MAX_MODEL_LEN=999999 for 2048",
        error_class="Input", code=10, says="more than the model's own 2,048", remedy="at most 2048",
    ),
    _planning(
        id="more-gpus-than-here", what="More GPUs than there are", injected="AIM_GPU_COUNT=8 on a CPU",
        error_class="NoAccelerator", code=20, says="8 GPUs were asked for", remedy="AIM_GPU_COUNT to at most 1",
    ),
    _start(
        id="heads-not-divided", what="A tensor parallelism that does not divide the model's heads",
        injected="tensor-parallel-size 3 for 4 heads, past the plan", test="engine/test_ends.py",
        error_class="EngineRefused", code=50, says="must be divisible by tensor parallel size",
        remedy="correct the model, AIM_ENGINE_ARGS or the recipe",
    ),
    _planning(
        id="hostile-model-name", what="A model's name with a shell's or a terminal's commands in it",
        injected="$(...), backticks, pipes, escapes; nothing of it is run",
        error_class="Input", code=10, says="is not legal", remedy="use a Hugging Face id",
    ),
)  # fmt: skip

_MODEL: tuple[Fault, ...] = (
    _planning(
        id="no-such-folder", what="The model's folder is not there", injected="a path to nowhere",
        error_class="ModelAccess", code=40, says="there is no folder", remedy="give a folder with config.json",
    ),
    _planning(
        id="no-config", what="The folder has no config.json", injected="removed",
        error_class="ModelAccess", code=40, says="has no config.json", remedy="give a folder with config.json",
    ),
    _planning(
        id="config-not-json", what="config.json is cut short", injected="half of it",
        error_class="ModelAccess", code=40, says="config.json is not JSON", remedy="download the model again",
    ),
    _planning(
        id="weights-cut-short", what="A safetensors file is cut short", injected="1000 bytes less",
        error_class="ModelAccess", code=40, says="is damaged or was not downloaded whole", remedy="download it again",
    ),
    _planning(
        id="weights-garbage", what="A safetensors file begins with garbage", injected="a header that is no JSON",
        error_class="ModelAccess", code=40, says="is damaged or was not downloaded whole", remedy="download it again",
    ),
    _planning(
        id="shard-missing", what="A file of weights that the index names is missing", injected="an index of two files",
        error_class="ModelAccess", code=40, says="lacks model-2.safetensors", remedy="download it again",
    ),
    _start(
        id="wrong-shapes", what="The weights have other shapes than config.json says",
        injected="intermediate_size 512 over weights of 256",
        error_class="ModelAccess", code=40, says="tensors are not those of its architecture", remedy="folder of yours",
    ),
    _start(
        id="layer-missing", what="The weights of a layer are missing", injected="config.json with a layer more",
        error_class="ModelAccess", code=40, says="tensors are not those of its architecture", remedy="folder of yours",
    ),
    _planning(
        id="no-tokenizer", what="The folder has no tokenizer", injected="none there",
        error_class="ModelAccess", code=40, says="holds no tokenizer", remedy="put tokenizer.json",
    ),
    _start(
        id="tokenizer-garbage", what="The tokenizer's file is damaged", injected="half of it",
        error_class="ModelAccess", code=40, says="the model's tokenizer is damaged", remedy="folder of yours",
    ),
    _start(
        id="model-removed-meanwhile", what="The model's folder disappears while the engine starts",
        injected="removed once the engine's process is there",
        error_class="ModelAccess", code=40, says="there is no such model", remedy="check the name or the path",
    ),
    _planning(
        id="model-of-another-user", what="The model's folder may not be read", injected="another user's, mode 0700",
        error_class="ModelAccess", code=40, says="cannot be read: Permission denied", remedy="chmod -R a+rX",
    ),
    _planning(
        id="unknown-architecture", what="An architecture that the engine has no class for", injected="OwnForCausalLM",
        error_class="EngineRefused", code=50, says="has no class for", remedy="newer vllm",
    ),
    _start(
        id="forced-architecture", what="The same, with AIM_FORCE=1", injected="OwnForCausalLM",
        error_class="EngineRefused", code=50, says="cannot serve the architecture", remedy="newer engine image",
    ),
    _planning(
        id="code-of-its-own", what="A model that brings code of its own", injected="auto_map in config.json",
        error_class="Input", code=10, says="needs code of its own", remedy="trust-remote-code",
    ),
    _planning(
        id="unread-quantization", what="A form of weights that the engine does not read", injected="EXL2",
        error_class="ModelAccess", code=40, says="is stored as EXL2", remedy="conversion to fp8, AWQ, GPTQ",
    ),
    _planning(
        id="no-text-model", what="A model that writes no text", injected="BertForSequenceClassification",
        error_class="ModelAccess", code=40, says="sorts texts into classes", remedy="name a text-generation model",
    ),
    _start(
        id="healthy-and-cannot-answer", what="The engine calls itself healthy and cannot answer",
        injected="a head size without a kernel", error_class="EngineRefused", code=50,
        says="attention kernel does not support this model", remedy="another attention backend",
    ),
)  # fmt: skip

_HUB: tuple[Fault, ...] = (
    _planning(
        id="absent-repository", what="The hub has no such model", injected="401 RepoNotFound",
        error_class="ModelAccess", code=40, says="the hub has no model org/absent", remedy="check the spelling",
    ),
    _planning(
        id="absent-revision", what="The model has no such revision", injected="AIM_REVISION=v9",
        error_class="ModelAccess", code=40, says="has no revision v9", remedy="AIM_REVISION",
    ),
    _planning(
        id="gated-without-a-token", what="A gated model, and no token", injected="401 GatedRepo",
        error_class="ModelAccess", code=40, says="is gated, and no token is set", remedy="accept its terms",
    ),
    _planning(
        id="gated-token-without-access", what="A gated model, and a token without access", injected="403 GatedRepo",
        error_class="ModelAccess", code=40, says="the token from HF_TOKEN has no access", remedy="accept its terms",
    ),
    _planning(
        id="wrong-token", what="A token that the hub does not know", injected="401",
        error_class="ModelAccess", code=40, says="does not accept the token from HF_TOKEN", remedy="make a new one",
    ),
    _planning(
        id="hub-down", what="Nobody listens where the hub should be", injected="a closed port",
        error_class="HubUnreachable", code=41, says="nobody listens at", remedy="HF_ENDPOINT",
    ),
    _planning(
        id="hub-silent", what="The hub does not answer", injected="silence, AIM_HUB_TIMEOUT=1",
        error_class="HubUnreachable", code=41, says="kept silent for 1 s", remedy="AIM_HUB_TIMEOUT sets how long",
    ),
    _planning(
        id="hub-fails", what="The hub fails", injected="503",
        error_class="HubUnreachable", code=41, says="HTTP 503", remedy="try again in some minutes",
    ),
    _planning(
        id="hub-breaks-off", what="The hub's answer breaks off", injected="one byte of a thousand",
        error_class="HubUnreachable", code=41, says="the answer broke off", remedy="try again",
    ),
    _planning(
        id="hub-login-page", what="A network's login page answers instead", injected="HTML",
        error_class="HubUnreachable", code=41, says="is no hub: it sent an HTML page", remedy="log in to this network",
    ),
    _planning(
        id="hub-weights-damaged", what="The weights at the hub are damaged", injected="a header of garbage",
        error_class="ModelAccess", code=40, says="is damaged at the hub", remedy="its owner has to mend it",
    ),
    _planning(
        id="offline-without-a-copy", what="Offline, and the cache does not hold the model", injected="AIM_OFFLINE=1",
        error_class="ModelAccess", code=40, says="does not hold org/good", remedy="hf download org/good",
    ),
    _start(
        id="download-breaks-off", what="The download of the weights breaks off, again and again",
        injected="no answer, AIM_FALLBACK=0", error_class="HubUnreachable", code=41,
        says="the hub did not answer", remedy="check the network",
    ),
    _start(
        id="download-refused", what="The hub fails once the plan is made", injected="503, AIM_FALLBACK=0",
        error_class="HubUnreachable", code=41,
        says="the hub did not answer", remedy="check the network",
    ),
)  # fmt: skip

_DISK: tuple[Fault, ...] = (
    _planning(
        id="disk-too-small", what="The weights do not fit on the disk", injected="a file system of 64 KiB",
        error_class="Cache", code=42, says="are still to be fetched", remedy="free some space",
    ),
    _start(
        id="disk-full-meanwhile", what="The disk is full before the download is whole",
        injected="a file system of 2 MiB", error_class="Cache", code=42,
        says="the disk is full", remedy="free some space",
    ),
    _planning(
        id="cache-full", what="The cache's disk has no room at all", injected="a file system without inodes",
        error_class="Cache", code=42, says="is full", remedy="free some space",
    ),
    _planning(
        id="cache-read-only", what="The cache is mounted read-only", injected="a file system mounted ro",
        error_class="Cache", code=42, says="Read-only file system", remedy="AIM_CACHE_DIR",
    ),
    _planning(
        id="cache-of-another-user", what="The cache belongs to another user", injected="root's, for nobody",
        error_class="Cache", code=42, says="cannot be written by uid 54321", remedy="AIM_CACHE_DIR",
    ),
    _container(
        id="volume-of-another-user", what="The container's cache is another user's", injected="root's, --user 54321",
        error_class="Cache", code=42, says="cannot be written by uid 54321", remedy="AIM_CACHE_DIR",
    ),
    _container(
        id="nowhere-to-write", what="A read-only container without a /tmp", injected="--read-only, no --tmpfs",
        error_class="Cache", code=42, says="the state folder", remedy="AIM_STATE_DIR",
    ),
    _planning(
        id="state-unwritable", what="The state folder cannot be written", injected="a file system mounted ro",
        error_class="Cache", code=42, says="the state folder", remedy="AIM_STATE_DIR",
    ),
    _planning(
        id="state-of-somebody-else", what="The state folder belongs to somebody else", injected="chown",
        error_class="Input", code=10, says="it belongs to uid 54321", remedy="AIM_STATE_DIR",
    ),
    _planning(
        id="state-in-use", what="Another server uses the state folder", injected="its lock is held",
        error_class="Input", code=10, says="another server uses", remedy="AIM_STATE_DIR",
    ),
    _serving(
        id="state-full", what="The state folder's disk is full while it serves", injected="a file system of 1 MiB",
    ),
    _serving(
        id="state-removed", what="The state folder is removed while it serves", injected="rm -r",
    ),
)  # fmt: skip

_MEMORY: tuple[Fault, ...] = (
    _planning(
        id="does-not-fit", what="More requests at once than memory holds", injected="AIM_CONCURRENCY=100000",
        error_class="DoesNotFit", code=21, says="does not fit by", remedy="AIM_CONCURRENCY",
    ),
    Fault(
        id="cache-smaller-than-the-context", when="start", test="engine/test_faults_while_serving.py",
        what="The KV cache is too small for the recipe's context", injected="200,000 bytes of it",
        error_class="DoesNotFit", attempts=2, gives_up=("context",),
        says="the context length does not fit in memory; at most", remedy="set AIM_MAX_MODEL_LEN=",
    ),
    _start(
        id="cache-smaller-than-the-asked-context", what="The KV cache is too small for the context that was asked for",
        injected="300,000 bytes of it", error_class="DoesNotFit", code=21,
        says="the context length does not fit in memory; at most", remedy="set AIM_MAX_MODEL_LEN=",
    ),
    _start(
        id="cache-smaller-than-a-block", what="The KV cache is too small for anything", injected="1000 bytes of it",
        error_class="DoesNotFit", code=21, says="no memory for the KV cache", remedy="AIM_GPU_COUNT",
    ),
    _start(
        id="cache-larger-than-the-memory", what="The KV cache asked for is larger than the memory", injected="4 TiB",
        error_class="DoesNotFit", code=21, says="larger than the free memory", remedy="smaller KV cache",
    ),
    _container(
        id="memory-limit-too-small", what="A container's limit below what the model needs", injected="--memory 512m",
        error_class="DoesNotFit", code=21, says="does not fit by",
        remedy="use a larger memory limit for the container",
    ),
    _start(
        id="memory-limit-at-start", what="The kernel kills the engine while it starts, at a limit on its memory",
        injected="a control group of 500 MiB, AIM_FALLBACK=0",
        error_class="EngineCrashed", code=51, says="killed by the kernel", remedy="give the container more memory",
    ),
    _container(
        id="no-shared-memory", what="There is no /dev/shm", injected="--ipc none",
        error_class="Cache", code=42, says="there is no /dev/shm", remedy="--ipc none",
    ),
    _planning(
        id="shared-memory-read-only", what="/dev/shm cannot be written", injected="a file system mounted ro",
        error_class="Cache", code=42, says="/dev/shm cannot be written", remedy="leave out what mounts it so",
    ),
    _start(
        id="shared-memory-full", what="/dev/shm has no room", injected="a file system without inodes",
        error_class="Cache", code=42, says="the engine cannot use /dev/shm", remedy="--shm-size",
    ),
)  # fmt: skip

_PORTS: tuple[Fault, ...] = (
    _planning(
        id="port-taken", what="The API's port is taken", injected="somebody listens",
        error_class="Input", code=10, says="the port is taken by pid", remedy="choose another AIM_PORT",
    ),
    _planning(
        id="health-port-taken", what="The sidecar's port is taken", injected="somebody listens",
        error_class="Input", code=10, says="the port is taken by pid", remedy="choose another AIM_HEALTH_PORT",
    ),
    _start(
        id="port-taken-meanwhile", what="The port is taken between the plan and the engine",
        injected="somebody listens once the engine's process is there", error_class="Input", code=10,
        says="the port was taken while the engine started", remedy="another AIM_PORT",
    ),
    _planning(
        id="address-of-nobody", what="An address that is not this machine's", injected="--host 203.0.113.1",
        error_class="Input", code=10, says="is not an address of this machine", remedy="0.0.0.0",
    ),
    _start(
        id="start-too-slow", what="The engine does not start in time", injected="AIM_START_TIMEOUT=3",
        error_class="EngineStartTimeout", code=52, attempts=2,
        says="was not ready after 3 s", remedy="AIM_START_TIMEOUT",
    ),
)  # fmt: skip

OF_STARTS: tuple[Fault, ...] = tuple(
    replace(fault, about=about)
    for about, faults in (("Settings", _SETTINGS), ("The model's files", _MODEL), ("The hub", _HUB),
                          ("Memory", _MEMORY), ("Disks and folders", _DISK), ("Ports and time", _PORTS))
    for fault in faults
)  # fmt: skip
