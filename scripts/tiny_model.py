"""Make a tiny Qwen3 with random weights: a folder name comes in, a model folder that vLLM serves on a CPU goes out.

    python scripts/tiny_model.py DIR [--architecture qwen3]

Needs torch, safetensors and tokenizers, which vLLM brings. A complete folder is left as it is; a new one appears
under its name only when every file is in it, so nobody ever reads half a model.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

VERSION = 1  # raise it when the files below change: older folders are then made anew
SEED = 20250101
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCAB_SIZE = 384

# head_dim 32: vLLM's CPU attention kernel refuses 16, and only at the first request.
QWEN3: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 2048,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCAB_SIZE,
}
ARCHITECTURES = {"qwen3": QWEN3}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Only there so that the tokenizer learns some merges and the noise reads like letters.
TRAINING_TEXT = (
    "The quick brown fox jumps over the lazy dog while the engine reads the recipe and the plan.",
    "One request comes in, one answer goes out; the model is small and its weights are random.",
    "user system assistant: who are you, what is this, and where does the answer come from?",
)

README = """# tiny-random-{architecture}

A {architecture} model with **random weights**, made by `scripts/tiny_model.py` (version {version}, seed {seed}).
It was never trained: **its answers are noise**. It exists so that a real engine can be started, called and stopped
on a CPU within seconds. It never ends an answer by itself; limit `max_tokens`.
"""


class ForeignFolderError(Exception):
    """Something else is there under the folder's name."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tiny_model.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder to make")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="qwen3")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.expanduser().absolute()
    try:
        made = make(folder, options.architecture)
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed in {sys.executable}", "run scripts/setup cpu")
    except ForeignFolderError as error:
        return _fail(f"{error} is there already and was not made by this script", "name another folder, or remove it")
    except OSError as error:
        return _fail(f"{folder} cannot be written: {error.strerror or error}", "name a folder that you may write")
    print(f"{folder} {'made' if made else 'is there already'} (random weights: its answers are noise)")
    return 0


def make(folder: Path, architecture: str = "qwen3") -> bool:
    """Make the folder; False when it is there already."""
    readme = README.format(architecture=architecture, version=VERSION, seed=SEED)
    if _is_complete(folder, readme):
        return False
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        _write_files(new, ARCHITECTURES[architecture], readme)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        try:
            new.rename(folder)
        except OSError:
            if not _is_complete(folder, readme):  # complete: another run was faster, which is as good
                raise
    return True


def _is_complete(folder: Path, readme: str) -> bool:
    try:
        return (folder / "README.md").read_text(encoding="utf-8") == readme
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return False


def _refuse_foreign(folder: Path) -> None:
    """Only an empty folder, or one that an older version of this script made, may be replaced."""
    if not folder.exists():
        return
    readme = folder / "README.md"
    ours = readme.is_file() and "scripts/tiny_model.py" in readme.read_text(encoding="utf-8", errors="replace")
    if not folder.is_dir() or (any(folder.iterdir()) and not ours):
        raise ForeignFolderError(folder)


def _write_files(folder: Path, config: dict[str, Any], readme: str) -> None:
    printable = _write_tokenizer(folder)
    _write_weights(folder / "model.safetensors", config, printable)
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": config["bos_token_id"], "eos_token_id": [2, 0], "do_sample": False, "temperature": 0.0},
    )
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _write_tokenizer(folder: Path) -> list[int]:
    """Write a byte-level BPE tokenizer; return the ids whose text is plain printable ASCII."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": list(SPECIAL_TOKENS),
            "clean_up_tokenization_spaces": False,
            "model_max_length": QWEN3["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    )
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size())}
    return [token for token, text in texts.items() if text and text.isascii() and text.isprintable()]


def _write_weights(path: Path, config: dict[str, Any], printable: list[int]) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(SEED)
    tensors = {}
    for name, shape in _shapes(config).items():
        is_norm = len(shape) == 1
        tensor = torch.ones(shape) if is_norm else torch.randn(shape, generator=generator) * shape[-1] ** -0.5
        tensors[name] = tensor.to(torch.bfloat16)
    # Greedy decoding then never picks half a UTF-8 character or an end token: the noise can be printed.
    head = tensors["lm_head.weight"]
    keep = torch.zeros(head.shape[0], 1, dtype=head.dtype)
    keep[printable] = 1
    tensors["lm_head.weight"] = head * keep
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it 0600; a container's user must read it too


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a Qwen3 checkpoint, by the name Hugging Face gives it."""
    hidden, wide, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for index in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"lm_head.weight": (config["vocab_size"], hidden)}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _fail(message: str, hint: str) -> int:
    print(f"tiny_model: {message}; {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
