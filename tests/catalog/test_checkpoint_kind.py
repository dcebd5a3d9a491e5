"""Which files are a checkpoint's weights, and what a checkpoint is when it is none that can be served."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.checkpoint_kind import About, check_config, doubts_about
from aim_engine.catalog.model_files import checkpoint_in
from aim_engine.catalog.weight_files import CONSOLIDATED_INDEX, INDEX, WeightFiles, weight_files, weight_map
from aim_engine.errors import ModelAccessError
from tests.building import TINY_CONFIG, safetensors, write_model

SHARDS = ("model-1.safetensors", "model-2.safetensors")


@pytest.mark.parametrize(
    ("names", "indexed", "kind", "loaded"),
    [
        (["model.safetensors"], {}, "safetensors", ["model.safetensors"]),
        (["a.safetensors", "b.safetensors", "x.bin"], {}, "safetensors", ["a.safetensors", "b.safetensors"]),
        ([*SHARDS, "more.safetensors"], {INDEX: SHARDS}, "safetensors", [*SHARDS]),
        # Mistral's: both forms, and each alone
        ([*SHARDS, "consolidated.safetensors"], {INDEX: SHARDS}, "safetensors", [*SHARDS]),
        (["model.safetensors", "consolidated.safetensors"], {}, "safetensors", ["model.safetensors"]),
        (["consolidated.safetensors"], {}, "safetensors", ["consolidated.safetensors"]),
        (["consolidated-1.safetensors", "consolidated-2.safetensors"],
         {CONSOLIDATED_INDEX: ["consolidated-1.safetensors"]}, "safetensors", ["consolidated-1.safetensors"]),
        (["original/consolidated.00.pth", "original/x.safetensors", *SHARDS], {}, "safetensors", [*SHARDS]),
        (["pytorch_model.bin", "training_args.bin", "optimizer.bin", "x.pt"], {}, "bin", ["pytorch_model.bin"]),
        (["model.pt", "optimizer.pt", "scheduler.pt"], {}, "pt", ["model.pt"]),
        (["original/consolidated.00.pth", "training_args.bin"], {}, "", []),
    ],
)  # fmt: skip
def test_which_files_an_engine_loads(names: list[str], indexed: dict[str, Any], kind: str, loaded: list[str]) -> None:
    found = weight_files(names, indexed)
    assert (found.kind, list(found.names)) == (kind, loaded)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}',
                                  '{"weight_map": {"a": "x/y.safetensors"}}', "[" * 50_000])  # fmt: skip
def test_what_is_no_index(text: str) -> None:
    with pytest.raises(ValueError, match="index"):
        weight_map(text.encode())


def refused(folder: Path) -> ModelAccessError:
    with pytest.raises(ModelAccessError) as caught:
        checkpoint_in(folder, "mine")
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["m.Q4_K_M.gguf", "config.json"], "has its weights in GGUF, llama.cpp's form, which the engine does not load"),
        (["model.onnx", "config.json"], "has its weights in ONNX"),
        (["onnx/model.onnx", "config.json"], "has its weights in ONNX"),
        (["consolidated.00.pth", "params.json"], "has its weights as .pth, the form of Meta's own code"),
        (["tf_model.h5", "config.json"], "has its weights in TensorFlow's form"),
        (["flax_model.msgpack", "config.json"], "has its weights in Flax's form"),
        (["original/consolidated.00.pth", "config.json"], "has weights in original/ only, where the engine"),
        (["tokenizer.json", "tokenizer_config.json"], "holds a tokenizer and no model"),
        (["README.md"], "has no config.json and no weights"),
        (["config.json"], "holds no weights"),
        (["model_index.json", "unet/diffusion_pytorch_model.safetensors"],
         "makes images or sound (a diffusers pipeline), and AIM Engine serves models that write text"),
        (["modules.json", "model.safetensors", "config.json"], "makes embeddings (sentence-transformers)"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_called_by_its_name(tmp_path: Path, files: list[str], said: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert said in refused(tmp_path).message


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "is in GGUF, llama.cpp's form" in refused(tmp_path / "m.gguf").message


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-8B"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors({"a": ("BF16", (1,), 2)}))
    error = refused(tmp_path)
    assert error.message == f"{tmp_path} is an adapter (LoRA) for Qwen/Qwen3-8B, not a model"
    assert error.hint.startswith('serve Qwen/Qwen3-8B with AIM_ENGINE_ARGS={"enable-lora": true')
    json.loads(error.hint.partition("=")[2])
    write_model(tmp_path)  # a merged one may keep the adapter's config
    assert checkpoint_in(tmp_path, "mine").tensors


@pytest.mark.parametrize(
    ("quantization", "said"),
    [
        ({"quant_method": "exl2", "bits": 4.0}, "EXL2"),
        ({"quant_method": "hqq"}, "HQQ"),
        ({"quant_method": "awq", "version": "GEMV"}, "AWQ in GEMV packing"),
    ],
)
def test_forms_that_no_engine_here_reads(tmp_path: Path, quantization: dict[str, Any], said: str) -> None:
    error = refused(write_model(tmp_path, {"quantization_config": quantization}))
    assert f"is stored as {said}" in error.message


@pytest.mark.parametrize("copy", [True, False])
def test_apple_s_form(tmp_path: Path, copy: bool) -> None:
    said = {"group_size": 64, "bits": 4}
    config = {"quantization": said} | ({"quantization_config": said} if copy else {})
    assert "is stored as MLX" in refused(write_model(tmp_path, config)).message


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "awq", "version": "gemm"},
        {"quant_method": "gptq"},
        {"quant_method": "fp8"},
        {"bits": 4},
        3,
        None,
    ],
)
def test_forms_that_are_read(tmp_path: Path, quantization: Any) -> None:
    assert checkpoint_in(write_model(tmp_path, {"quantization_config": quantization}), "mine")


ABOUT = About(name="it", files=(), weights=WeightFiles(kind="safetensors"))


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("BertForSequenceClassification", "sorts texts into classes"),
        ("Qwen2ForRewardModel", "scores texts"),
        ("XLMRobertaModel", "makes embeddings"),
        ("WhisperForConditionalGeneration", "understands speech"),
        ("VitsModel", "makes sound"),
        ("ViTForImageClassification", "looks at images"),
        ("SiglipModel", "looks at images"),
        ("TimesFmModelForPrediction", "predicts time series"),
    ],
)
def test_models_that_write_no_text(architecture: str, said: str) -> None:
    with pytest.raises(ModelAccessError, match="AIM Engine serves models that write text") as caught:
        check_config({**TINY_CONFIG, "architectures": [architecture]}, ABOUT)
    assert said in caught.value.message or said == "looks at images"


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"architectures": ["T5ForConditionalGeneration"]}, "T5ForConditionalGeneration"),
        (
            {"architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True},
            "BartForConditionalGeneration",
        ),
        ({"architectures": ["MarianMTModel"]}, "MarianMTModel"),
        ({"architectures": ["NewSeq2SeqModel"], "is_encoder_decoder": True}, "NewSeq2SeqModel"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder in its config.json"),
    ],
)
def test_encoder_decoders_are_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelAccessError, match="is an encoder-decoder model") as caught:
        check_config(config, ABOUT)
    assert f"({named})" in caught.value.message
    assert "decoder-only" in caught.value.hint


def test_what_only_says_that_it_is_no_encoder_decoder_passes() -> None:
    check_config({**TINY_CONFIG, "is_encoder_decoder": False}, ABOUT)
    check_config({"architectures": ["NemotronParseForConditionalGeneration"], "is_encoder_decoder": True}, ABOUT)


def test_against_vllm_s_own_registry() -> None:
    """Whatever vLLM lists as writing text passes, and whatever it lists under another heading only is refused."""
    package = importlib.util.find_spec("vllm")
    if package is None or package.origin is None:
        pytest.skip("needs vLLM")
    source = Path(package.origin).parent / "model_executor/models/registry.py"
    tables = {
        node.targets[0].id: [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and isinstance(node.targets[0], ast.Name)
    }

    def passes(architecture: Any) -> bool:
        try:
            check_config({"architectures": [architecture]}, ABOUT)
        except ModelAccessError:
            return False
        return True

    writes = {*tables["_TEXT_GENERATION_MODELS"], *tables["_MULTIMODAL_MODELS"]}
    assert len(writes) > 100
    assert {name for name in writes if not passes(name)} == {"WhisperForConditionalGeneration"}
    others = ("_EMBEDDING_MODELS", "_LATE_INTERACTION_MODELS", "_REWARD_MODELS", "_TOKEN_CLASSIFICATION_MODELS",
              "_SEQUENCE_CLASSIFICATION_MODELS")  # fmt: skip
    silent = {name for table in others for name in tables.get(table, ())} - writes
    assert len(silent) > 40
    assert {name for name in silent if passes(name)} == set()


def test_doubts() -> None:
    assert list(doubts_about({}, ABOUT)) == []
    older = About(name="it", files=(), weights=WeightFiles(kind="bin"), task="fill-mask")
    assert [text.partition(" it ")[0] for text in doubts_about({}, older)][1] == "the hub calls"
