"""The AMD detector end to end: the real amdsmi packages in their child process, over the stand-in libamd_smi.so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from aim_engine.errors import NoAcceleratorError
from aim_engine.hardware.amd import ask as amd_ask
from aim_engine.hardware.amd.detector import AmdSmiDetector
from aim_engine.hardware.detect import detect
from aim_engine.hardware.inventory import Finding, Firmware, Holder, Surroundings
from aim_engine.hardware.products import Product, all_products
from tests.fakes import amd_smi
from tests.fakes.amd_smi import MI300X, Line, StandIn, host, like, partitioned
from tests.hardware.conftest import Plant

GIB = 2**30


Prepare = Callable[[str], StandIn]


@pytest.fixture(scope="module")
def prepare(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """An amdsmi package over a library built for it. The one that is not installed comes with pip, once."""

    @cache
    def prepared(version: str) -> StandIn | str:
        lasting = getattr(pytestconfig, "cache", None)
        kept = lasting.mkdir("amdsmi") if lasting else tmp_path_factory.mktemp("amdsmi")
        try:
            package = amd_smi.package(version, kept)
        except OSError as error:
            return f"NOT TESTED with amdsmi {version}: {error}"
        return amd_smi.build(version, package, tmp_path_factory.mktemp("rocm"))

    def or_skip(version: str) -> StandIn:
        stand_in = prepared(version)
        if isinstance(stand_in, str):
            pytest.skip(stand_in)
        return stand_in

    return or_skip


@pytest.fixture(params=amd_smi.VERSIONS)
def stand_in(request: pytest.FixtureRequest, prepare: Prepare) -> StandIn:
    return prepare(request.param)


def ask(
    stand_in: StandIn,
    gpus: Sequence[Line],
    *,
    root: Path = Path("/"),
    timeout_seconds: float = 10.0,
    facts: Line = MappingProxyType({}),
) -> Finding:
    environment = stand_in.environment(gpus, **facts)
    return AmdSmiDetector().detect(Surroundings(root=root, environment=environment, timeout_seconds=timeout_seconds))


def test_the_stand_in_has_every_function_the_binding_wants(stand_in: StandIn) -> None:
    command = ["nm", "-D", "--defined-only", str(stand_in.library)]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = amd_smi.wrapper_symbols(stand_in.package)
    assert len(wanted) == {"6.4.4": 180, "7.0.2": 184}[stand_in.version]
    assert wanted <= {line.split()[-1] for line in listing.stdout.splitlines()}


# Healthy hosts


def test_every_field_of_a_healthy_gpu(stand_in: StandIn) -> None:
    held = {"used": 3 * GIB, "holders": f"4711:python3:{2 * GIB},99::{GIB}", "vbios": "022.040.003", "rlc": 17}
    finding = ask(stand_in, host([{**MI300X, **held}] * 8))
    assert (finding.source, finding.blocking, finding.notes) == ("amdsmi", False, ())
    assert finding.driver_version == "6.14.14"
    assert finding.library_version == {"6.4.4": "25.5.1", "7.0.2": "26.0.2"}[stand_in.version]
    assert [gpu.index for gpu in finding.gpus] == list(range(8))
    first, last = finding.gpus[0], finding.gpus[7]
    assert (first.product, first.vendor, first.gfx, first.device_id) == ("MI300X", "amd", "gfx942", "0x74a1")
    assert (first.memory_bytes, first.memory_free_bytes) == (206141652992, 206141652992 - 3 * GIB)
    assert (first.compute_units, first.partition, first.partition_id, first.usable) == (304, "SPX/NPS1", 0, True)
    assert (first.pci_address, last.pci_address) == ("0000:05:00.0", "0000:75:00.0")
    assert (first.package, first.memory_pool) == ("0000:05:00.0", None)
    assert (first.render_node, last.render_node) == ("/dev/dri/renderD128", "/dev/dri/renderD184")
    assert (first.kfd_node, last.kfd_node, first.numa_node, last.numa_node) == (2, 9, 0, 1)
    assert (first.uuid, first.unique_id) == ("00ff74a1-0000-1000-8000-000000000000", "000000000000ab00")
    assert first.xgmi_peers == (1, 2, 3, 4, 5, 6, 7)
    assert first.firmware == (Firmware(name="vbios", version="022.040.003"), Firmware(name="rlc", version="17"))
    assert first.holders == (
        Holder(pid=4711, name="python3", memory_bytes=2 * GIB),
        Holder(pid=99, name="", memory_bytes=GIB),
    )


@pytest.mark.parametrize("product", [p for p in all_products() if p.device_ids], ids=lambda product: product.name)
def test_one_four_and_eight_of_every_product(stand_in: StandIn, product: Product) -> None:
    for count in (1, 4, 8):
        finding = ask(stand_in, host([like(product)] * count))
        assert [gpu.product for gpu in finding.gpus] == [product.name] * count
        assert all(gpu.usable and gpu.memory_bytes == product.memory_bytes for gpu in finding.gpus)
        assert {(gpu.gfx, gpu.compute_units) for gpu in finding.gpus} == {(product.gfx, product.compute_units)}
        peers = count - 1 if product.link == "xgmi" else 0
        assert {len(gpu.xgmi_peers) for gpu in finding.gpus} == {peers}
        assert not finding.notes


@pytest.mark.parametrize(
    ("device", "revision", "units", "gfx", "product"),
    [
        ("0x75a3", "0", 256, "0x950", "MI355X"),
        ("0x744c", "0xcc", 84, "0x1100", "RX 7900 XT"),
        ("0x740c", "1", 104, "0x90a", "MI250"),
        ("0x740c", "1", 110, "0x90a", "MI250X"),
        ("0x74b5", "0", 304, "0x942", "MI300X"),  # a virtual function
    ],
)
def test_the_product_goes_by_ids_not_by_name(
    stand_in: StandIn, device: str, revision: str, units: int, gfx: str, product: str
) -> None:
    memory = next(known.memory_bytes for known in all_products() if known.name == product)
    told = {"device": device, "revision": revision, "units": units, "gfx": gfx, "name": "AMD Radeon Graphics"}
    line = {**MI300X, **told, "memory": memory}
    (gpu,) = ask(stand_in, host([line])).gpus
    assert (gpu.product, gpu.gfx, gpu.compute_units) == (product, gfx.replace("0x", "gfx"), units)


def test_an_unknown_gpu_keeps_what_amdsmi_says(stand_in: StandIn) -> None:
    line = {"device": "0x9999", "gfx": "0x1250", "units": 64, "name": "AMD Instinct X", "memory": 64 * GIB}
    (gpu,) = ask(stand_in, host([line])).gpus
    assert (gpu.product, gpu.device_id, gpu.gfx, gpu.compute_units) == ("AMD Instinct X", "0x9999", "gfx1250", 64)
    assert (gpu.partition, gpu.firmware, gpu.xgmi_peers, gpu.usable) == (None, (), (), True)


def test_mixed_products(stand_in: StandIn) -> None:
    products = {product.name: product for product in all_products()}
    names = ["MI300X", "MI325X", "MI300X", "RX 7900 XTX"]
    gpus = ask(stand_in, host([like(products[name]) for name in names])).gpus
    assert [gpu.product for gpu in gpus] == names
    assert [gpu.xgmi_peers for gpu in gpus] == [(1, 2), (0, 2), (0, 1), ()]


def test_gpus_are_counted_in_the_order_of_the_kfd_nodes(stand_in: StandIn) -> None:
    nodes = [4, 3, 2]
    hives = [0, 1, 0]
    gpus = ask(stand_in, host([{**MI300X, "node": n, "hive": h} for n, h in zip(nodes, hives, strict=True)])).gpus
    assert [gpu.index for gpu in gpus] == [0, 1, 2]
    assert [gpu.kfd_node for gpu in gpus] == [2, 3, 4]
    assert [gpu.pci_address for gpu in gpus] == ["0000:25:00.0", "0000:15:00.0", "0000:05:00.0"]
    assert [gpu.xgmi_peers for gpu in gpus] == [(2,), (), (0,)]  # by the index, not by the place in PCI order


# Partitions

WHOLE = 206141652992


@pytest.mark.parametrize(
    ("parts", "compute", "memory_mode", "memory", "pools"),
    [
        (8, "CPX", "NPS1", WHOLE, ["0000:05:00.0"] * 8),
        (8, "CPX", "NPS1", WHOLE // 8, [None] * 8),  # the driver caps each at its share
        (8, "CPX", "NPS4", WHOLE // 8, [None] * 8),
        (8, "CPX", "NPS4", WHOLE // 4, [f"0000:05:00.0/{part // 2}" for part in range(8)]),
        (8, "CPX", "NPS2", WHOLE // 2, [f"0000:05:00.0/{part // 4}" for part in range(8)]),
        (4, "QPX", "NPS4", WHOLE // 4, [None] * 4),
        (4, "QPX", "NPS2", WHOLE // 2, [f"0000:05:00.0/{part // 2}" for part in range(4)]),
        (2, "DPX", "NPS1", WHOLE, ["0000:05:00.0"] * 2),
        (2, "DPX", "NPS2", WHOLE // 2, [None] * 2),
    ],
)
def test_partitions(
    stand_in: StandIn, parts: int, compute: str, memory_mode: str, memory: int, pools: list[str | None]
) -> None:
    lines = partitioned([MI300X] * 2, parts, compute=compute, memory_mode=memory_mode, memory=memory)
    finding = ask(stand_in, lines)
    assert len(finding.gpus) == 2 * parts
    own = finding.gpus[:parts]
    assert {gpu.package for gpu in own} == {"0000:05:00.0"}
    assert {(gpu.partition, gpu.compute_units) for gpu in own} == {(f"{compute}/{memory_mode}", 304 // parts)}
    assert {gpu.memory_bytes for gpu in own} == {memory}
    assert [gpu.partition_id for gpu in own] == list(range(parts))
    assert [gpu.memory_pool for gpu in own] == pools
    assert [gpu.render_node for gpu in own] == [f"/dev/dri/renderD{128 + part}" for part in range(parts)]
    assert own[1].xgmi_peers == tuple(range(parts, 2 * parts))
    assert finding.notes == (() if pools[0] is None else (SHARED,))


SHARED = "these GPUs are partitions that share one memory: do not add up their sizes"


def test_a_smaller_chip_has_fewer_partitions(stand_in: StandIn) -> None:
    """MI308X: four dies, so CPX/NPS4 gives each its own memory."""
    product = next(product for product in all_products() if product.name == "MI308X")
    memory = product.memory_bytes // 4
    gpus = ask(stand_in, partitioned([like(product)], 4, compute="CPX", memory_mode="NPS4", memory=memory)).gpus
    assert [(gpu.product, gpu.compute_units, gpu.memory_pool) for gpu in gpus] == [("MI308X", 20, None)] * 4


def test_partitions_that_claim_the_whole_package_are_cut_down(stand_in: StandIn) -> None:
    """Before ROCm 6.4.1 each partition reports the whole GPU, whatever the memory mode is."""
    finding = ask(stand_in, partitioned([MI300X], 4, compute="QPX", memory_mode="NPS4"))
    assert {gpu.memory_bytes for gpu in finding.gpus} == {WHOLE // 4}
    assert {gpu.memory_free_bytes for gpu in finding.gpus} == {WHOLE // 4}
    assert {gpu.memory_pool for gpu in finding.gpus} == {None}
    assert "whole memory (as before ROCm 6.4.1)" in finding.notes[0]


def test_64_partitions_share_the_firmware_of_their_package_and_are_quickly_found(stand_in: StandIn) -> None:
    lines = partitioned([{**MI300X, "vbios": "022"}] * 8, 8, compute="CPX", memory_mode="NPS4", memory=WHOLE // 8)
    asked = [{**line, "fail": "vbios_info:2"} if line["partition"] else line for line in lines]
    start = time.monotonic()
    finding = ask(stand_in, asked)
    assert time.monotonic() - start < 5  # usually 0.1; a loaded machine may take its time
    assert {gpu.firmware for gpu in finding.gpus} == {(Firmware(name="vbios", version="022"),)}
    assert {len(gpu.xgmi_peers) for gpu in finding.gpus} == {56}


def test_a_guest_is_not_told_its_partition_mode(stand_in: StandIn) -> None:
    lines = partitioned([{key: MI300X[key] for key in MI300X if key not in ("compute", "memory_mode")}], 8)
    gpus = ask(stand_in, lines).gpus
    assert {(gpu.partition, gpu.memory_pool) for gpu in gpus} == {(None, "0000:05:00.0")}


# Leaked, refused and missing answers


def test_leaked_sentinels_become_unknown(stand_in: StandIn) -> None:
    leaks = dict.fromkeys(("units", "gfx", "node", "partition", "render", "numa", "used", "rlc"), -1)
    finding = ask(stand_in, host([{**MI300X, **leaks, "serial": "ffffffffffffffff", "holders": "-1:x:-1"}]))
    (gpu,) = finding.gpus
    assert gpu.memory_bytes == 206141652992
    assert (gpu.memory_free_bytes, gpu.render_node, gpu.kfd_node, gpu.numa_node) == (None,) * 4
    assert (gpu.unique_id, gpu.partition_id, gpu.holders, gpu.firmware) == (None, None, (), ())
    assert (gpu.gfx, gpu.compute_units) == ("gfx942", 304)  # from the product facts
    assert "KFD node" in finding.notes[0]


def test_a_leaked_size_of_the_memory_is_none(stand_in: StandIn) -> None:
    finding = ask(stand_in, host([{**MI300X, "memory": -1, "fail": "vram_info:2,vram_usage:2"}]))
    (gpu,) = finding.gpus
    assert (gpu.memory_bytes, gpu.memory_free_bytes, gpu.usable) == (206141652992, None, True)
    assert "assumed to be what is built into their product (MI300X)" in finding.notes[0]


@pytest.mark.parametrize("refused", ["memory_total", "memory_total:2,vram_usage", "vram_info:2,vram_usage"])
def test_one_source_of_the_size_is_enough(stand_in: StandIn, refused: str) -> None:
    (gpu,) = ask(stand_in, host([{**MI300X, "fail": f"{refused}:2"}])).gpus
    assert (gpu.memory_bytes, gpu.usable) == (206141652992, True)


def test_one_gpu_of_two_that_refuses_everything(stand_in: StandIn) -> None:
    calls = ["asic_info", "vram_info", "vram_usage", "memory_total", "memory_usage", "driver_info", "process_list"]
    finding = ask(stand_in, host([{**MI300X, "fail": ",".join(f"{call}:7" for call in calls)}, MI300X]))
    assert [gpu.usable for gpu in finding.gpus] == [False, True]
    assert finding.gpus[0].product == "AMD GPU"
    assert finding.driver_version == "6.14.14"  # the second one said it


@pytest.mark.parametrize(
    ("facts", "reason", "hint"),
    [
        ({"fail": "init:34"}, "the amdgpu driver is not loaded", "modprobe amdgpu"),
        ({"fail": "init:32"}, "its KFD topology in /sys is hidden", "use the default runtime"),
        ({"fail": "init:10"}, "permission denied", "--group-add"),
        ({"fail": "init:18"}, "amdsmi failed to init with status 18", "amd-smi list"),
        ({"fail": "socket_handles:7"}, "amdsmi failed to list with status 7", "amd-smi list"),
        ({"crash": "init"}, "amdsmi crashed when asked amdsmi_init: signal 6", "differ in version"),
    ],
)
def test_failures_block_with_a_reason_and_a_remedy(
    stand_in: StandIn, facts: dict[str, str], reason: str, hint: str
) -> None:
    finding = ask(stand_in, host([MI300X]), facts=facts)
    assert finding.blocking
    assert not finding.gpus
    assert reason in finding.reason
    assert hint in finding.hint
    assert "--hardware cpu" in finding.hint


def test_an_empty_list_blocks(stand_in: StandIn) -> None:
    finding = ask(stand_in, [])
    assert finding.blocking
    assert "no GPU is visible" in finding.reason
    assert "--device /dev/kfd --device /dev/dri" in finding.hint


# Calls that never return


@pytest.mark.parametrize(
    ("facts", "line", "question"),
    [
        ({"hang": "init"}, {}, "amdsmi_init"),
        ({}, {"hang": "asic_info"}, "amdsmi_get_gpu_asic_info of 0000:15:00.0"),
    ],
    ids=["init", "per GPU"],
)
def test_a_call_that_never_returns_is_given_up(
    stand_in: StandIn, facts: dict[str, str], line: Line, question: str
) -> None:
    start = time.monotonic()
    finding = ask(stand_in, host([MI300X, {**MI300X, **line}]), timeout_seconds=0.7, facts=facts)
    assert time.monotonic() - start < 5
    assert finding.blocking
    assert f"did not answer amdsmi within 0.7 seconds when asked {question}" in finding.reason
    assert "AIM_DETECT_TIMEOUT" in finding.hint
    assert not list(children_of_this_process())


@pytest.mark.parametrize("trouble", ["hang", "crash"])
def test_an_optional_call_that_never_returns_costs_nothing_but_its_answer(stand_in: StandIn, trouble: str) -> None:
    """The child is ended after two seconds of extras; this test's limit ends it sooner."""
    lines = host([{**MI300X, "vbios": "022", "holders": "7:a:1"}, {**MI300X, trouble: "process_list"}])
    finding = ask(stand_in, lines, timeout_seconds=1.0)
    assert [gpu.usable for gpu in finding.gpus] == [True, True]
    assert finding.gpus[0].holders == (Holder(pid=7, name="a", memory_bytes=1),)
    assert finding.gpus[0].xgmi_peers == (1,)
    assert finding.notes[0].startswith("amdsmi did not answer amdsmi_get_gpu_process_list of 0000:15:00.0")
    assert not list(children_of_this_process())


