"""What is here, as frozen values: `Gpu`, `Host` and `Inventory`, and what a detector must answer.

In: nothing; these are the words the detectors answer in. Out: values, and the JSON that `detect --json` prints and
`--hardware FILE` reads back. Knows no detector, recipe or engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from aim_engine.errors import InputError, NoAcceleratorError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds memory of a GPU. Inside a container other containers' names may be unknown ("")."""

    pid: int
    name: str
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """One firmware of a GPU, as the driver names it ("vbios", "smc", ...)."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One accelerator an engine can run on: a GPU, one partition of a GPU, or (product "CPU") the host itself.

    `index` is the number the engine knows it by: its position in the engine's own order (for AMD: HIP's, which follows
    the KFD nodes) among the devices that the environment's visibility variables leave, in the variables' order. Hidden
    and other unusable devices may come after those. Sizes are bytes.
    `device_id` is the PCI device id as text ("0x74a1"); `gfx` the instruction set ("gfx942"); `partition` the
    compute and memory mode ("SPX/NPS1"), `partition_id` which part of its package this is (0 for a whole GPU).
    `package` is the PCI address of the package that all its partitions share; `memory_pool` names the memory that
    several devices share, each of them reporting all of it (NPS1), and is None where the memory is the device's own.
    `unique_id` is the 16 hex digits by which ROCR names it ("GPU-..."), the same for all partitions of a package.
    `xgmi_peers` are the indices of the GPUs one XGMI hop away. `unusable` is the reason why an engine cannot use it,
    or None.
    """

    index: int
    product: str
    vendor: str
    memory_bytes: int
    memory_free_bytes: int | None = None
    device_id: str | None = None
    gfx: str | None = None
    compute_units: int | None = None
    pci_address: str | None = None
    uuid: str | None = None
    unique_id: str | None = None
    render_node: str | None = None
    kfd_node: int | None = None
    numa_node: int | None = None
    partition: str | None = None
    partition_id: int | None = None
    package: str | None = None
    memory_pool: str | None = None
    xgmi_peers: tuple[int, ...] = ()
    firmware: tuple[Firmware, ...] = ()
    holders: tuple[Holder, ...] = ()
    unusable: str | None = None

    @property
    def usable(self) -> bool:
        return self.unusable is None

    @property
    def name(self) -> str:
        """For sentences: "GPU 0 (0000:05:00.0)". One that the engine does not count is named by its address alone."""
        if self.pci_address is None:
            return f"GPU {self.index}"
        return f"GPU {self.index} ({self.pci_address})" if self.usable else f"the GPU at {self.pci_address}"

    @property
    def is_host(self) -> bool:
        """True for the CPU as an accelerator."""
        return self.product == "CPU"

    @property
    def is_partition(self) -> bool:
        """True for a part of a GPU: its compute mode is any but SPX."""
        return self.partition is not None and not self.partition.startswith("SPX")


