"""A hub model's id in, its `Checkpoint` out: config.json and the headers of its safetensors, never the weights.

Asks the hub by small requests, through its own client. Knows no recipe and no cache.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from aim_engine.catalog import model_files
from aim_engine.catalog.checkpoint import HUB, Checkpoint, Tensor
from aim_engine.catalog.safetensors_header import ELEMENT_BYTES
from aim_engine.errors import HubUnreachableError, ModelAccessError

_NETWORK_LIBRARIES = (
    "httpx",
    "httpx2",
    "httpcore",
    "requests",
    "urllib3",
)  # the hub's client lets their errors through


def checkpoint_at_hub(model_id: str, *, token: str | None) -> Checkpoint | None:
    """The checkpoint of a hub model, by small requests; None where the hub's client is not installed.

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
    config = model_files.parse_config(data, Path(model_id, "config.json"))
    tensors = {name: _tensor(t.dtype, t.shape) for file in files for name, t in file.tensors.items()}
    return Checkpoint(
        model_id=model_id, source=HUB, kind="safetensors" if tensors else "bin", config=config, tensors=tensors
    )


def _tensor(dtype: str, shape: list[int]) -> Tensor:
    return Tensor(dtype=dtype, shape=tuple(shape), bytes=math.prod(shape) * ELEMENT_BYTES.get(dtype, 1))


def _unreachable(model_id: str, error: Exception | None = None) -> HubUnreachableError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    why = " (too many requests)" if status == 429 else f" (HTTP {status})" if status else ""
    return HubUnreachableError(
        f"the hub did not answer for {model_id}{why}",
        hint="check the network or HF_ENDPOINT; or serve a model folder, or set AIM_CACHE_DIR to a cache that was "
        f"filled where there is a network: HF_HOME=FOLDER hf download {model_id}",
    )
