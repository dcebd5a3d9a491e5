"""Ten thousand damaged trees: each gives an inventory that reads back, or a reason; never a traceback or a hang."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aim_engine.hardware.inventory import Gpu, Inventory, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector, understand
from aim_engine.hardware.kfd.read import read_tree
from tests.fakes.trees import plant_host, read_host

TREES = 10_000
LIMIT_SECONDS = 20.0  # more is a hang: one takes two milliseconds
NUMBERS = (
    "-1", "0", "1", "7", "41", "255", "4294967295", "4294967296", "18446744073709551615", str(10**20), str(10**40),
    "0x12", "٣", "1e9", "", "NaN", "\x00", "x" * 70000,
)  # fmt: skip
TEXTS = (
    b"", b"\n", b"\xff\xfe\x00binary", b"simd_count", b"simd_per_cu 0\nsimd_count 8\n",
    b"heap_type 1\nsize_in_bytes 1", b"PCI_SLOT_NAME=0000:63:00.0\n", b"CPX\n", b"NPS9", b"DPX\x1b[31m",
    b"9" * 70000, b"1\n" * 40000, b"[" * 60000,
    b'{"device_nodes": {"/dev/kfd": {"opens": false, "group": 1e400}}}', b'{"device_nodes": [1]}',
)  # fmt: skip
FOLDERS = (
    "sys/class/kfd/kfd/topology/nodes", "sys/class/kfd/kfd/topology/nodes/2", "sys/class/drm",
    "sys/class/drm/renderD128/device", "sys/module/amdgpu", "dev", "sys",
)  # fmt: skip


def missing(path: Path, _: random.Random) -> None:
    path.unlink()


def folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def closed(path: Path, _: random.Random) -> None:
    path.chmod(0)


def huge(path: Path, _: random.Random) -> None:
    os.truncate(path, 1 << 40)


def truncated(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"?")
    for _ in range(chance.randrange(1, 4)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(content)


def other_number(path: Path, chance: random.Random) -> None:
    words = path.read_text().split(" ")
    words[chance.randrange(len(words))] = chance.choice(NUMBERS) + "\nfw_version 3"
    path.write_text(" ".join(words))


def one_property(path: Path, chance: random.Random) -> None:
    lines = path.read_text().splitlines() or [""]
    place = chance.randrange(len(lines))
    lines[place] = f"{lines[place].partition(' ')[0]} {chance.choice(NUMBERS)}"
    path.write_text("\n".join(lines))


def other_text(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.choice(TEXTS))


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    missing, folder, pipe, loop, closed, huge, truncated, flipped, other_number, one_property, one_property, other_text,
)  # fmt: skip


class Tree:
    """A planted tree that can be damaged and mended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.whole = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        # what never decides anything about a GPU would only dilute the damage
        self.files = [path for path in self.whole if not {"meminfo", "cpuinfo", "online", "cpulist"} & {path.name}]

    def mend(self, path: Path) -> None:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        else:
            path.rmdir()
        path.write_bytes(self.whole[path])


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = plant_host(read_host("mi300x-dpx-nps2"), tmp_path)
    for path, text in {
        "sys/class/kfd/kfd/proc/4711/vram_1002": "1048576\n",
        "sys/class/kfd/kfd/proc/4711/vram_1003": "1048576\n",
        "proc/4711/comm": "VLLM::Worker\n",
        "sys/module/amdgpu/version": "6.14.14\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return Tree(root)


def test_damaged_trees_give_an_inventory_or_a_reason(tree: Tree) -> None:
    chance = random.Random(20261121)
    surroundings = Surroundings(root=tree.root, environment={})
    seen: set[tuple[tuple[Gpu, ...], tuple[str, ...], str | None]] = set()
    reasons: set[str] = set()
    for _ in range(TREES):
        count = len(tree.files) * 9 // 10 if chance.random() < 0.01 else chance.choice((1, 1, 2, 6))
        damaged = chance.sample(tree.files, count)
        for path in damaged:
            chance.choice(DAMAGES)(path, chance)
        started = time.monotonic()
        finding = KfdDetector().detect(surroundings)
        assert time.monotonic() - started < LIMIT_SECONDS
        if finding.gpus:
            assert [gpu.index for gpu in finding.gpus] == list(range(len(finding.gpus)))
            seen.add((finding.gpus, finding.notes, finding.driver_version))
        else:
            assert finding.hint
            reasons.add(finding.reason)
        for path in damaged:
            tree.mend(path)
    # the damage reached what decides: else this would prove nothing
    assert len(seen) > 500
    assert reasons
    assert all(gpu.usable for gpu in KfdDetector().detect(surroundings).gpus)
    distinct = list(seen)
    for start in range(0, len(distinct), 100):
        assert_read_back(distinct[start : start + 100])


def assert_read_back(found: Sequence[tuple[tuple[Gpu, ...], tuple[str, ...], str | None]]) -> None:
    """A hundred at once, as making the reader costs more than reading: their GPUs together, numbered anew."""
    gpus = dict.fromkeys(replace(gpu, index=0) for gpus, _, _ in found for gpu in gpus)
    notes = dict.fromkeys(note for _, notes, version in found for note in (*notes, version or ""))
    inventory = Inventory(
        source="kfd",
        gpus=tuple(replace(gpu, index=place) for place, gpu in enumerate(gpus)),
        notes=tuple(notes),
    )
    assert Inventory.from_json(json.dumps(inventory.as_json()), where="here") == inventory


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("as_what", ["file", "loop", "missing"])
def test_a_folder_that_is_something_else(name: str, as_what: str, tree: Tree) -> None:
    path = tree.root / name
    shutil.rmtree(path)
    if as_what == "file":
        path.write_text("1")
    elif as_what == "loop":
        path.symlink_to(path.name)
    finding = KfdDetector().detect(Surroundings(root=tree.root, environment={}))
    assert finding.gpus or finding.reason


def test_more_nodes_than_any_machine_has(tree: Tree) -> None:
    for number in range(2_000):
        (tree.root / f"sys/class/kfd/kfd/topology/nodes/{number + 10}").mkdir()
    reading = read_tree(str(tree.root))
    assert len(reading["kfd_nodes"]) == 1024
    finding = understand(reading, {})
    assert len(finding.gpus) == 4
    assert any("1018 of 1024 KFD nodes cannot be read" in note for note in finding.notes)
    assert "the KFD topology has 2006 nodes: those after the first 1024 are left out" in finding.notes
