"""A hub model's id in, its `Checkpoint` out: what its small files say and the headers of its safetensors, no weights.

Asks the hub by small requests, many at once. Knows no recipe and no cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aim_engine.catalog.checkpoint import HUB, Checkpoint, Tensor, with_quantization
from aim_engine.catalog.checkpoint_kind import About, check_config, check_files, doubts_about
from aim_engine.catalog.hub_client import HubClient, Want, endpoint_of, quoted, token_of
from aim_engine.catalog.hub_failures import Asked, no_hub, other_kind, silent
from aim_engine.catalog.in_parallel import Item, Result, SilenceError, in_parallel
from aim_engine.catalog.model_files import parse_config
from aim_engine.catalog.safetensors_header import START_BYTES, DamagedHeaderError, header_bytes, tensors_of
from aim_engine.catalog.weight_files import CONSOLIDATED_INDEX, INDEX, WeightFiles, weight_files, weight_map
from aim_engine.errors import AimError, HubUnreachableError, ModelAccessError

_SMALL_FILES = ("config.json", "generation_config.json", "hf_quant_config.json", "adapter_config.json", INDEX,
                CONSOLIDATED_INDEX)  # fmt: skip
_FIRST_BYTES = 100_000  # holds the header of most files that no index tells of (huggingface_hub measured 97 %)
_BYTES_A_TENSOR = 120  # of a header, beside the tensor's name
Told = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Nobody is told how far it has come."""


@dataclass(frozen=True, kw_only=True)
class _Info:
    """What the hub says of a model: the commit that a revision stands for, and its files."""

    commit: str | None
    files: tuple[tuple[str, int], ...]
    task: str
    base: str


def checkpoint_at_hub(
    model_id: str, *, token: str | None, environment: Mapping[str, str], revision: str = "main", seconds: float = 10.0,
    told: Told = _nobody,
) -> Checkpoint | None:  # fmt: skip
    """The checkpoint of a hub model, by small requests; None where the hub's client is not installed. `told` gets how
    many of its files have been read of how many.

    Raises:
        ModelAccessError: absent, gated, damaged, or of a kind that cannot be served.
        HubUnreachableError: no answer, none within so many seconds of silence, or too many requests.
    """
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        return None
    asked = Asked(model_id=model_id, revision=revision, endpoint=endpoint_of(environment))
    reader = _Reader(asked, seconds, told)
    try:
        reader.connect(token, environment)
        return reader.checkpoint()
    except (ModelAccessError, HubUnreachableError) as error:
        if not os.path.isdir(model_id):  # noqa: PTH112 - no error for a name too long
            raise
        raise type(error)(error.message, hint=f"{error.hint}; or ./{model_id} for the folder here") from None


