"""What every backend answers: `Backend` is the contract between a chosen recipe and a command line, `ServeJob` what it
is given, `ServerCommand` what it gives back.

Knows no rules of selection and starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aim_engine.catalog.checkpoint import Checkpoint
from aim_engine.catalog.model_card import ModelCard
from aim_engine.catalog.recipe import ArgumentValue, Recipe, Variant
from aim_engine.catalog.terms import ServingTerms
from aim_engine.errors import AimError
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.products import Product

HOOK = "the configure hook"
MOST_WHOLE = 2**50  # an option's number beyond is of no machine, and what is reckoned from it could not be written down
_CLASS_NAME = re.compile(r"For[A-Z]\w+$|Model$")  # a card may say anything else of a model's architecture


@dataclass(frozen=True, kw_only=True)
class ServerUrls:
    """Where the running server answers, all on the loopback address."""

    base: str
    health: str
    metrics: str
    models: str
    load: str
    probe: str


@dataclass(frozen=True, kw_only=True)
class ServerFile:
    """A small file that must exist before the server starts."""

    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ServerLinks:
    """Links to be made before the server starts: in `folder`, to each file of `source` that `pattern` names."""

    folder: str
    source: str
    pattern: str


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """How to start the server: `argv` in full, and its `options` by name; `env` to lay over the process's own
    environment, `unset` names to remove from it, `files` to write and `links` to make first, and how to talk to it.
    `probe_body` is the JSON of a request for one token. `origins` says who set each option and variable; `notes` what
    was changed on the way, `warnings` what was lost. Holds no secret.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    served_names: tuple[str, ...]
    urls: ServerUrls
    probe_body: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    files: tuple[ServerFile, ...] = ()
    links: tuple[ServerLinks, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """The equal nodes that serve one model together: how many, which of them this is, and where the first one gathers
    them ("" where nobody has said yet).
    """

    count: int = 1
    rank: int = 0
    address: str = ""
    port: int = 0


@dataclass(frozen=True, kw_only=True)
class ServeJob:
    """What to serve, where and how: the recipe's `args` and `env`; `overrides` the user's options over them;
    `environment` the user's variables, which win; `model` a hub id or a folder; the placement on `gpus` out of
    `visible_gpus`, among which `visibility` ("HIP_VISIBLE_DEVICES=2,3") has chosen already. `gpu_type` and `precision`
    are the recipe's; `revision` is the commit (or branch or tag) of the model on the hub, where it is fixed.
    `context_tokens` and `kv_bytes` (per GPU) come from the memory ledger, where there is one.
    `group` are the nodes of which this one's part is asked for.
    `hooked` names the overrides and variables that the configure hook set, `optional` the recipe's options and
    variables that may be left out where the installed engine has nothing of the kind.
    """

    recipe_id: str
    args: Mapping[str, ArgumentValue]
    env: Mapping[str, str]
    overrides: Mapping[str, Any]
    environment: Mapping[str, str]
    model: str
    served_names: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    visible_gpus: tuple[Gpu, ...]
    replicas: int
    context_tokens: int | str | None
    kv_bytes: int | None
    memory_fraction: float | None
    host: str
    port: int
    cache_dir: Path
    drain_seconds: float
    offline: bool
    tls_cert: Path | None = None
    tls_key: Path | None = None
    engine: Engine | None
    visibility: tuple[str, ...] = ()
    gpu_type: str = ""
    precision: str = ""
    revision: str | None = None
    hooked: frozenset[str] = frozenset()
    optional: tuple[str, ...] = ()
    group: NodeGroup = field(default_factory=NodeGroup)

    def giver(self, name: str, otherwise: str) -> str:
        """Who gave an option or a variable that is not the recipe's."""
        return HOOK if name in self.hooked else otherwise


@dataclass(frozen=True, kw_only=True)
class Complaint:
    """What speaks against one key of a variant ("args.dtype", "env.VLLM_X"), or of its recipe ("precision"); `kind` is
    one of catalog/problem_kinds.py's, `replacement` what to write instead where that is known. A warning keeps nobody
    from using the recipe.
    """

    key: str
    sentence: str
    kind: str = "engine"
    replacement: str = ""
    is_warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """What may be given up so that the next start succeeds: `kind` names it, `gives_up` says what is lost, `job` is the
    same job without it.
    """

    kind: str
    gives_up: str
    job: ServeJob


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What an engine is to load, as its config calls it: the names of its classes, the kind of the model (`family`),
    the method of its quantisation ("" for none), and whether it brings code of its own. `name` is for messages.
    """

    name: str
    architectures: tuple[str, ...] = ()
    family: str = ""
    quantization: str = ""
    brings_code: bool = False

    @classmethod
    def of(cls, name: str, card: ModelCard | None, read: Checkpoint | None) -> Loading:
        """By its config, or where only its card is known by that."""
        config = read.config if read else {}
        named = config.get("architectures") if read else [card.family if card else ""]
        classes = (
            [one for one in named if isinstance(one, str) and one.isidentifier()] if isinstance(named, list) else []
        )
        family = config.get("model_type")
        return cls(
            name=name,
            architectures=tuple(one for one in classes if read or _CLASS_NAME.search(one)),
            family=family if isinstance(family, str) else "",
            quantization=card.quantization if card else "",
            brings_code=read.brings_code if read else False,
        )


class Backend(Protocol):
    """One engine that can serve a model."""

    name: str
    context_option: str  # the option that says how long the context is

    def find(self, search_path: tuple[str, ...], python: str) -> Engine | None:
        """The engine as installed for the interpreter `python`, whose import path is `search_path`."""

    def read_terms(
        self, args: Mapping[str, ArgumentValue], overrides: Mapping[str, Any], gpu: Gpu, engine: Engine | None
    ) -> ServingTerms:
        """What the arguments mean for memory on that GPU."""

    def derive(self, card: ModelCard, model_id: str, product: Product) -> Recipe | None:
        """A recipe for a model that has none on that GPU; None where not enough is known of the model."""

    def over_nodes(
        self, variant: Variant, nodes: int, here: int, overrides: Mapping[str, Any], engine: Engine | None
    ) -> Variant:
        """The variant's part on one of so many equal nodes, with `here` GPUs each: its arguments say how the model is
        split over the GPUs of all of them, its GPU count is that of one.

        Raises:
            InputError: this engine does not serve over nodes, or cannot be split as the user's options say.
        """

    def refused_format(self, method: str, vendor: str, engine: Engine | None) -> str:
        """Why weights that are quantised by that method are not loaded on that vendor's devices, or ""."""

    def objection(self, model: Loading, options: Mapping[str, Any], engine: Engine | None) -> AimError | None:
        """Why the engine will not load the model with these options, where that is certain."""

    def doubts(self, model: Loading, options: Mapping[str, Any], engine: Engine | None) -> Iterator[str]:
        """What a person should know of how it will be loaded."""

    def command(self, job: ServeJob) -> ServerCommand:
        """The command line.

        Raises:
            InputError: the user's own options cannot be used.
            EngineRefusedError: the recipe's options do not exist in the installed engine.
        """

    def words(self, options: Mapping[str, Any]) -> Iterator[str]:
        """Options as words of argv."""

    def steps(self, job: ServeJob) -> tuple[Step, ...]:
        """Everything that this engine can do without, one thing each: "context", "memory share", "eager", "kernels",
        "collectives". What the job does without already is left out.
        """

    def review(self, recipe: Recipe, variant: Variant) -> list[Complaint]:
        """What can be said against a recipe's variant without an engine: options that no version has, or that are not
        a recipe's to set; switches and precisions for which its GPU has no kernels.
        """

    def inspector(self, engine: Engine) -> Callable[[Variant], list[Complaint]]:
        """A function that asks the installed engine's own parser, and its registry of variables, about a variant as it
        would be started here: in this version's words, without what it may leave out. One process asks about all.

        Raises:
            EngineRefusedError: the engine cannot be asked.
        """
