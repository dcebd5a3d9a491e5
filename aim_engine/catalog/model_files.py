"""A model folder in, its `Checkpoint` out: its config.json and the headers of its safetensors, never the weights.

Whatever a folder holds (a pipe, a device, a file of lies), the answer is a value or one `ModelAccessError`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from aim_engine.catalog.checkpoint import Checkpoint, Tensor, quantization_of
from aim_engine.catalog.safetensors_header import START_BYTES, DamagedHeaderError, header_bytes, tensors_of
from aim_engine.errors import ModelAccessError

_MAX_JSON_BYTES = 50_000_000  # the index of a model of 200,000 tensors has 20 MB
_INDEX = "model.safetensors.index.json"
_SMALL_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json", "vocab.json",
                "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
_HINT = "give a folder with config.json, tokenizer and safetensors files"


def checkpoint_in(folder: Path, model_id: str) -> Checkpoint:
    """The checkpoint that lies in a folder.

    Raises:
        ModelAccessError: no such folder, no or a damaged config.json, a truncated safetensors file, a file beside them
            that is none or cannot be read.
    """
    config = read_config(folder)
    check_small_files(folder)
    if not quantization_of(config):
        config |= read_quantization(folder)
    tensors = read_headers(folder)
    return Checkpoint(
        model_id=model_id,
        source=str(folder),
        kind="safetensors" if tensors else "bin",
        config=config,
        generation_config=_read_generation(folder),
        tensors=tensors,
        files=_sizes(folder),
    )


def _read_generation(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    try:
        said = json.loads(_read(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    return said if isinstance(said, dict) else {}


def _sizes(folder: Path) -> tuple[tuple[str, int], ...]:
    """The folder's own files, by name; what lies below is no part of what an engine loads."""
    with os.scandir(folder) as entries:
        return tuple(sorted((one.name, one.stat().st_size) for one in entries if one.is_file()))


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


def read_headers(folder: Path) -> dict[str, Tensor]:
    """The tensors of all safetensors files, from their headers; none where the weights are of an older kind.

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
    return {name: tensor for path in present for name, tensor in _header(path).items()}


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


def _header(path: Path) -> dict[str, Tensor]:
    """The tensors of one file."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
        with path.open("rb") as file:
            length = header_bytes(file.read(START_BYTES), found.st_size)
            return tensors_of(file.read(length), found.st_size)
    except OSError as error:
        raise _unreadable(path, error) from None
    except DamagedHeaderError:
        raise _damaged(path) from None


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _unreadable(path: Path, error: OSError, folder: Path | None = None) -> ModelAccessError:
    hint = _HINT
    if isinstance(error, PermissionError):
        hint = f"make it readable for uid {os.getuid()}: chmod -R a+rX {folder or path.parent}"
    return ModelAccessError(f"{path} cannot be read: {error.strerror}", hint=hint)


def _damaged(path: Path) -> ModelAccessError:
    return ModelAccessError(f"{path} is damaged or was not downloaded whole", hint="delete it and download it again")
