"""Ten models as they would be asked for: the words of `render kubernetes` for each golden file."""

from __future__ import annotations

_IMAGE = ("--image", "registry.example.com/aim-engine-unified:1.0")
_GPU = ("--render-group", "109", *_IMAGE)

EXAMPLES: dict[str, tuple[str, ...]] = {
    "qwen3-32b": ("Qwen/Qwen3-32B", "--hardware", "MI300X:8", *_GPU),
    "qwen3-8b-surge": ("Qwen/Qwen3-8B", "--hardware", "MI300X:8", "--gpus", "1", "--namespace", "models", *_GPU),
    "llama-3.3-70b-replicas": ("meta-llama/Llama-3.3-70B-Instruct", "--hardware", "MI325X:8", "--gpus", "4",
                               "--replicas", "2", "--storage-class", "shared", *_GPU),
    "llama-3.1-8b-local-caches": ("meta-llama/Llama-3.1-8B-Instruct", "--hardware", "MI300X:8", "--gpus", "1",
                                  "--replicas", "4", "--local-cache", "--storage-class", "local-nvme", *_GPU),
    "deepseek-r1": ("deepseek-ai/DeepSeek-R1", "--hardware", "MI300X:8", "--spare-gpus", "8", *_GPU),
    "gpt-oss-120b": ("openai/gpt-oss-120b", "--hardware", "MI355X:8", "--gpus", "2", "--name", "gpt-oss", *_GPU),
    "mixtral-8x7b-throughput": ("mistralai/Mixtral-8x7B-Instruct-v0.1", "--hardware", "MI300X:8", "--metric",
                                "throughput", *_GPU),
    "qwen3-235b-offline": ("Qwen/Qwen3-235B-A22B", "--hardware", "MI300X:8", "--precision", "fp8", "--offline",
                           "--cache-claim", "weights", *_GPU),
    "qwen2.5-7b-mi250x": ("Qwen/Qwen2.5-7B-Instruct", "--hardware", "MI250X:2", "--gpus", "1", "--tls-secret",
                          "certificate", *_GPU),
    "small-on-cpu": ("Qwen/Qwen3-0.6B", "--hardware", "cpu", *_IMAGE),
}  # fmt: skip
