"""A checkpoint's own files: what its config and tensor headers say, and every way they can be wrong."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.checkpoint import Tensor
from aim_engine.catalog.checkpoint_card import card_of
from aim_engine.catalog.hub_cache import cached_folder
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.model_files import checkpoint_in
from aim_engine.errors import ModelAccessError
from aim_engine.selection.weights import weights_of_one_gpu
from tests.building import TINY_CONFIG, examples, safetensors, write_model

TWO_TENSORS = {"a": ("BF16", (512, 64), 2), "b": ("BF16", (10,), 2)}


def card_from_folder(folder: Path, model_id: str) -> ModelCard:
    return card_of(checkpoint_in(folder, model_id))


def test_the_card_of_a_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", weights=safetensors(TWO_TENSORS))
    (folder / "more.safetensors").write_bytes(safetensors({"c": ("BF16", (100,), 2)}))
    card = card_from_folder(folder, "mine")
    shape = card.architecture
    assert (card.model_id, card.family, card.precision, card.weights_basis) == (
        "mine", "Qwen3ForCausalLM", "bf16", "exact")  # fmt: skip
    assert card.weights_bytes == {"bf16": 2 * (512 * 64 + 110), "fp16": 2 * (512 * 64 + 110)}
    assert shape is not None
    assert (shape.layers, shape.kv_heads, shape.head_dim, shape.max_context) == (2, 2, 16, 2048)


@pytest.mark.parametrize(
    ("config", "tensors", "precision", "weights"),
    [
        ({"torch_dtype": "float16"}, {"a": ("F16", (100,), 2)}, "fp16", {"bf16": 200, "fp16": 200}),
        ({"torch_dtype": None, "dtype": "bfloat16"}, {"a": ("BF16", (100,), 2)}, "bf16", {"bf16": 200, "fp16": 200}),
        # a checkpoint in 32 bits is served in 16
        ({"torch_dtype": "float32"}, {"a": ("F32", (100,), 4)}, "bf16", {"bf16": 200, "fp16": 200}),
        ({"quantization_config": {"quant_method": "fp8"}}, {"a": ("F8_E4M3", (100,), 1), "s": ("F32", (2,), 4)},
         "fp8", {"fp8": 108}),
        ({"quantization_config": {"quant_method": "awq"}}, {"q": ("I32", (100,), 4), "s": ("F16", (8,), 2)},
         "int4", {"int4": 416}),
        ({"quantization_config": {"quant_method": "mxfp4"}}, {"q": ("U8", (100,), 1)}, "fp4", {"fp4": 100}),
    ],
)  # fmt: skip
def test_precisions(
    tmp_path: Path, config: dict[str, Any], tensors: Any, precision: str | None, weights: dict[str, int]
) -> None:
    card = card_from_folder(write_model(tmp_path / "m", config, safetensors(tensors)), "m")
    assert (card.precision, card.weights_bytes) == (precision, weights)


NVFP4_CONFIGS: list[dict[str, Any]] = [
    {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    {"quant_method": "modelopt_fp4"},
    {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
     "quantized_layers": {"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}},
    {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"},
    {"quant_method": "compressed-tensors", "format": "mixed-precision",
     "config_groups": {"group_0": {"format": "nvfp4-pack-quantized"}}},
]  # fmt: skip


@pytest.mark.parametrize("said", NVFP4_CONFIGS)
@pytest.mark.parametrize("nested", [False, True])
def test_nvfp4_is_recognised_however_it_is_written(tmp_path: Path, said: dict[str, Any], nested: bool) -> None:
    config = {"quantization_config": said}
    folder = write_model(tmp_path / "m", {"text_config": {**TINY_CONFIG, **config}} if nested else config)
    card = card_from_folder(folder, "m")
    assert (card.quantization, card.precision) == ("nvfp4", "fp4")


@pytest.mark.parametrize(
    "said",
    [{"quant_method": "fp8"}, {"quant_method": "mxfp4"}, {"quant_method": "compressed-tensors", "format": "nv"}, {}, 3],
)
def test_other_formats_are_no_nvfp4(tmp_path: Path, said: Any) -> None:
    method = said.get("quant_method", "") if isinstance(said, dict) else ""
    assert card_from_folder(write_model(tmp_path / "m", {"quantization_config": said}), "m").quantization == method


def test_an_older_export_says_it_in_a_file_of_its_own(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    beside = folder / "hf_quant_config.json"
    beside.write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}))
    assert card_from_folder(folder, "m").quantization == "nvfp4"
    for odd in ("[]", "{}", '{"quantization": 7}'):
        beside.write_text(odd)
        assert card_from_folder(folder, "m").quantization == ""
    beside.write_text("{")
    with pytest.raises(ModelAccessError, match="hf_quant_config"):
        card_from_folder(folder, "m")


def test_the_text_tower_of_a_model_that_also_sees(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_model(folder)
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["SeesForCausalLM"], "vision_config": {"hidden_size": 9}, "torch_dtype": "float16",
                    "text_config": {k: v for k, v in TINY_CONFIG.items() if k != "torch_dtype"}})
    )  # fmt: skip
    card = card_from_folder(folder, "m")
    assert card.precision == "fp16"
    assert card.architecture is not None
    assert card.architecture.hidden_size == 64


def test_a_model_that_shares_one_latent_vector(tmp_path: Path) -> None:
    config = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "n_routed_experts": 256}
    shape = card_from_folder(write_model(tmp_path / "m", config), "m").architecture
    assert shape is not None
    assert (shape.kv_lora_rank, shape.qk_rope_head_dim, shape.experts) == (512, 64, 256)


@pytest.mark.parametrize(
    "config",
    [
        {"num_hidden_layers": None},
        {"num_key_value_heads": [2, 2], "num_attention_heads": [4, 4]},
        {"hidden_size": None},
        {"max_position_embeddings": 0},
    ],
)
def test_a_config_without_usable_numbers_says_nothing_of_memory(tmp_path: Path, config: dict[str, Any]) -> None:
    assert card_from_folder(write_model(tmp_path / "m", config), "m").architecture is None


def test_what_is_not_given_follows_from_what_is(tmp_path: Path) -> None:
    config = {"num_key_value_heads": None, "head_dim": None, "intermediate_size": None}
    shape = card_from_folder(write_model(tmp_path / "m", config), "m").architecture
    assert shape is not None
    assert (shape.kv_heads, shape.head_dim, shape.intermediate_size) == (4, 16, 256)


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        ({}, {"bf16": 1000, "fp16": 1000}),
        ({"torch_dtype": "float32"}, {"bf16": 500, "fp16": 500}),
        ({"quantization_config": {"quant_method": "gptq"}}, {"int4": 1000}),
    ],
)
def test_weights_in_an_older_form_are_as_large_as_their_files(
    tmp_path: Path, config: dict[str, Any], weights: dict[str, int]
) -> None:
    folder = write_model(tmp_path / "m", config)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bytes(1000))
    (folder / "training_args.bin").write_bytes(bytes(77))
    card = card_from_folder(folder, "m")
    assert (card.weights_bytes, card.weights_basis) == (weights, "computed")
    assert card.doubts == (f"{folder} has its weights as .bin: their size is that of the files",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "has no config.json"),
        (b"{", "config.json is not JSON"),
        (b"\xff\xfe", "config.json is not JSON"),
        (b"[" * 100_000, "config.json is not JSON"),
        (b"[1]", "config.json must hold a JSON object"),
        (b"", "config.json is not JSON"),
        (json.dumps(TINY_CONFIG).encode("utf-8-sig"), "config.json is not JSON"),
        (json.dumps(TINY_CONFIG).encode("utf-16"), "config.json is not JSON"),
        (b'{"model_type": "x", "hidden_size": ' + b"9" * 5000 + b"}", "config.json is not JSON: a number in it"),
    ],
)
def test_a_damaged_config(tmp_path: Path, config: bytes | None, message: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_bytes(config)
    with pytest.raises(ModelAccessError, match=message):
        card_from_folder(folder, "m")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelAccessError, match="there is no folder"):
        card_from_folder(tmp_path / "nowhere", "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelAccessError, match="file is a file, not a model folder"):
        card_from_folder(tmp_path / "file", "m")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelAccessError, match="holds no weights"):
        card_from_folder(folder, "m")


GOOD = safetensors(TWO_TENSORS)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"


def with_header(header: Any, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + payload


@pytest.mark.parametrize(
    "weights",
    [
        b"",
        b"\x01\x02",
        GOOD[:-1],
        GOOD[:40],
        GOOD + b"\0",
        struct.pack("<Q", 2**63) + GOOD[8:],
        struct.pack("<Q", len(GOOD)) + GOOD[8:],
        struct.pack("<Q", 0) + GOOD[8:],
        with_header(b"not json"),
        with_header(b"\xff" * 10),
        with_header(b"[" * 50_000),
        with_header([1]),
        with_header({"a": 1}),
        with_header({"a": {}}),
        with_header({"a": {"dtype": "F16", "shape": [1], "data_offsets": ["0", "2"]}}),
        with_header({"a": {"dtype": "F16", "shape": [1], "data_offsets": [0]}}),
        with_header({"a": {"dtype": "F16", "shape": [1], "data_offsets": None}}),
        POINTER,
    ],
    ids=lambda weights: f"{len(weights)}-bytes",
)
def test_damaged_weights(tmp_path: Path, weights: bytes) -> None:
    folder = write_model(tmp_path / "m", weights=weights)
    with pytest.raises(ModelAccessError, match=r"model.safetensors is damaged or was not downloaded whole"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize(
    "entry",
    [{"dtype": []}, {"shape": None}, {"shape": ["a"]}, {"shape": [[1]]}, {"shape": [-1]}, {"shape": [2]},
     {"data_offsets": [2, 0]}, {"data_offsets": [0, True]}, {"dtype": "F32"}],
)  # fmt: skip
def test_a_header_whose_shapes_and_places_do_not_agree_is_damaged(tmp_path: Path, entry: dict[str, Any]) -> None:
    tensor = {"dtype": "F16", "shape": [1], "data_offsets": [0, 2], **entry}
    with pytest.raises(ModelAccessError, match="is damaged"):
        card_from_folder(write_model(tmp_path / "m", weights=with_header({"a": tensor}, b"\0\0")), "m")


def test_a_type_of_data_that_is_not_known_is_not_checked(tmp_path: Path) -> None:
    tensor = {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}
    assert card_from_folder(write_model(tmp_path / "m", weights=with_header({"a": tensor}, b"\0\0")), "m")


@pytest.mark.parametrize("kind", ["", "pointer", "link", "pipe"])
def test_weights_in_an_older_form_must_be_there(tmp_path: Path, kind: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    weights = folder / "pytorch_model.bin"
    if kind == "link":
        weights.symlink_to("/nowhere")
    elif kind == "pipe":
        os.mkfifo(weights)
    else:
        weights.write_bytes(POINTER if kind else b"")
    with pytest.raises(ModelAccessError, match=r"pytorch_model.bin (is damaged|cannot be read|is not a regular file)"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize("index", [None, {}])
def test_a_checkpoint_without_a_single_tensor(tmp_path: Path, index: dict[str, str] | None) -> None:
    folder = write_model(tmp_path / "m", weights=with_header({"__metadata__": {}}) if index is None else None)
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    with pytest.raises(ModelAccessError, match="holds no tensor"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize(
    ("name", "shape"), [(f"model.layers.{'9' * 5000}.x.weight", [1]), ("model.embed_tokens.weight", [0, 64])]
)
def test_odd_tensors_do_no_harm(tmp_path: Path, name: str, shape: list[int]) -> None:
    end = 2 * math.prod(shape)
    weights = with_header({name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, end]}}, bytes(end))
    card = card_from_folder(write_model(tmp_path / "m", weights=weights), "m")
    assert card.architecture is not None
    assert weights_of_one_gpu(card.weight_parts, card.architecture, tied=False, width=1, depth=1) == end


def test_a_shard_that_the_index_names_and_is_not_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelAccessError, match="lacks model-00002-of-00002"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": []}', '{"weight_map": {"a": "../../etc/passwd"}}'])
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelAccessError, match="is damaged"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_not_waited_for_and_a_device_not_read(tmp_path: Path, name: str) -> None:
    for kind in ("pipe", "device"):
        folder = write_model(tmp_path / kind)
        (folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(folder / name)
        else:
            (folder / name).symlink_to("/dev/zero")
        with pytest.raises(ModelAccessError, match="is not a regular file"):
            card_from_folder(folder, "m")


@pytest.mark.parametrize(
    "config", [{}, {"architectures": None, "model_type": ""}, {"architectures": []}, {"architectures": [None]}]
)
def test_a_config_that_names_no_model(tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelAccessError, match="it is no model's"):
        card_from_folder(folder, "m")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, which does not divide num_attention_heads, 4"),
        ({"hidden_size": 10**400}, f"hidden_size is {str(10**400)[:40]}, and no model has more than"),
        ({"max_position_embeddings": 1e300}, "max_position_embeddings is 1e+300, and no model has more than"),
        ({"num_key_value_heads": 8}, "num_key_value_heads is 8, which does not divide num_attention_heads, 4"),
        ({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": None},
         "num_attention_heads is 3, which does not divide hidden_size, 64"),
        ({"num_attention_heads": 128, "num_key_value_heads": 2, "head_dim": None},
         "num_attention_heads is 128, which does not divide hidden_size, 64"),
        ({"hidden_size": -64}, "hidden_size is -64"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"n_embd": -1}, "n_embd is -1"),
        ({"head_dim": -16}, "head_dim is -16"),
        ({"max_position_embeddings": -1}, "max_position_embeddings is -1"),
        ({"hidden_size": "64"}, "hidden_size is '64'"),
        ({"vocab_size": True}, "vocab_size is True"),
        ({"text_config": {**TINY_CONFIG, "vocab_size": -5}}, "vocab_size is -5"),
    ],
)  # fmt: skip
def test_senseless_numbers_are_refused_by_name(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelAccessError) as caught:
        card_from_folder(write_model(tmp_path / "m", config), "m")
    assert caught.value.message.startswith(f"{tmp_path}/m/config.json: {said}")


@pytest.mark.parametrize(
    "config",
    [
        {"num_local_experts": 0, "kv_lora_rank": None},
        {"num_attention_heads": 3, "num_key_value_heads": 3},  # with a head_dim of its own
        {"num_key_value_heads": [2, 2]},
        {"intermediate_size": [1, 2]},
        {"model_type": None},
    ],
)
def test_numbers_that_some_models_have(tmp_path: Path, config: dict[str, Any]) -> None:
    assert card_from_folder(write_model(tmp_path / "m", config), "m")


def test_a_config_without_its_type_is_a_doubt(tmp_path: Path) -> None:
    """vLLM and transformers know some models by their architecture, or by code of their own; most not."""
    (doubt,) = card_from_folder(write_model(tmp_path / "a", {"model_type": None}), "m").doubts
    assert doubt == f"{tmp_path}/a/config.json names no model_type: the engine may not know the model"
    assert card_from_folder(write_model(tmp_path / "b"), "m").doubts == ()
    own_code = {"model_type": None, "auto_map": {"AutoConfig": "x.Y"}}
    assert card_from_folder(write_model(tmp_path / "c", own_code), "m").doubts == ()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "lost link"])
def test_what_lies_beside_the_config_must_be_files(tmp_path: Path, name: str, kind: str) -> None:
    path = write_model(tmp_path / "m") / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("../../blobs/gone")
    with pytest.raises(ModelAccessError, match=f"{name} (is not a regular file|is a link to what is not there)"):
        card_from_folder(tmp_path / "m", "m")


@pytest.mark.parametrize("architectures", [None, [], "Text", {"a": 1}, 3, [None], [["x"]]])
def test_odd_names_of_the_architecture_do_no_harm(tmp_path: Path, architectures: Any) -> None:
    assert card_from_folder(write_model(tmp_path / "m", {"architectures": architectures}), "m").family == ""


def cache(tmp_path: Path, revision: str = "abc") -> Path:
    home = tmp_path / "hub" / "models--org--name"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    write_model(home / "snapshots" / "abc")
    return tmp_path / "hub"


def test_the_newest_snapshot_of_a_cached_model(tmp_path: Path) -> None:
    hub = cache(tmp_path)
    assert cached_folder("org/name", hub) == hub / "models--org--name/snapshots/abc"
    assert cached_folder("org/other", hub) is None


@pytest.mark.parametrize("revision", ["", "def", "\n"])
def test_a_cache_without_that_snapshot(tmp_path: Path, revision: str) -> None:
    assert cached_folder("org/name", cache(tmp_path, revision)) is None


def test_a_snapshot_without_its_config_counts_as_absent(tmp_path: Path) -> None:
    hub = cache(tmp_path)
    (hub / "models--org--name/snapshots/abc/config.json").unlink()
    assert cached_folder("org/name", hub) is None


@pytest.mark.parametrize(
    ("index", "whole"),
    [
        ({"weight_map": {"a": "model.safetensors"}}, True),
        ({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}, False),
        ({"weight_map": []}, False),
        ([], False),
        ({"weight_map": {"a": {}}}, False),
    ],
)
def test_a_snapshot_of_which_files_are_missing_counts_as_absent(tmp_path: Path, index: Any, whole: bool) -> None:
    """A download that was broken off would otherwise look like a smaller model."""
    hub = cache(tmp_path)
    folder = hub / "models--org--name/snapshots/abc"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert (cached_folder("org/name", hub) is not None) is whole


def test_a_snapshot_of_a_config_alone_counts_as_absent(tmp_path: Path) -> None:
    hub = cache(tmp_path)
    (hub / "models--org--name/snapshots/abc/model.safetensors").unlink()
    assert cached_folder("org/name", hub) is None
    (hub / "models--org--name/snapshots/abc/model.safetensors").symlink_to("../../blobs/gone")
    assert cached_folder("org/name", hub) is None


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from([*TINY_CONFIG, "text_config", "quantization_config", "dtype"]),
        values | st.dictionaries(st.sampled_from(["quant_method", "hidden_size"]), values),
        max_size=5,
    )
)
def test_any_config_gives_a_card(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    folder = write_model(tmp_path_factory.getbasetemp() / "fuzz", config)
    try:
        shape, message = card_from_folder(folder, "m").architecture, ""
    except ModelAccessError as refused:
        shape, message = None, refused.message
    assert message == "" or message.startswith(f"{folder}/config.json")
    assert shape is None or shape.head_dim > 0


def test_a_checkpoint_s_own_words(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", weights=safetensors(TWO_TENSORS))
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')
    found = checkpoint_in(folder, "mine")
    assert (found.model_id, found.source, found.revision, found.kind) == ("mine", str(folder), None, "safetensors")
    assert found.tensors["a"] == Tensor(dtype="BF16", shape=(512, 64), bytes=2 * 512 * 64)
    assert found.generation_config == {"temperature": 0.6}
    assert dict(found.files)["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    assert [name for name, _ in found.files] == ["config.json", "generation_config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("last", "doubt"),
    [
        ("model.layers.1.mlp.up_proj.weight", False),
        ("model.layers.0.mlp.up_proj.weight", True),
        ("model.layers.2.mlp.up_proj.weight", False),  # one for drafting
        ("mtp.layers.5.mlp.up_proj.weight", False),
        ("visual.blocks.20.mlp.up_proj.weight", False),
        ("model.embed_tokens.weight", False),
    ],
)
def test_files_with_fewer_layers_than_the_config_says(tmp_path: Path, last: str, doubt: bool) -> None:
    tensors = safetensors({last: ("BF16", (8, 8), 2)})
    card = card_from_folder(write_model(tmp_path / "m", {}, tensors), "m")
    expected = ("the files of m hold 1 layers, and its config.json says 2",)
    assert card.doubts == (expected if doubt else ())
