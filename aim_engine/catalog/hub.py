"""A checkpoint's own files in, a `ModelCard` out: config.json and the headers of its safetensors, never the weights.

Looks in a local folder, then in the Hugging Face cache, then asks the hub, unless offline. Knows no recipe.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aim_engine.catalog import model_files
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.model_shape import architecture, check_shape
from aim_engine.errors import HubUnreachableError, ModelAccessError

HUB = "the hub"  # the source of a card that was just made of its answers
_NETWORK_LIBRARIES = (
    "httpx",
    "httpx2",
    "httpcore",
    "requests",
    "urllib3",
)  # the hub's client lets their errors through
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "fp8": "fp8", "awq": "int4", "gptq": "int4", "mxfp4": "fp4"}


def card_from_folder(folder: Path, model_id: str) -> ModelCard:
    """The card of a model folder.

    Raises:
        ModelAccessError: no such folder, no or a damaged config.json, a truncated safetensors file, a file beside them
            that is none or cannot be read.
    """
    config = model_files.read_config(folder)
    model_files.check_small_files(folder)
    if not _quantization(config):
        config |= model_files.read_quantization(folder)
    headers = model_files.read_headers(folder)
    return _card(model_id, config, headers, source=str(folder), path=folder / "config.json")


def card_from_hub(model_id: str, *, token: str | None) -> ModelCard | None:
    """The card of a hub model, by small requests; None where the hub's client is not installed.

    Raises:
        ModelAccessError: absent, gated, or without config.json.
        HubUnreachableError: no answer, or too many requests.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors as hub_errors
    except ImportError:
        return None
    try:
        try:
            # this first: where nothing answers it fails at once, while a download is tried for half a minute
            files = list(huggingface_hub.get_safetensors_metadata(model_id, token=token).files_metadata.values())
        except (hub_errors.NotASafetensorsRepoError, hub_errors.SafetensorsParsingError):
            files = []
        # not into the cache: a snapshot of config.json alone would look like a model without weights
        with tempfile.TemporaryDirectory() as folder:
            path = Path(huggingface_hub.hf_hub_download(model_id, "config.json", token=token, cache_dir=folder))
            data = path.read_bytes()
    except hub_errors.GatedRepoError:
        raise ModelAccessError(
            f"{model_id} is gated", hint="accept its terms on its page, then set HF_TOKEN to a token of that account"
        ) from None
    except hub_errors.RepositoryNotFoundError:
        raise ModelAccessError(
            f"the hub has no model {model_id}, or it is private",
            hint="check the spelling; for a private model set HF_TOKEN",
        ) from None
    except hub_errors.LocalEntryNotFoundError:
        raise _unreachable(model_id) from None
    except hub_errors.EntryNotFoundError:
        raise ModelAccessError(
            f"{model_id} has no config.json", hint="it may be of a kind that cannot be served, or lie in a subfolder"
        ) from None
    except (hub_errors.HfHubHTTPError, OSError) as error:
        raise _unreachable(model_id, error) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _NETWORK_LIBRARIES:
            raise
        raise _unreachable(model_id, error) from None
    path = Path(model_id, "config.json")
    config = model_files.parse_config(data, path)
    shapes = [{name: {"dtype": t.dtype, "shape": t.shape} for name, t in file.tensors.items()} for file in files]
    return _card(model_id, config, shapes, source=HUB, path=path)


def _unreachable(model_id: str, error: Exception | None = None) -> HubUnreachableError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    why = " (too many requests)" if status == 429 else f" (HTTP {status})" if status else ""
    return HubUnreachableError(
        f"the hub did not answer for {model_id}{why}",
        hint="check the network or HF_ENDPOINT; or serve a model folder, or set AIM_CACHE_DIR to a cache that was "
        f"filled where there is a network: HF_HOME=FOLDER hf download {model_id}",
    )


def _card(
    model_id: str, config: dict[str, Any], headers: Iterable[Mapping[str, Any]], *, source: str, path: Path
) -> ModelCard:
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else config
    check_shape(text, path)
    tensors = [entry for header in headers for entry in header.values()]
    precision, stored = _precision(config, text), _stored_format(config)
    return ModelCard(
        model_id=model_id,
        name=model_id,
        family=_first_word(config.get("architectures")),
        precision=precision,
        architecture=architecture(text),
        weights_bytes=_weights(tensors, precision),
        weights_basis="exact",
        quantization=stored,
        source=source,
        doubts=_doubts(config, path),
    )


def _doubts(config: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """vLLM and transformers look a model up by its model_type; only a few are known without, or bring their code."""
    if config.get("model_type") or config.get("auto_map"):
        return ()
    return (f"{path} names no model_type: the engine may not know the model",)


def _first_word(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else ""
    return first if isinstance(first, str) else ""


def _quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that says how the weights are quantised, or nothing."""
    text = config.get("text_config")
    found = config.get("quantization_config") or (isinstance(text, dict) and text.get("quantization_config"))
    return found if isinstance(found, dict) else {}


def _precision(config: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    if _stored_format(config) == "nvfp4":
        return "fp4"
    if quantization := _quantization(config):
        return _PRECISIONS.get(str(quantization.get("quant_method")))
    return _PRECISIONS.get(str(text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype")))


def _stored_format(config: Mapping[str, Any]) -> str:
    """ "nvfp4" where any layer is stored so: ModelOpt says it in quant_algo, for all layers or for some; an older one
    calls the method modelopt_fp4; compressed-tensors says it in format.
    """
    left: list[Any] = [_quantization(config)]
    while left:
        for key, value in left.pop().items():
            if isinstance(value, dict):
                left.append(value)
            elif key in ("quant_method", "quant_algo", "format") and isinstance(value, str):
                word = value.lower()
                if "nvfp4" in word or word == "modelopt_fp4":
                    return "nvfp4"
    return ""


def _weights(tensors: list[Any], precision: str | None) -> dict[str, int]:
    """Bytes by the precision they are served in: as they are, or two bytes an element in a 16-bit precision."""
    try:
        elements = sum(_product(entry["shape"]) for entry in tensors)
        stored = sum(_product(entry["shape"]) * model_files.ELEMENT_BYTES.get(entry["dtype"], 1) for entry in tensors)
    except (KeyError, TypeError):
        return {}
    if not tensors:
        return {}
    if precision in (None, "bf16", "fp16"):
        return {"bf16": 2 * elements, "fp16": 2 * elements}
    return {str(precision): stored}


def _product(shape: Iterable[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