@dataclass(frozen=True, kw_only=True)
class Host:
    """The machine around the accelerators. `cores` are those this process may use, cgroup limits included;
    `memory_bytes` likewise. `numa_nodes` counts nodes that have such cores. `isa` names the instruction sets that
    matter to a CPU engine ("avx2", "avx512f", "avx512_bf16", "amx_bf16", ...).
    """

    cores: int
    numa_nodes: int
    memory_bytes: int
    memory_available_bytes: int
    architecture: str
    isa: tuple[str, ...] = ()
    cgroup_memory_limit_bytes: int | None = None
    cgroup_cpu_limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everything found. `source` names the layer that was believed ("amdsmi", "kfd", "declared", "cpu", ...); `notes`
    are sentences on what was seen on the way, in order. `visibility` are the environment's settings that chose among
    the devices ("HIP_VISIBLE_DEVICES=2,3"); `hint` what would make those usable that are not. `driver_version` is the
    kernel driver's, `library_version` that of the vendor's library that was asked. `recorded` marks one that was read
    from a file or a recorded tree; it is not part of the value, so that a recording reads back equal to what it was
    made from.
    """

    source: str
    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...] = ()
    host: Host | None = None
    visibility: tuple[str, ...] = ()
    hint: str = ""
    driver_version: str | None = None
    library_version: str | None = None
    recorded: bool = field(default=False, compare=False, repr=False)

    @property
    def usable_gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.gpus if gpu.usable)

    @property
    def usable_products(self) -> dict[str, int]:
        """How many there are of each product, in the order of the GPUs."""
        return dict(Counter(gpu.product for gpu in self.usable_gpus))

    def in_words(self) -> str:
        """ "8 x MI300X", "the CPU", "4 x MI300X and 4 x MI325X", "64 partitions of MI300X (CPX/NPS4)"."""
        kinds = Counter((gpu.product, gpu.partition if gpu.is_partition else None) for gpu in self.usable_gpus)
        return " and ".join(_kind_in_words(*kind, count) for kind, count in kinds.items()) or "nothing usable"

    @property
    def declared(self) -> bool:
        """True when this describes hardware that is not (known to be) the hardware we run on."""
        return self.recorded or self.source.startswith("declared")

    def as_json(self) -> dict[str, Any]:
        """`{source, gpus: [...], notes, host}`; reading it back with `from_json` gives an equal value."""
        words = asdict(self)
        del words["recorded"]
        return words

    @staticmethod
    def from_json(text: str | bytes, *, where: str) -> Inventory:
        """Read what `as_json` wrote; unknown keys are ignored, so that newer recordings can be read.

        Raises:
            InputError: not JSON, or a key is missing or of the wrong type; `where` names the file in the message.
        """
        from pydantic import ValidationError  # here: a plan without a file need not pay for it

        try:
            inventory = _adapter().validate_json(text, strict=True)
        except ValidationError as error:
            problems = tuple(
                f"{'.'.join(str(part) for part in problem['loc']) or 'the file'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise InputError(
                f"{where} is not an inventory: {problems[0]}",
                hint="write one with: aim-engine detect --json > inventory.json",
                details=problems[1:20],
            ) from None
        if nonsense := next(_nonsense(inventory), ""):
            raise InputError(
                f"{where} is not an inventory: {nonsense}", hint="write one with: aim-engine detect --json"
            )
        return inventory


def nothing_usable(inventory: Inventory) -> NoAcceleratorError:
    """The error for an inventory none of whose GPUs an engine can use, with what would change that."""
    reasons = dict.fromkeys(gpu.unusable for gpu in inventory.gpus if gpu.unusable)
    why = f" ({'; '.join(list(reasons)[:3])})" if reasons else ""
    return NoAcceleratorError(
        f"no usable accelerator{why}", hint=inventory.hint or "aim-engine detect shows what was seen"
    )


def _kind_in_words(product: str, partition: str | None, count: int) -> str:
    if partition is not None:
        return f"{count} partition{'' if count == 1 else 's'} of {product} ({partition})"
    return "the CPU" if product == "CPU" else f"{count} x {product}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A detector's answer. With `gpus` it found some; without, `reason` says in one sentence why not (nothing where it
    has nothing to say).

    `blocking` means that the hardware is there but could not be used: only other layers for the same vendor are asked
    after it, and when none of them finds any, the search stops with `reason` as the error instead of falling through to
    a lesser device. `certain` says that `reason` is what is wrong with the hardware or its way in here, not the trouble
    of who asked: of several blocking ones the first such is the error. `optional` marks a layer that is not here, which
    is no news where another finds what there is. `hint` is the remedy, also for GPUs that are found and cannot be used.
    `visibility` and the versions go into the inventory.
    """

    source: str
    gpus: tuple[Gpu, ...] = ()
    reason: str = ""
    hint: str = ""
    blocking: bool = False
    certain: bool = False
    optional: bool = False
    notes: tuple[str, ...] = ()
    visibility: tuple[str, ...] = ()
    driver_version: str | None = None
    library_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where a detector may look: the root of the trees it reads (tests give recorded ones), the process's environment
    (visibility variables, library paths), and how long it may take.
    """

    root: Path = Path("/")
    environment: Mapping[str, str]
    timeout_seconds: float = 10.0

    @property
    def is_live(self) -> bool:
        """False for a recorded tree: then nothing but files may be asked."""
        return self.root == Path("/")


class Detector(Protocol):
    """One way to find accelerators."""

    name: str
    vendor: str

    def detect(self, surroundings: Surroundings) -> Finding:
        """Answer within `surroundings.timeout_seconds`; never raise for missing or broken hardware.

        Raises:
            InputError: the environment's visibility variables contradict each other.
        """


@cache
def _adapter() -> TypeAdapter[Inventory]:
    """Making one takes longer than reading an inventory with it."""
    from pydantic import TypeAdapter

    return TypeAdapter(Inventory)


_MOST_BYTES = 1 << 60  # an exbibyte: whatever claims more is a mistake


def _nonsense(inventory: Inventory) -> Iterator[str]:
    """What a well-formed inventory cannot mean."""
    seen: set[int] = set()
    for place, gpu in enumerate(inventory.gpus):
        if not 0 <= gpu.index < 1024 or gpu.index in seen:
            yield f"gpus.{place}.index: {gpu.index} is there twice, or is none"
        seen.add(gpu.index)
        if not 0 <= gpu.memory_bytes <= _MOST_BYTES:  # none where an unusable one could not be asked
            yield f"gpus.{place}.memory_bytes: no GPU has that much or that little"
        if gpu.memory_free_bytes is not None and not 0 <= gpu.memory_free_bytes <= gpu.memory_bytes:
            yield f"gpus.{place}.memory_free_bytes: not between nothing and all of it"
        if (gpu.compute_units or 0) < 0:
            yield f"gpus.{place}.compute_units: less than none"
    if (host := inventory.host) and not all(
        0 <= size <= _MOST_BYTES for size in (host.memory_bytes, host.memory_available_bytes)
    ):
        yield "host.memory_bytes: no machine has that much or that little"
    words = [
        word for gpu in inventory.gpus for part in (gpu, *gpu.firmware, *gpu.holders) for word in vars(part).values()
    ]
    texts = [inventory.source, *inventory.notes, *inventory.visibility, *words]
    texts += [inventory.hint, inventory.driver_version, inventory.library_version]
    if any(isinstance(text, str) and not text.isprintable() for text in texts):
        yield "a text in it holds control characters"
