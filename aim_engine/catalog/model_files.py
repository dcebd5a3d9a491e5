"""A model folder in, its `Checkpoint` out: its config.json and the headers of its safetensors, never the weights.

Whatever a folder holds (a pipe, a device, a file of lies), the answer is a value or one `ModelAccessError`.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from aim_engine.catalog.checkpoint import Checkpoint, Tensor, with_quantization
from aim_engine.catalog.checkpoint_kind import About, check_config, check_files, doubts_about
from aim_engine.catalog.safetensors_header import START_BYTES, DamagedHeaderError, header_bytes, tensors_of
from aim_engine.catalog.weight_files import CONSOLIDATED_INDEX, INDEX, WeightFiles, weight_files, weight_map
from aim_engine.errors import ModelAccessError

_MAX_JSON_BYTES = 50_000_000  # as the hub's reader has it
_SMALL_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "generation_config.json", "vocab.json",
                "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")  # fmt: skip
_POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in a large file's place
_Read = TypeVar("_Read")
_HINT = "give a folder with config.json, tokenizer and safetensors files"


def checkpoint_in(folder: Path, model_id: str, *, revision: str | None = None) -> Checkpoint:
    """The checkpoint that lies in a folder; `revision` is the commit, where it is a snapshot of the cache's.

    Raises:
        ModelAccessError: no such folder, no or a damaged config.json, a truncated safetensors file, a file beside them
            that is none or cannot be read, or a kind of checkpoint that cannot be served.
    """
    files = _listed(folder)
    about = _about(folder, files)
    check_files(about)
    config = read_config(folder)
    check_small_files(folder)
    config = with_quantization(config, _read_object(folder / "hf_quant_config.json"))
    check_config(config, about)
    _check_complete(folder, about.weights, files)
    tensors = _tensors(folder, about.weights)
    return Checkpoint(
        model_id=model_id,
        source=str(folder),
        revision=revision,
        kind=about.weights.kind,
        config=config,
        generation_config=_read_object(folder / "generation_config.json"),
        tensors=tensors,
        files=tuple(sorted(files.items())),
        weights=about.weights.names,
        doubts=tuple(doubts_about(config, about)),
    )


def _listed(folder: Path) -> dict[str, int]:
    """The folder's files with their bytes, and by name those of the folders in it, which no engine loads.

    A link to what is not there, a pipe and the like are listed: whoever reads them says what they are.
    """
    if folder.suffix == ".gguf" or os.path.isfile(folder):  # noqa: PTH113 - says no where Path.is_file raises
        kind = "is in GGUF, llama.cpp's form" if folder.suffix == ".gguf" else "is a file, not a model folder"
        raise ModelAccessError(f"{folder} {kind}, which the engine does not load", hint=_HINT)
    found: dict[str, int] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    found |= {f"{entry.name}/{name}": 0 for name in _names_in(entry.path)}
                else:
                    found[entry.name] = _bytes_of(entry)
    except FileNotFoundError:
        raise ModelAccessError(f"there is no folder {folder}", hint=_HINT) from None
    except OSError as error:
        raise _unreadable(folder, error, folder) from None
    return found


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a name is all that is wanted
    except OSError:
        return []


def _bytes_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to what is not there
        return 0


def _about(folder: Path, files: Mapping[str, int]) -> About:
    indexed = {name: _indexed(folder / name) for name in (INDEX, CONSOLIDATED_INDEX) if name in files}
    adapter = _read_object(folder / "adapter_config.json").get("base_model_name_or_path")
    return About(name=str(folder), files=files, weights=weight_files(files, indexed),
                 base=adapter if isinstance(adapter, str) else "")  # fmt: skip


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a file that need not be there.

    Raises:
        ModelAccessError: it is there and cannot be read, or is no JSON.
    """
    try:
        said = json.loads(_read(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    return said if isinstance(said, dict) else {}


def _check_complete(folder: Path, weights: WeightFiles, files: Mapping[str, int]) -> None:
    missing = sorted({*weights.names} - {*files})
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelAccessError(f"{folder} lacks {missing[0]}{more}, which {weights.index} names",
                               hint="download it again")  # fmt: skip


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
        config = json.loads(data.decode())  # not of bytes: engines read it as UTF-8 without a mark, and as nothing else
    except (ValueError, RecursionError) as error:
        why = "a number in it is too long" if "int_max_str_digits" in str(error) else error
        raise ModelAccessError(f"{path} is not JSON: {why}", hint="download the model again") from None
    if not isinstance(config, dict):
        raise ModelAccessError(f"{path} must hold a JSON object", hint="download the model again")
    named, kind = config.get("architectures"), config.get("model_type")
    if not (isinstance(kind, str) and kind) and not (isinstance(named, list) and any(map(_is_word, named))):
        raise ModelAccessError(f"{path} names neither architectures nor model_type: it is no model's", hint=_HINT)
    return config


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


def _indexed(path: Path) -> set[str]:
    """The files that an index names."""
    try:
        return set(weight_map(_read(path)).values())
    except OSError as error:
        raise _unreadable(path, error) from None
    except ValueError:
        raise _damaged(path) from None


def _read(path: Path) -> bytes:
    """A regular file's content: a pipe would be waited for, a device would never end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
    if found.st_size > _MAX_JSON_BYTES:
        raise ModelAccessError(f"{path} is larger than {_MAX_JSON_BYTES:,} bytes", hint="download the model again")
    return path.read_bytes()


def _tensors(folder: Path, weights: WeightFiles) -> dict[str, Tensor]:
    """All tensors of the files; none of PyTorch's older form, of whose files only the beginning is looked at."""
    paths = [folder / name for name in weights.names]
    if weights.kind != "safetensors":
        for path in paths:
            _read_weights(path, _check_pickle)
        return {}
    found = {name: tensor for path in paths for name, tensor in _read_weights(path, _header).items()}
    if not found:
        raise ModelAccessError(f"{folder} holds no tensor in its safetensors files", hint="download it again")
    return found


def _read_weights(path: Path, read: Callable[[BinaryIO, int], _Read]) -> _Read:
    """What `read` makes of a file of weights and its size."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ModelAccessError(f"{path} is not a regular file", hint=_HINT)
        with path.open("rb") as file:
            return read(file, found.st_size)
    except OSError as error:
        raise _unreadable(path, error) from None
    except DamagedHeaderError:
        raise _damaged(path) from None


def _header(file: BinaryIO, size: int) -> dict[str, Tensor]:
    length = header_bytes(file.read(START_BYTES), size)
    return tensors_of(file.read(length), size)


def _check_pickle(file: BinaryIO, size: int) -> None:
    if not size or file.read(len(_POINTER)) == _POINTER:
        raise DamagedHeaderError


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _unreadable(path: Path, error: OSError, folder: Path | None = None) -> ModelAccessError:
    hint = _HINT
    if isinstance(error, PermissionError):
        hint = f"make it readable for uid {os.getuid()}: chmod -R a+rX {folder or path.parent}"
    return ModelAccessError(f"{path} cannot be read: {error.strerror}", hint=hint)


def _damaged(path: Path) -> ModelAccessError:
    return ModelAccessError(f"{path} is damaged or was not downloaded whole", hint="delete it and download it again")
