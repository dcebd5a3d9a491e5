"""A model folder's files in, checked: its config.json and the headers of its safetensors, never the weights.

Whatever a folder holds (a pipe, a device, a file of lies), the answer is a value or one `ModelAccessError`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import struct
from pathlib import Path
from typing import Any

from aim_engine.errors import ModelAccessError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit (safetensors documentation)
_MAX_JSON_BYTES = 50_000_000  # the index of a model of 200,000 tensors has 20 MB
_INDEX = "model.safetensors.index.json"
# The format's data types (safetensors documentation); those of less than a byte are left out, and not checked.
ELEMENT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I64": 8, "I32": 4,
                 "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8}  # fmt: skip
_SMALL_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json", "vocab.json",
                "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
_HINT = "give a folder with config.json, tokenizer and safetensors files"


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json.

    Raises:
        ModelAccessError: no such folder or file, unreadable, too large, not a JSON object, or not a model's.
    """
    path = folder / "config.json"
    try:
        return parse_config(_read(path), path)
    except FileNotFoundError:
        what = f"{folder} has no config.json" if folder.is_dir() else f"there is no folder {folder}"
        raise ModelAccessError(what, hint=_HINT) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def parse_config(data: bytes, path: Path) -> dict[str, Any]:
    """A config.json's content.

    Raises:
        ModelAccessError: it is not a JSON object, or says nothing of a model.
    """
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelAccessError(f"{path} is not JSON: {error}", hint="download the model again") from None
    if not isinstance(config, dict):
        raise ModelAccessError(f"{path} must hold a JSON object", hint="download the model again")
    named, kind = config.get("architectures"), config.get("model_type")
    if not (isinstance(kind, str) and kind) and not (isinstance(named, list) and any(map(_is_word, named))):
        raise ModelAccessError(f"{path} names neither architectures nor model_type: it is no model's", hint=_HINT)
    return config


def read_quantization(folder: Path) -> dict[str, Any]:
    """What hf_quant_config.json says (ModelOpt's older exports have it there), as config.json would; else nothing."""
    path = folder / "hf_quant_config.json"
    try:
        said = json.loads(_read(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    return {"quantization_config": said["quantization"]} if isinstance(said, dict) and "quantization" in said else {}


def read_headers(folder: Path) -> list[dict[str, Any]]:
    """The headers of all safetensors files: for each file `{name: {dtype, shape, data_offsets}}`; none where the
    weights are of an older kind.

    Raises:
        ModelAccessError: no weights, a file the index names is missing, a file damaged or not downloaded whole.
    """
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - Path.glob finds nothing where it may not look
    except OSError as error:
        raise _unreadable(folder, error, folder) from None
    present = [folder / name for name in names if name.endswith(".safetensors")]
    missing = sorted(_indexed(folder) - {path.name for path in present})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelAccessError(f"{folder} lacks {missing[0]}{more}, which {_INDEX} names", hint="download it again")
    if not present and not any(name.endswith((".bin", ".pt")) for name in names):
        raise ModelAccessError(f"{folder} holds no weights", hint=_HINT)
    return [_header(path) for path in present]


def check_small_files(folder: Path) -> None:
    """What an engine reads besides config and weights, where it is there, is a file that can be read.

    Raises:
        ModelAccessError: it is a pipe, a folder, a link to what is not there, or another's.
    """
    for name in _SMALL_FILES:
        path = folder / name
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if path.is_symlink():
                raise ModelAccessError(f"{path} is a link to what is not there", hint="download it again") from None
            continue
        except OSError as error:
            raise _unreadable(path, error) from None
        if not stat.S_ISREG(mode):
            raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
        if not os.access(path, os.R_OK):
            raise _unreadable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _indexed(folder: Path) -> set[str]:
    path = folder / _INDEX
    try:
        files = set(json.loads(_read(path))["weight_map"].values())
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path) from None
    if not all(isinstance(name, str) and name == Path(name).name for name in files):
        raise _damaged(path)
    return files


def _read(path: Path) -> bytes:
    """A regular file's content: a pipe would be waited for, a device would never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
    if found.st_size > _MAX_JSON_BYTES:
        raise ModelAccessError(f"{path} is larger than {_MAX_JSON_BYTES:,} bytes", hint="download the model again")
    return path.read_bytes()


def _header(path: Path) -> dict[str, Any]:
    """The tensors of one file, checked against each other and the file's size."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, max(0, found.st_size - 8)):
                raise _damaged(path)
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [_end(entry) for entry in tensors.values()]
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        raise _damaged(path) from None
    if 8 + length + max(ends, default=0) != found.st_size:
        raise _damaged(path)
    return tensors


def _end(entry: dict[str, Any]) -> int:
    """Where a tensor's bytes end. Raises ValueError or TypeError where its size and its place do not agree."""
    begin, end = entry["data_offsets"]
    for number in (begin, end, *entry["shape"]):
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError("a size or a place is no whole number")
    elements = math.prod(entry["shape"])
    width = ELEMENT_BYTES.get(entry["dtype"])
    if end < begin or (width is not None and end - begin != elements * width):
        raise ValueError("a tensor's size and its place do not agree")
    return int(end)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _unreadable(path: Path, error: OSError, folder: Path | None = None) -> ModelAccessError:
    hint = _HINT
    if isinstance(error, PermissionError):
        hint = f"make it readable for uid {os.getuid()}: chmod -R a+rX {folder or path.parent}"
    return ModelAccessError(f"{path} cannot be read: {error.strerror}", hint=hint)


def _damaged(path: Path) -> ModelAccessError:
    return ModelAccessError(f"{path} is damaged or was not downloaded whole", hint="delete it and download it again")