def test_extras_end_long_before_the_limit(stand_in: StandIn) -> None:
    start = time.monotonic()
    finding = ask(stand_in, host([{**MI300X, "hang": "driver_info"}]), timeout_seconds=60)
    assert time.monotonic() - start < 30
    assert finding.gpus
    assert "amdsmi_get_gpu_driver_info" in finding.notes[0]


def children_of_this_process() -> Iterator[str]:
    for task in Path("/proc/self/task").glob("*/children"):
        for pid in task.read_text().split():
            if "amd/child.py" in Path(f"/proc/{pid}/cmdline").read_text():
                yield pid


# Packages and libraries that do not fit


def test_a_missing_library_is_not_taken_for_an_answer(stand_in: StandIn, tmp_path: Path) -> None:
    """amdsmi prints two lines on stdout and raises KeyError."""
    environment = stand_in.environment([]) | {"LD_LIBRARY_PATH": str(tmp_path)}
    finding = AmdSmiDetector().detect(Surroundings(environment=environment))
    assert finding.blocking
    assert "libamd_smi.so cannot be loaded" in finding.reason
    assert "amd-smi-lib" in finding.hint


def test_a_library_older_than_the_binding(stand_in: StandIn, tmp_path: Path) -> None:
    missing = "amdsmi_get_cpu_hsmp_proto_ver"
    finding = ask(amd_smi.build(stand_in.version, stand_in.package, tmp_path, without=(missing,)), host([MI300X]))
    assert finding.blocking
    assert "newer than ROCm's libamd_smi.so" in finding.reason
    assert missing in finding.reason


