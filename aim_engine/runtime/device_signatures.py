"""Texts by which GPUs' libraries tell that memory, a kernel, a device or the links between GPUs fail: no input;
`DEVICE_SIGNATURES` out.

Data; of GPUs that were not at hand, so each names the source or the public report that its text is from.
"""

from __future__ import annotations

from aim_engine.errors import CacheError, DoesNotFitError, EngineCrashedError, EngineRefusedError
from aim_engine.runtime.signature import Signature

_OUT_OF_MEMORY = (
    r"(?:HIP|CUDA) out of memory|torch\.OutOfMemoryError|hipErrorOutOfMemory|(?:HIP|CUDA) error: out of memory"
    r"|(?:HIP|Cuda|hip) failure:? '?(?:\d+ )?'?out of memory"
)
_OUT_OF_MEMORY_SOURCES = (
    "c10/hip/HIPCachingAllocator.cpp, c10/cuda/CUDACachingAllocator.cpp; rccl/src/include/checks.h; vllm#26863, #18446"
)

DEVICE_SIGNATURES: tuple[Signature, ...] = (
    Signature(
        pattern=_OUT_OF_MEMORY,
        kind="memory",
        error=DoesNotFitError,
        sentence="the GPU ran out of memory",
        hint="use a shorter AIM_MAX_MODEL_LEN, more GPUs (AIM_GPU_COUNT) or a lower precision (AIM_PRECISION)",
        source=_OUT_OF_MEMORY_SOURCES,
    ),
    Signature(
        pattern=_OUT_OF_MEMORY,
        kind="serving memory",
        error=EngineCrashedError,
        sentence="the GPU ran out of memory while it served",
        hint="leave requests more room: AIM_ENGINE_ARGS='{{\"gpu-memory-utilization\": 0.85}}', or a smaller "
        "max-num-batched-tokens or max-num-seqs",
        source=_OUT_OF_MEMORY_SOURCES,
        starting=False,
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>Memory access fault by GPU node-?\d+[^\n]{0,120})",
        kind="kernel",
        error=EngineCrashedError,
        sentence="a kernel touched memory that is not its own: {what}",
        hint="AIM_ENGINE_ARGS may name another attention backend; report it with the engine's log",
        source="ROCR-Runtime, runtime/hsa-runtime/core/runtime/runtime.cpp; vllm#16840",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>(?:HIP|CUDA) error: (?:invalid device function|no kernel image is available[^\n]{0,60}"
        r"|an illegal memory access[^\n]{0,40}|unspecified launch failure)|hipErrorNoBinaryForGpu[^\n]{0,80}"
        r"|(?:ImportError|ModuleNotFoundError|RuntimeError|AssertionError)[^\n]{0,80}\baiter\b[^\n]{0,120}"
        r"|failed (?:jit build|build jit) \[module_\w+\])",
        kind="kernel",
        error=EngineCrashedError,
        sentence="a GPU kernel failed: {what}",
        hint="VLLM_ROCM_USE_AITER=0 does without AITER's kernels; a newer engine image may have others",
        source="hip/hip_runtime_api.h (hipGetErrorString); aiter/jit/core.py, aiter#257",
        serving=True,
    ),
    Signature(
        pattern=r"(?P<what>HSA_STATUS_ERROR_\w+[^\n]{0,120}|(?:HIP|CUDA) error: (?:no (?:ROCm|CUDA)-capable device"
        r"|device (?:not ready|lost|busy)|the device is unavailable)[^\n]{0,60}|hipErrorNoDevice\b|hipErrorDeinit\w+)",
        kind="device",
        error=EngineCrashedError,
        sentence="a GPU is lost: {what}",
        hint="look at the driver's log (dmesg) and at aim-engine doctor; a GPU may need a reset by its host",
        source="ROCR-Runtime, inc/hsa.h; hip/hip_runtime_api.h (hipGetErrorString); vllm#20007",
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
        source="torch/csrc/distributed/c10d/NCCLUtils.hpp, rccl/src/include/nccl.h; vllm#39774",
        serving=True,
    ),
    Signature(
        pattern=r"_multiprocessing\.SemLock\(\n(?:[^\n]*[\^~]\n)?[^\n]*Error: \[Errno \d+\] (?P<what>[^\n]+)"
        r"|\w*Error: \[Errno \d+\] (?P<old>[^\n:]+: '/?(?:psm_|sem\.mp-|dev/shm/)[^'\n]*')"
        r"|(?P<other>Insufficient space in /dev/shm[^\n.]{0,120})",
        kind="shared memory",
        error=CacheError,
        sentence="the engine cannot use /dev/shm: {what}{old}{other}",
        hint="start the container without --ipc none, and with --shm-size 8g or --ipc=host (in Kubernetes: an emptyDir "
        "of medium Memory at /dev/shm)",
        source="multiprocessing/synchronize.py, multiprocessing/shared_memory.py; vllm/distributed/",
    ),
    Signature(
        pattern=r"[Ff]ailed to infer device type|No (?:HIP|CUDA) GPUs are available",
        kind="no device",
        error=EngineRefusedError,
        sentence="the engine found no device it can run on",
        hint="pass the GPUs to the container: --device /dev/kfd --device /dev/dri",
        source="vllm/config/device.py; c10/cuda/CUDAFunctions.cpp, vllm#34573",
    ),
)