class _Reader:
    """Reads one model at one revision."""

    def __init__(self, asked: Asked, seconds: float, told: Told) -> None:
        self._asked, self._seconds, self._told = asked, seconds, told
        self._model_id, self._revision = asked.model_id, asked.revision
        self._client: HubClient

    def connect(self, token: str | None, environment: Mapping[str, str]) -> None:
        """In a thread like the rest, for making a token anew asks the hub."""

        def open_client(_: None, heard: Callable[[], None]) -> HubClient:
            sent = token_of(token, environment)
            return HubClient(replace(self._asked, token_from=sent.origin), sent, self._seconds)

        [self._client] = self._each(open_client, [None])
        self._asked = self._client.asked

    def checkpoint(self) -> Checkpoint:
        [info] = self._each(lambda _, heard: self._info(heard), [None])
        self._revision = info.commit or self._revision
        names = [name for name, _ in info.files]
        small = self._small([name for name in _SMALL_FILES if name in names])
        maps = {name: self._map(small[name], name) for name in (INDEX, CONSOLIDATED_INDEX) if name in small}
        weights = weight_files(names, {name: set(files.values()) for name, files in maps.items()})
        about = About(name=self._model_id, files=names, weights=weights, task=info.task,
                      base=_base(small.get("adapter_config.json")) or info.base)  # fmt: skip
        check_files(about)
        config = self._config(small)
        check_config(config, about)
        return Checkpoint(
            model_id=self._model_id,
            source=HUB,
            revision=info.commit,
            kind=weights.kind,
            config=config,
            generation_config=_object(small.get("generation_config.json")),
            tensors=self._tensors(weights, maps.get(weights.index, {}), set(names)),
            files=info.files,
            weights=weights.names,
            doubts=tuple(doubts_about(config, about)),
        )

    def _each(self, work: Callable[[Item, Callable[[], None]], Result], items: Sequence[Item]) -> list[Result]:
        try:
            return in_parallel(work, items, seconds=self._seconds, told=self._told)
        except SilenceError:
            raise silent(self._asked, self._seconds) from None

    def _info(self, heard: Callable[[], None]) -> _Info:
        path = f"/api/models/{self._model_id}/revision/{quoted(self._revision)}?blobs=true"
        try:
            answer = self._client.get(path, Want(what=""), heard)
        except ModelAccessError:
            self._raise_if_other_kind(heard)
            raise
        said = _object(answer.body)
        if not isinstance(said.get("siblings"), list):
            raise no_hub(self._asked, "no description of a model")
        return _info_of(said)

    def _raise_if_other_kind(self, heard: Callable[[], None]) -> None:
        """Data sets and spaces have ids of the same form."""
        for kind, word in (("datasets", "data set"), ("spaces", "space")):
            try:
                self._client.get(f"/api/{kind}/{self._model_id}", Want(what=""), heard)
            except AimError:
                continue
            raise other_kind(self._asked, word)

    def _path(self, name: str) -> str:
        return f"/{self._model_id}/resolve/{quoted(self._revision)}/{quote(name)}"

    def _small(self, names: list[str]) -> dict[str, bytes]:
        def read(name: str, heard: Callable[[], None]) -> tuple[str, bytes]:
            return name, self._client.get(self._path(name), Want(what=name), heard).body

        return dict(self._each(read, names))

    def _map(self, index: bytes, name: str) -> dict[str, str]:
        try:
            return weight_map(index)
        except ValueError:
            raise self._damaged(name) from None

    def _config(self, small: Mapping[str, bytes]) -> dict[str, Any]:
        if "config.json" not in small:
            raise ModelAccessError(
                f"{self._model_id} has no config.json",
                hint="it may be of a kind that cannot be served, or lie in a subfolder",
            )
        config = parse_config(small["config.json"], Path(self._model_id, "config.json"))
        return with_quantization(config, _object(small.get("hf_quant_config.json")))

    def _tensors(self, weights: WeightFiles, files: Mapping[str, str], present: set[str]) -> dict[str, Tensor]:
        if weights.kind != "safetensors":
            return {}
        missing = sorted({*weights.names} - present)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelAccessError(f"{self._model_id} lacks {missing[0]}{more}, which {weights.index} names",
                                   hint="its owner has to mend it; or name another AIM_REVISION")  # fmt: skip
        guesses = dict.fromkeys(weights.names, START_BYTES if files else _FIRST_BYTES)
        for tensor, file in files.items():
            guesses[file] += len(tensor.encode()) + _BYTES_A_TENSOR

        def read(name: str, heard: Callable[[], None]) -> dict[str, Tensor]:
            return self._header(name, guesses[name], heard)

        found = self._each(read, list(weights.names))
        return {name: tensor for header in found for name, tensor in header.items()}

    def _header(self, name: str, guess: int, heard: Callable[[], None]) -> dict[str, Tensor]:
        """The tensors of one file: in one request where the guess of the header's length was large enough."""
        answer = self._client.get(self._path(name), Want(what=name, end=guess), heard)
        try:
            end = START_BYTES + header_bytes(answer.body[:START_BYTES], answer.total)
            header = answer.body[START_BYTES:end]
            if end > guess:
                header += self._client.get(self._path(name), Want(what=name, begin=guess, end=end), heard).body
            return tensors_of(header, answer.total)
        except DamagedHeaderError:
            raise self._damaged(name) from None

    def _damaged(self, name: str) -> ModelAccessError:
        return ModelAccessError(f"{name} of {self._model_id} is damaged at the hub",
                                hint="its owner has to mend it; or name another AIM_REVISION")  # fmt: skip


def _object(data: bytes | None) -> dict[str, Any]:
    """A JSON object; nothing where it is none, for what it would say is not needed."""
    try:
        said = json.loads(data or b"")
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) else {}


def _info_of(said: Mapping[str, Any]) -> _Info:
    files = []
    for one in said["siblings"]:
        name = one.get("rfilename") if isinstance(one, dict) else None
        if isinstance(name, str):
            size = one.get("size")
            files.append((name, size if isinstance(size, int) and size > 0 else 0))
    commit, task, card = said.get("sha"), said.get("pipeline_tag"), said.get("cardData")
    base = card.get("base_model") if isinstance(card, dict) else None
    base = base[0] if isinstance(base, list) and base else base
    return _Info(
        commit=commit if isinstance(commit, str) and commit else None,
        files=tuple(sorted(files)),
        task=task if isinstance(task, str) else "",
        base=base if isinstance(base, str) else "",
    )


def _base(adapter_config: bytes | None) -> str:
    base = _object(adapter_config).get("base_model_name_or_path")
    return base if isinstance(base, str) else ""