@pytest.mark.parametrize(
    ("package", "reason"),
    [
        ("raise ModuleNotFoundError('No module named amdsmi', name='amdsmi')", "amdsmi package is not installed"),
        ("raise RuntimeError('odd')", "amdsmi failed to import: odd"),
        ("import os; os.write(1, b'nonsense'); os._exit(3)", "cannot be read: exit status 3"),
        ("import os, sys; print('alas', file=sys.stderr, flush=True); os._exit(0)", r"exit status 0 \(it said: alas\)"),
        ("amdsmi_init = list\ndef amdsmi_get_processor_handles(): return [1]", "none of them a size"),
    ],
    ids=["no package", "odd import", "nonsense", "silent", "bare"],
)
def test_damaged_packages(tmp_path: Path, package: str, reason: str) -> None:
    """PYTHONPATH leads to the package, as it must in images where ROCm's own is not on sys.path."""
    (tmp_path / "amdsmi.py").write_text(package)
    environment = {"PYTHONPATH": str(tmp_path), "AMDSMI_MOCK_STATE_DIR": "/"}
    finding = AmdSmiDetector().detect(Surroundings(environment=environment))
    assert finding.blocking
    assert re.search(reason, finding.reason), finding.reason


@pytest.fixture
def ten(prepare: Prepare, tmp_path: Path) -> StandIn:
    """amdsmi as ROCm 10 has it, imitated on 7.0.2: another library name that is missed at the first call only, and
    getters of the compute partition that warn.
    """
    stand_in = prepare("7.0.2")
    package = tmp_path / "amdsmi"
    shutil.copytree(stand_in.package, package)
    wrapper = package / "amdsmi_wrapper.py"
    text = wrapper.read_text().replace('"libamd_smi.so"', '"libamd_smi.so.27"').replace('"lib/libamd_smi.so"', '"-"')
    loader = re.compile(r"^except OSError as e:\n(    .*\n)+", re.MULTILINE)
    wrapper.write_text(loader.sub(f"except OSError:\n{MISSING_LIBRARY}", text, count=1))
    with (package / "__init__.py").open("a") as file:
        file.write(DEPRECATED)
    shutil.copy(stand_in.library, tmp_path / "libamd_smi.so.27")
    return StandIn(version="10", package=package, library=tmp_path / "libamd_smi.so.27")


MISSING_LIBRARY = """\
    class _Missing:
        def __getattr__(self, name):
            def call(*_):
                raise OSError("libamd_smi.so.27: cannot open shared object file")
            return call
    _libraries['libamd_smi.so'] = _Missing()
"""
DEPRECATED = """
_getter = amdsmi_get_gpu_compute_partition
def amdsmi_get_gpu_compute_partition(handle):
    import warnings
    warnings.warn("use amdsmi_get_gpu_accelerator_partition_profile", DeprecationWarning, stacklevel=2)
    return _getter(handle)
"""


def test_a_deprecated_getter_neither_breaks_nor_litters(ten: StandIn) -> None:
    environment = ten.environment(host([MI300X])) | {"PYTHONWARNINGS": "error::DeprecationWarning"}
    finding = AmdSmiDetector().detect(Surroundings(environment=environment))
    assert (finding.gpus[0].partition, finding.notes) == ("SPX/NPS1", ())
    ending = amd_ask.run(amd_ask.COMMAND, environment, 10)
    assert "deprecat" not in ending.last_words.lower()


def test_where_the_getter_is_gone_the_profile_says_it(ten: StandIn) -> None:
    with (ten.package / "__init__.py").open("a") as file:
        file.write("del amdsmi_get_gpu_compute_partition\n")
    lines = partitioned([MI300X], 8, compute="CPX", memory_mode="NPS1")
    gpus = ask(ten, [{**line, "fail": "kfd_info:2"} for line in lines]).gpus
    assert [(gpu.partition, gpu.partition_id) for gpu in gpus] == [("CPX/NPS1", part) for part in range(8)]


def test_a_library_that_is_missed_at_the_first_call_only(ten: StandIn) -> None:
    ten.library.unlink()
    finding = ask(ten, [])
    assert finding.blocking
    assert "libamd_smi.so cannot be loaded" in finding.reason


def test_the_binding_is_found_where_rocm_puts_it(tmp_path: Path) -> None:
    home = tmp_path / "share" / "amd_smi"
    home.mkdir(parents=True)
    (home / "amdsmi.py").write_text("def amdsmi_init(): raise RuntimeError('found me')")
    # -S: no site-packages, so the tests' own amdsmi is out of sight
    command = [sys.executable, "-P", "-S", str(amd_ask.CHILD)]
    result = subprocess.run(command, env={"ROCM_PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert "found me" in result.stdout


def test_nothing_of_the_current_folder_is_imported(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the current folder')")
    (tmp_path / "amdsmi.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert ask(stand_in, host([MI300X])).gpus


# Device nodes. The recorded tree carries the nodes; the library stands for the driver.


@pytest.mark.parametrize("status", [10, 14], ids=["no permission", "file error"])
def test_a_closed_render_node_makes_its_gpu_unusable(stand_in: StandIn, plant: Plant, status: int) -> None:
    root = plant(
        {
            "dev/dri/renderD128": "",
            "sys/bus/pci/devices/0000:05:00.0/device": "0x74a5\n",
            "sys/bus/pci/devices/0000:05:00.0/revision": "0x00\n",
        }
    )
    refused = ",".join(f"{call}:{status}" for call in ("asic_info", "vram_info", "vbios_info"))
    finding = ask(stand_in, host([{**MI300X, "memory": 274877906944, "fail": refused}]), root=root)
    (gpu,) = finding.gpus
    assert gpu.unusable == "the render node /dev/dri/renderD128 cannot be opened"
    assert (gpu.product, gpu.gfx, gpu.memory_bytes) == ("MI325X", "gfx942", 274877906944)
    assert not finding.blocking
    (note,) = finding.notes
    assert note.startswith("to open /dev/dri/renderD128: docker run --device /dev/kfd --device /dev/dri")
    assert f"--group-add {os.getgid()}" in note


# What costs nothing, and recordings


def test_no_sign_of_a_gpu_asks_nobody(tmp_path: Path) -> None:
    finding = AmdSmiDetector().detect(Surroundings(root=tmp_path, environment={}))
    assert finding.reason == "there is no AMD GPU here: /dev/kfd and the amdgpu driver are absent"
    assert not finding.blocking
    assert "--device /dev/kfd" in finding.hint


@pytest.mark.parametrize("sign", ["dev/kfd", "sys/module/amdgpu/initstate", "sys/class/kfd/kfd/dev"])
def test_a_recorded_host_is_never_asked_through_the_library(plant: Plant, sign: str) -> None:
    finding = AmdSmiDetector().detect(Surroundings(root=plant({sign: ""}), environment={}))
    assert (finding.reason, finding.gpus, finding.blocking) == ("", (), False)
    assert not finding.blocking


def test_a_recorded_answer_reads_like_the_live_one(stand_in: StandIn, tmp_path: Path) -> None:
    environment = stand_in.environment(partitioned([MI300X] * 2, 8, compute="CPX", memory_mode="NPS1"))
    raw = amd_ask.ask_raw(environment, 10)
    (tmp_path / "amdsmi.json").write_text(json.dumps(raw))
    recorded = AmdSmiDetector().detect(Surroundings(root=tmp_path, environment={}))
    assert recorded == AmdSmiDetector().detect(Surroundings(environment=environment))
    (tmp_path / "dev").mkdir()  # a recording with device nodes says which are there
    closed = AmdSmiDetector().detect(Surroundings(root=tmp_path, environment={}))
    assert closed.gpus[0].unusable == "the render node /dev/dri/renderD128 is not here"


def test_a_recorded_answer_goes_by_the_recorded_rights_and_variables(stand_in: StandIn, tmp_path: Path) -> None:
    raw = amd_ask.ask_raw(stand_in.environment(host([MI300X] * 2)), 10)
    (tmp_path / "amdsmi.json").write_text(json.dumps(raw))
    nodes = {f"/dev/dri/renderD{minor}": {"opens": minor == 136, "group": 109} for minor in (128, 136)}
    nodes["/dev/kfd"] = {"opens": True, "group": 109}
    for node in nodes:
        (tmp_path / node[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / node[1:]).touch()
    (tmp_path / "recording.json").write_text(json.dumps({"device_nodes": nodes}))
    finding = AmdSmiDetector().detect(Surroundings(root=tmp_path, environment={"HIP_VISIBLE_DEVICES": "0"}))
    first, second = finding.gpus
    assert (first.render_node, first.unusable) == ("/dev/dri/renderD136", None)  # HIP's first: the other is not ours
    assert "cannot be opened" in (second.unusable or "")
    assert "--group-add 109" in finding.hint


@pytest.mark.parametrize("content", ["", "[]", "{", '{"gpus": 1}'])
def test_a_damaged_recording(plant: Plant, content: str) -> None:
    finding = AmdSmiDetector().detect(Surroundings(root=plant({"amdsmi.json": content}), environment={}))
    assert finding.blocking
    assert "cannot be read" in finding.reason


def test_through_the_detector_table(stand_in: StandIn) -> None:
    inventory = detect("amdsmi", Surroundings(environment=stand_in.environment(host([MI300X] * 4))))
    assert (inventory.source, len(inventory.usable_gpus), inventory.declared) == ("amdsmi", 4, False)
    assert inventory.driver_version == "6.14.14"
    broken: dict[str, Any] = stand_in.environment([], fail="init:34")
    with pytest.raises(NoAcceleratorError, match="driver is not loaded") as caught:
        detect("detect", Surroundings(environment=broken))
    assert "modprobe" in caught.value.hint
    assert detect("cpu", Surroundings(environment=broken)).source == "cpu"
