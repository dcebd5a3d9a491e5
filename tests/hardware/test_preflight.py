"""The pre-flight checks, each on a planted machine: what it says, what it advises, which exit code it stands for."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import CacheError, DoesNotFitError, NoAcceleratorError
from aim_engine.hardware.inventory import Gpu, Holder, Surroundings
from aim_engine.hardware.kfd.detector import KfdDetector
from aim_engine.hardware.preflight import look as preflight
from aim_engine.hardware.preflight.check import Check, Checkpoint, Needs, Site, Space, may_use, recorded_site, this_site
from aim_engine.hardware.preflight.look import CHECKS, error_of, look, look_from_elsewhere, worst
from tests.building import examples
from tests.fakes.trees import plant_host, read_host
from tests.hardware.conftest import Nobody, Plant

GIB, MIB = 2**30, 2**20
DOCKER = {".dockerenv": ""}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def gpu(index: int = 0, **changes: Any) -> Gpu:
    plain = Gpu(
        index=index,
        product="MI300X",
        vendor="amd",
        memory_bytes=192 * GIB,
        memory_free_bytes=191 * GIB,
        render_node=f"/dev/dri/renderD{128 + 8 * index}",
        pci_address=f"0000:0{index}:00.0",
    )
    return replace(plain, **changes)


CPU = Gpu(index=0, product="CPU", vendor="cpu", memory_bytes=64 * GIB)
CHECKPOINT = Checkpoint(
    name="org/m", folder=Path("/cache/hub"), presence="absent", size_bytes=61 * GIB, missing_bytes=61 * GIB
)


def needs(*gpus: Gpu, **changes: Any) -> Needs:
    plain = Needs(
        planned=True,
        cache_dir=Path("/cache"),
        host="127.0.0.1",
        port=8000,
        health_port=8080,
        gpus=gpus or (gpu(),),
        tensor_parallel_size=len(gpus) or 1,
    )
    return replace(plain, **changes)


def space(size: int, free: int | None = None, **changes: Any) -> Any:
    return lambda _: Space(size_bytes=size, free_bytes=size if free is None else free, **changes)


def check(name: str, wanted: Needs, root: Path, **site: Any) -> Check:
    """One check's finding; everything may be opened, and nothing is limited, unless said otherwise."""
    found = CHECKS[name](wanted, Site(root=root, **{"uid": 1000, "may_use": lambda _: True, **site}))
    assert found.name == name
    assert bool(found.remedy) is (found.outcome in ("warning", "error"))
    assert bool(found.code) is (found.outcome == "error")
    return found


# --- device files ------------------------------------------------------------------------------------------------


@pytest.fixture
def devices(plant: Plant) -> Path:
    """A host with two AMD GPUs, whose files belong to groups 44 and 109."""
    root = plant({"dev/kfd": "", "dev/dri/renderD128": "", "dev/dri/renderD136": "",
                  "etc/group": "root:x:0:\nrender:x:109:me\nvideo:x:44:\n"})  # fmt: skip
    for name in ("dev/kfd", "dev/dri/renderD128", "dev/dri/renderD136"):
        (root / name).chmod(0o660)
    return root


def given_to(root: Path, **groups: int) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    for name, number in groups.items():
        os.chown(root / "dev" / name.replace("_", "/"), -1, number)


def test_device_files_that_open(devices: Path) -> None:
    found = check("devices", needs(gpu(0), gpu(1)), devices)
    assert (found.outcome, found.sentence) == (
        "ok",
        "/dev/kfd, /dev/dri/renderD128 and /dev/dri/renderD136 can be opened",
    )


def closed(path: Path) -> bool:
    return "render" not in path.name


def test_a_closed_render_node_in_a_container_names_the_group_to_add(devices: Path) -> None:
    given_to(devices, kfd=109, dri_renderD128=109, dri_renderD136=44)
    (devices / ".dockerenv").touch()
    found = check("devices", needs(gpu(0), gpu(1)), devices, may_use=closed)
    assert (found.outcome, found.code) == ("error", 20)
    assert found.sentence == "/dev/dri/renderD128 and /dev/dri/renderD136 cannot be opened by uid 1000: " \
                             "permission denied"  # fmt: skip
    assert found.remedy == "start the container with --group-add 44 --group-add 109"


def test_a_closed_render_node_on_a_host_names_the_group_to_join(devices: Path) -> None:
    given_to(devices, dri_renderD128=109)
    found = check("devices", needs(gpu(0)), devices, may_use=closed)
    assert found.remedy.startswith("sudo usermod -aG render $USER")
    assert found.remedy.endswith("--group-add 109")


def test_a_closed_render_node_in_a_pod(devices: Path) -> None:
    given_to(devices, dri_renderD128=109)
    found = check("devices", needs(gpu(0)), devices, may_use=closed, environment=KUBERNETES)
    assert found.remedy == "in the pod: securityContext: {supplementalGroups: [109]}"


def test_a_group_without_a_number_here_cannot_be_added(devices: Path) -> None:
    given_to(devices, dri_renderD128=65534)
    assert "keep-groups" in check("devices", needs(gpu(0)), devices, may_use=closed).remedy


def test_a_folder_of_devices_that_may_not_be_searched(open_folder: Path, nobody: Nobody) -> None:
    for name in ("dev/dri/renderD128", "dev/kfd", ".dockerenv"):
        (open_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (open_folder / name).touch()
        (open_folder / name).chmod(0o666)
    os.chown(open_folder / "dev/dri", 0, 44)
    (open_folder / "dev/dri").chmod(0o750)
    with nobody():
        found = check("devices", needs(gpu(0)), open_folder, may_use=may_use)
    assert (found.outcome, found.code) == ("error", 20)
    assert found.sentence == "/dev/dri/renderD128 cannot be opened by uid 1000: permission denied"
    assert found.remedy == "start the container with --group-add 44"


def test_a_group_that_may_not_either(devices: Path) -> None:
    (devices / "dev/dri/renderD128").chmod(0o600)
    assert "chmod g+rw" in check("devices", needs(gpu(0)), devices, may_use=closed).remedy


@pytest.mark.parametrize(
    ("marks", "environment", "remedy"),
    [
        (DOCKER, {}, "start the container with --device /dev/kfd --device /dev/dri/renderD128"),
        ({}, {}, "load the driver: sudo modprobe amdgpu; then look at: sudo dmesg | grep amdgpu"),
        ({}, KUBERNETES, "in the pod: resources: {limits: {amd.com/gpu: 1}}, with AMD's device plugin on the node"),
    ],
)
def test_missing_device_files(
    plant: Plant, marks: Mapping[str, str], environment: Mapping[str, str], remedy: str
) -> None:
    found = check("devices", needs(gpu(0)), plant(marks), environment=environment)
    assert (found.sentence, found.code) == ("/dev/kfd and /dev/dri/renderD128 are not here", 20)
    assert found.remedy == remedy


def test_of_many_missing_files_the_folder_is_passed(plant: Plant) -> None:
    found = check("devices", needs(*(gpu(n) for n in range(8))), plant({**DOCKER, "dev/kfd": ""}))
    assert found.sentence == "/dev/dri/renderD128, /dev/dri/renderD136 to /dev/dri/renderD184 (8 files) are not here"
    assert found.remedy == "start the container with --device /dev/dri"


def nothing_found(**changes: Any) -> Needs:
    """What doctor asks where detection found nothing."""
    return replace(needs(planned=False, **changes), gpus=())


def test_without_any_gpu_found_the_files_that_are_here_are_looked_at(devices: Path) -> None:
    for node, vendor in (("renderD128", "0x8086\n"), ("renderD136", "0x1002\n")):
        folder = devices / f"sys/class/drm/{node}/device"
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor)
    found = check("devices", nothing_found(), devices)
    assert found.sentence == "/dev/kfd and /dev/dri/renderD136 can be opened"  # the other one is Intel's


def test_a_driver_whose_files_were_not_passed_in(plant: Plant) -> None:
    found = check("devices", nothing_found(), plant({**DOCKER, "sys/module/amdgpu/initstate": "live"}))
    assert found.remedy == "start the container with --device /dev/kfd --device /dev/dri"


def test_without_any_sign_of_a_gpu_no_device_file_is_missed(tmp_path: Path) -> None:
    assert check("devices", nothing_found(), tmp_path).outcome == "skipped"
    assert check("devices", needs(CPU), tmp_path).outcome == "skipped"


def test_a_mock_has_no_device_files(tmp_path: Path) -> None:
    assert check("devices", needs(), tmp_path, environment={"AMDSMI_MOCK_STATE_DIR": "/x"}).outcome == "skipped"


# --- memory ------------------------------------------------------------------------------------------------------


def test_memory_that_others_hold_is_an_error_with_their_names(tmp_path: Path) -> None:
    held = gpu(1, memory_free_bytes=20 * GIB, holders=(
        Holder(pid=7, name="small", memory_bytes=GIB), Holder(pid=9, name="python3", memory_bytes=160 * GIB),
        Holder(pid=11, name="", memory_bytes=10 * GIB), Holder(pid=12, name="x", memory_bytes=0)))  # fmt: skip
    found = check("GPU memory", needs(gpu(0), held, budget_bytes=172 * GIB), tmp_path)
    assert (found.outcome, found.code) == ("error", 21)
    assert found.sentence == (
        "GPU 1 (0000:01:00.0): 20.0 GiB of 192.0 GiB are free, python3 (pid 9) holds 160.0 GiB, "
        "a process (pid 11) holds 10.0 GiB, small (pid 7) holds 1.0 GiB, and 1 others, "
        "and the plan takes 172.0 GiB of each"
    )
    assert found.remedy == "stop pid 7, 9, 11, 12, or use other GPUs"


def test_memory_that_is_shared_but_suffices_is_a_warning(tmp_path: Path) -> None:
    found = check("GPU memory", needs(gpu(memory_free_bytes=100 * GIB), budget_bytes=99 * GIB), tmp_path)
    assert found.outcome == "warning"
    assert "cannot be seen from here" in found.sentence
    assert "amd-smi process" in found.remedy


def test_free_and_unknown_memory(tmp_path: Path) -> None:
    assert check("GPU memory", needs(budget_bytes=172 * GIB), tmp_path).outcome == "ok"
    assert check("GPU memory", needs(gpu(memory_free_bytes=None)), tmp_path).outcome == "skipped"
    assert check("GPU memory", needs(CPU), tmp_path).sentence == "no GPU is to be used"


def parts(packages: int, *, free: int = 190 * GIB, shared: bool = True) -> tuple[Gpu, ...]:
    """So many MI300X in eight parts each, which share their package's memory or not."""
    return tuple(
        gpu(8 * package + place, pci_address=f"0000:0{package}:00.{place}", package=f"0000:0{package}:00.0",
            partition="CPX/NPS1" if shared else "CPX/NPS4", memory_free_bytes=free,
            memory_bytes=192 * GIB if shared else 24 * GIB, memory_pool=f"0000:0{package}:00.0" if shared else None)
        for package in range(packages) for place in range(8)
    )  # fmt: skip


def test_a_memory_that_partitions_share_is_one(tmp_path: Path) -> None:
    found = check("GPU memory", needs(*parts(2)), tmp_path)
    assert found.sentence == "190.0 GiB are free of each of the 2 memories that 16 partitions of MI300X share"
    own = check("GPU memory", needs(*parts(1, free=23 * GIB, shared=False)), tmp_path)
    assert own.sentence == "23.0 GiB of each partition of MI300X are free"


def test_what_is_held_of_a_shared_memory_is_said_once(tmp_path: Path) -> None:
    holder = Holder(pid=9, name="python3", memory_bytes=90 * GIB)
    held = tuple(replace(one, holders=(holder,)) for one in parts(1, free=100 * GIB))
    found = check("GPU memory", needs(*held), tmp_path)
    assert found.sentence == (
        "the memory of 0000:00:00.0 that 8 partitions share: 100.0 GiB of 192.0 GiB are free, "
        "python3 (pid 9) holds 90.0 GiB")  # fmt: skip
    assert found.remedy.startswith("stop pid 9,")


@pytest.mark.parametrize(("free", "outcome"), [(81, "warning"), (79, "error")])
def test_those_that_share_a_memory_need_it_together(free: int, outcome: str, tmp_path: Path) -> None:
    found = check("GPU memory", needs(*parts(1, free=free * GIB), budget_bytes=10 * GIB), tmp_path)
    assert found.outcome == outcome
    assert ("the plan takes 8 x 10.0 GiB of it" in found.sentence) is (outcome == "error")


def test_gpus_of_several_kinds_have_a_figure_each(tmp_path: Path) -> None:
    lesser = gpu(2, product="MI210", memory_bytes=64 * GIB, memory_free_bytes=63 * GIB)
    found = check("GPU memory", needs(gpu(0), gpu(1), lesser), tmp_path)
    assert found.sentence == "191.0 GiB of each MI300X and 63.0 GiB of each MI210 are free"


EIGHT = tuple(gpu(n) for n in range(8))


@pytest.mark.parametrize(
    ("gpus", "marks", "environment", "remedy"),
    [
        (EIGHT, DOCKER, {}, "start the container with --shm-size 16g, or with --ipc=host"),
        (EIGHT[:2], DOCKER, {}, "start the container with --shm-size 8g, or with --ipc=host"),
        (EIGHT, {}, KUBERNETES, "mount an emptyDir at /dev/shm: {medium: Memory, sizeLimit: 16Gi}"),
        (EIGHT, {}, {}, "sudo mount -o remount,size=16G /dev/shm; for a container: --shm-size 16g, or --ipc=host"),
    ],
)
def test_docker_s_own_shared_memory_is_too_small(
    plant: Plant, gpus: tuple[Gpu, ...], marks: Mapping[str, str], environment: Mapping[str, str], remedy: str
) -> None:
    root = plant({**marks, "dev/shm/x": ""})
    found = check("shared memory", needs(*gpus), root, environment=environment, space=space(64 * MIB))
    assert (found.outcome, found.code) == ("error", 42)
    assert found.sentence.startswith("/dev/shm has 64 MiB free of 64 MiB")
    assert found.remedy == remedy


def test_how_large_shared_memory_is_does_not_matter_to_one_worker(plant: Plant) -> None:
    root = plant({"dev/shm/x": ""})
    found = check("shared memory", needs(), root, space=space(64 * MIB))
    assert (found.outcome, found.sentence) == ("ok", "/dev/shm is here, and one GPU alone needs next to none of it")


@pytest.mark.parametrize(
    ("size", "outcome"), [(0, "ok"), (16 * GIB, "ok"), (8 * GIB, "ok"), (4 * GIB, "warning"), (2 * GIB, "error")]
)
def test_how_much_shared_memory_is_enough_for_eight(plant: Plant, size: int, outcome: str) -> None:
    root = plant({"dev/shm/x": ""})
    assert check("shared memory", needs(*EIGHT), root, space=space(size)).outcome == outcome


def test_what_is_not_planned_is_only_warned_of(plant: Plant) -> None:
    root = plant({"dev/shm/x": ""})
    assert check("shared memory", needs(*EIGHT, planned=False), root, space=space(64 * MIB)).outcome == "warning"


def test_leftovers_that_fill_shared_memory_are_named(plant: Plant) -> None:
    root = plant({**DOCKER, "dev/shm/small": "x"})
    with (root / "dev/shm/psm_old").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 250 * MIB)
    found = check("shared memory", needs(*EIGHT), root, space=space(16 * GIB, 100 * MIB))
    assert found.outcome == "error"
    assert "250 MiB are taken by 2 files in it (psm_old, small)" in found.sentence
    assert found.remedy.startswith("remove what no process uses (fuser /dev/shm/* names the users), or start")


@pytest.mark.parametrize("wanted", [needs(), needs(*EIGHT), needs(CPU), needs(planned=False)])
def test_no_shared_memory_at_all(tmp_path: Path, wanted: Needs) -> None:
    """`docker run --ipc none`: a single process of vLLM already makes semaphores there."""
    (tmp_path / ".dockerenv").touch()
    found = check("shared memory", wanted, tmp_path)
    assert (found.outcome, found.code) == ("error", 42)
    assert found.sentence == "there is no /dev/shm, in which every engine keeps semaphores and buffers"
    assert found.remedy.startswith("leave out --ipc none; start the container with --shm-size ")


@pytest.mark.parametrize(
    ("marks", "environment", "remedy"),
    [
        (DOCKER, {}, "leave out what mounts it so; start the container with --shm-size 8g, or with --ipc=host"),
        ({}, KUBERNETES, "mount an emptyDir at /dev/shm: {medium: Memory, sizeLimit: 8Gi}"),
        ({}, {}, "sudo mount -o remount,rw,mode=1777 /dev/shm"),
    ],
)
def test_shared_memory_that_cannot_be_written(
    plant: Plant, marks: Mapping[str, str], environment: Mapping[str, str], remedy: str
) -> None:
    root = plant({**marks, "dev/shm/x": ""})
    found = check("shared memory", needs(), root, environment=environment, may_use=lambda path: path.name != "shm")
    assert (found.outcome, found.code) == ("error", 42)
    assert found.sentence == "/dev/shm cannot be written by uid 1000, and every engine keeps semaphores and buffers " \
                             "in it"  # fmt: skip
    assert found.remedy == remedy


def meminfo(available: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: 99999999999 kB\nMemAvailable:   {available // 1024} kB\n"}


def test_weights_against_the_host_s_memory(plant: Plant) -> None:
    wanted = needs(checkpoint=CHECKPOINT)
    assert check("host memory", wanted, plant(meminfo(62 * GIB))).outcome == "ok"
    short = check("host memory", wanted, plant(meminfo(32 * GIB)))
    assert short.outcome == "warning"
    assert short.sentence.startswith("61.0 GiB of weights are read through 32.0 GiB of available memory")


def test_a_memory_limit_of_the_container_counts(plant: Plant) -> None:
    limited = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{16 * GIB}\n",
               "sys/fs/cgroup/memory.current": "0\n", "sys/fs/cgroup/memory.stat": "inactive_file 0\n",
               "proc/self/mountinfo": "30 29 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"}  # fmt: skip
    root = plant({**meminfo(500 * GIB), **limited})
    assert "through 16.0 GiB" in check("host memory", needs(checkpoint=CHECKPOINT), root).sentence


@pytest.mark.parametrize("text", ["", "MemAvailable: lots kB\n", "MemTotal: 5 kB\n"])
def test_a_damaged_meminfo_says_nothing(plant: Plant, text: str) -> None:
    root = plant({"proc/meminfo": text})
    assert check("host memory", needs(checkpoint=CHECKPOINT), root).outcome == "skipped"


@pytest.mark.parametrize(
    ("marks", "environment", "remedy"),
    [
        (DOCKER, {}, "start the container with --ulimit memlock=-1"),
        ({}, {}, "ulimit -l unlimited"),
        ({}, KUBERNETES, "LimitMEMLOCK"),
    ],
)
def test_a_low_limit_of_locked_memory(
    plant: Plant, marks: Mapping[str, str], environment: Mapping[str, str], remedy: str
) -> None:
    root = plant({**marks, "proc/self/status": "Name:\tx\nCapEff:\t00000000a80425fb\n"})
    found = check("locked memory", needs(*EIGHT), root, memlock_bytes=8 * MIB, environment=environment)
    assert found.outcome == "warning"
    assert "only 8 MiB may be locked" in found.sentence
    assert remedy in found.remedy


def test_locked_memory_that_is_no_matter(plant: Plant) -> None:
    root = plant({"proc/self/status": "CapEff:\t000001ffffffffff\n"})
    assert check("locked memory", needs(*EIGHT), root, memlock_bytes=8 * MIB).outcome == "ok"  # a capability lifts it
    assert check("locked memory", needs(*EIGHT), root / "nowhere", memlock_bytes=None).outcome == "ok"
    assert check("locked memory", needs(), root, memlock_bytes=0).outcome == "skipped"


# --- the kernel, the driver, the environment ---------------------------------------------------------------------


@pytest.mark.parametrize(("text", "outcome"), [("1\n", "warning"), ("0\n", "ok"), ("2\n", "ok"), ("", "ok")])
def test_numa_balancing(plant: Plant, text: str, outcome: str) -> None:
    found = check("numa balancing", needs(), plant({"proc/sys/kernel/numa_balancing": text}))
    assert found.outcome == outcome
    assert found.remedy == ("sudo sysctl kernel.numa_balancing=0" if outcome == "warning" else "")


def test_numa_balancing_is_the_host_s_to_change(plant: Plant) -> None:
    found = check("numa balancing", needs(), plant({**DOCKER, "proc/sys/kernel/numa_balancing": "1\n"}))
    assert found.remedy == "on the host: sudo sysctl kernel.numa_balancing=0"


IOMMU = {"sys/class/iommu/ivhd0/x": ""}


@pytest.mark.parametrize(
    ("files", "outcome"),
    [
        ({}, "ok"),
        ({"proc/cmdline": "quiet"}, "ok"),
        ({**IOMMU, "proc/cmdline": "quiet"}, "warning"),
        ({**IOMMU, "proc/cmdline": "quiet iommu=pt"}, "ok"),
        ({**IOMMU, "proc/cmdline": "amd_iommu=off"}, "ok"),
        ({**IOMMU, "proc/cmdline": "amd_iommu=on"}, "warning"),
        ({**IOMMU, "sys/bus/pci/devices/0000:01:00.0/iommu_group/type": "identity\n"}, "ok"),
        ({**IOMMU, "proc/cmdline": "iommu=pt", "sys/bus/pci/devices/0000:01:00.0/iommu_group/type": "DMA-FQ\n"},
         "warning"),
    ],
)  # fmt: skip
def test_the_iommu_between_gpus_on_pcie(plant: Plant, files: Mapping[str, str], outcome: str) -> None:
    found = check("iommu", needs(gpu(0), gpu(1)), plant(files))
    assert found.outcome == outcome
    assert ("iommu=pt" in found.remedy) is (outcome == "warning")


def test_the_iommu_does_not_matter_to_xgmi_or_to_one_gpu(plant: Plant) -> None:
    root = plant({**IOMMU, "proc/cmdline": "quiet"})
    linked = needs(gpu(0, xgmi_peers=(1,)), gpu(1, xgmi_peers=(0,)))
    assert check("iommu", linked, root).sentence == "the GPUs reach each other over XGMI"
    assert check("iommu", needs(gpu(0, xgmi_peers=(5,)), gpu(1, xgmi_peers=(6,))), root).outcome == "warning"
    assert check("iommu", needs(), root).outcome == "skipped"


def test_two_hives_reach_each_other_over_pcie(plant: Plant) -> None:
    root = plant(IOMMU)
    hives = [gpu(n, xgmi_peers=tuple(peer for peer in range(4 * (n // 4), 4 * (n // 4) + 4) if peer != n))
             for n in range(8)]  # fmt: skip
    assert check("iommu", needs(*hives), root).outcome == "warning"
    assert check("iommu", needs(*hives[:4]), root).sentence == "the GPUs reach each other over XGMI"


def test_gpus_of_several_kinds_are_not_used_together(plant: Plant) -> None:
    pair = gpu(0, xgmi_peers=(1,)), gpu(1, xgmi_peers=(0,))
    assert check("iommu", needs(*pair, gpu(2, product="MI210")), plant(IOMMU)).outcome == "ok"


def test_partitions_of_one_package_need_no_way_out_of_it(plant: Plant) -> None:
    found = check("iommu", needs(*parts(1)), plant(IOMMU))
    assert (found.outcome, found.sentence) == ("ok", "the GPUs are parts of one package")


@pytest.mark.parametrize(
    ("amdgpu", "rocm", "engine", "outcome"),
    [
        ("6.14.14\n", "7.0.0-38\n", None, "ok"),
        ("6.12.12\n", "7.2.4\n", None, "ok"),
        ("6.16.13\n", "10.1.0\n", None, "ok"),
        ("6.7.0\n", "7.0.0\n", None, "warning"),
        ("6.12.12\n", "10.1.0\n", None, "warning"),
        ("6.16.6\n", "6.1.3\n", None, "warning"),
        ("6.3.6\n", None, "0.18.1+rocm700", "warning"),
        ("6.3.6\n", None, "0.9.0+rocm612", "ok"),
        ("6.3.6\n", None, "0.16.0+gabc.rocm7.12.0", "warning"),
        ("6.16.6\n", None, "0.9.0+rocm612", "warning"),
        ("6.16.6\n", None, "0.27.0+rocm1010", "skipped"),
        ("6.3.6\n", None, "0.18.1", "skipped"),
        ("6.3.6\n", None, None, "skipped"),
        ("6.18.3\n", "7.0.0\n", None, "skipped"),
        (None, "7.0.0\n", None, "skipped"),
        ("what\n", "ever\n", None, "skipped"),
    ],
)
def test_the_driver_against_rocm(
    plant: Plant, amdgpu: str | None, rocm: str | None, engine: str | None, outcome: str
) -> None:
    files = {"sys/module/amdgpu/version": amdgpu, "opt/rocm/.info/version": rocm}
    root = plant({name: text for name, text in files.items() if text is not None})
    assert check("driver", needs(engine_version=engine), root).outcome == outcome


def test_the_remedy_for_a_driver_that_is_too_far_away(plant: Plant) -> None:
    old = plant({"sys/module/amdgpu/version": "6.7.0\n", "opt/rocm/.info/version": "7.0.0\n"})
    found = check("driver", needs(), old)
    assert found.sentence.startswith("driver amdgpu 6.7.0 and ROCm 7.0 are further apart")
    assert found.remedy == "use an image with ROCm 5.7 to 6.4, or update the host's driver"


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        ({}, ""),
        ({"HSA_XNACK": "0", "HSA_OVERRIDE_GFX_VERSION": ""}, ""),
        ({"HSA_XNACK": "1"}, "unset HSA_XNACK, unless"),
        ({"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}, "unset HSA_OVERRIDE_GFX_VERSION, unless"),
    ],
)
def test_variables_that_mislead(tmp_path: Path, environment: Mapping[str, str], remedy: str) -> None:
    found = check("variables", needs(), tmp_path, environment=environment)
    assert found.remedy.startswith(remedy)
    assert found.outcome == ("warning" if remedy else "ok")


# --- disk, cache, model, ports -----------------------------------------------------------------------------------


def test_a_cache_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mtime_ns
    assert check("cache", needs(cache_dir=tmp_path), tmp_path).outcome == "ok"
    assert check("cache", needs(cache_dir=tmp_path / "a/b"), tmp_path).sentence.endswith("a/b will be made")
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_mtime_ns == before


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below", Path("/proc/nowhere")):
        found = check("cache", needs(cache_dir=folder), tmp_path)
        assert (found.outcome, found.code) == ("error", 42), folder
        assert "AIM_CACHE_DIR" in found.remedy


def test_a_disk_that_is_too_small_for_the_weights(tmp_path: Path) -> None:
    wanted = needs(checkpoint=replace(CHECKPOINT, folder=tmp_path / "hub"))
    found = check("disk", wanted, tmp_path, space=space(100 * GIB, 20 * GIB))
    assert (found.outcome, found.code) == ("error", 42)
    assert found.sentence == f"61.0 GiB of org/m are still to be fetched to {tmp_path}/hub, and only 20.0 GiB are free"
    assert check("disk", wanted, tmp_path, space=space(100 * GIB)).outcome == "ok"


def test_a_size_that_is_only_reckoned_is_no_reason_to_stop(tmp_path: Path) -> None:
    wanted = needs(checkpoint=replace(CHECKPOINT, folder=tmp_path, reckoned=True))
    assert check("disk", wanted, tmp_path, space=space(GIB)).outcome == "warning"


def test_weights_that_are_here_need_no_disk(tmp_path: Path) -> None:
    here = replace(CHECKPOINT, presence="whole", missing_bytes=0)
    assert check("disk", needs(checkpoint=here), tmp_path, space=space(0)).outcome == "skipped"
    assert check("model access", needs(checkpoint=here, offline=True), tmp_path).outcome == "ok"


def test_a_read_only_place_without_the_weights(tmp_path: Path) -> None:
    wanted = needs(checkpoint=replace(CHECKPOINT, folder=tmp_path / "hub"))
    found = check("disk", wanted, tmp_path, space=space(100 * GIB, read_only=True))
    assert (found.outcome, found.code) == ("error", 42)
    assert "which uid 1000 cannot write" in found.sentence


def test_a_model_of_unknown_size_is_not_judged(tmp_path: Path) -> None:
    unknown = replace(CHECKPOINT, folder=tmp_path, size_bytes=None, missing_bytes=None)
    assert check("disk", needs(checkpoint=unknown), tmp_path, space=space(1)).outcome == "skipped"
    assert check("disk", needs(), tmp_path).sentence == "there is no plan for a model"


@pytest.mark.parametrize(
    ("changes", "has_token", "outcome"),
    [
        ({"gated": True}, False, "error"),
        ({"gated": True}, True, "ok"),
        ({"gated": False}, False, "ok"),
        ({"gated": None}, False, "skipped"),
        ({"gated": True, "presence": "whole"}, False, "ok"),
    ],
)
def test_a_token_for_a_gated_model(tmp_path: Path, changes: dict[str, Any], has_token: bool, outcome: str) -> None:
    wanted = needs(checkpoint=replace(CHECKPOINT, **changes), has_token=has_token)
    found = check("model access", wanted, tmp_path)
    assert (found.outcome, found.code) == (outcome, 40 if outcome == "error" else 0)
    assert ("HF_TOKEN" in found.remedy) is (outcome == "error")


def test_offline_without_the_weights(tmp_path: Path) -> None:
    absent = check("model access", needs(checkpoint=CHECKPOINT, offline=True, has_token=True), tmp_path)
    assert (absent.outcome, absent.code) == ("error", 40)
    assert absent.sentence == "AIM_OFFLINE=1, and /cache/hub does not hold org/m"
    assert absent.remedy.startswith(
        "fetch it where there is a network: HF_HUB_CACHE=/cache/hub hf download org/m, mount"
    )
    part = replace(CHECKPOINT, presence="part")
    assert check("model access", needs(checkpoint=part, offline=True), tmp_path).outcome == "warning"
    assert check("model access", needs(), tmp_path).outcome == "skipped"


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = holder.getsockname()[1], other.getsockname()[1]
        other.close()
        found = check("ports", needs(port=free, health_port=port), tmp_path)
    assert (found.outcome, found.code) == ("error", 10)
    assert found.sentence.startswith(f"AIM_HEALTH_PORT={port}: the port is taken by pid {os.getpid()}")
    assert check("ports", needs(port=free, health_port=port), tmp_path).outcome == "ok"


# --- all together ------------------------------------------------------------------------------------------------


def test_every_check_has_the_name_it_is_listed_by(tmp_path: Path) -> None:
    found = look(needs(*EIGHT, checkpoint=CHECKPOINT), Site(root=tmp_path))
    assert [one.name for one in found] == list(CHECKS)
    assert [one.name for one in look(needs(), Site(root=tmp_path), without=("cache", "ports"))] == [
        name for name in CHECKS if name not in ("cache", "ports")
    ]


def test_of_another_machine_only_the_model_is_judged(tmp_path: Path) -> None:
    gated = needs(*EIGHT, checkpoint=replace(CHECKPOINT, gated=True))
    found = {one.name: one for one in look_from_elsewhere(gated, Site(root=tmp_path))}
    assert found.pop("model access").code == 40
    assert {one.sentence for one in found.values()} == {"not this machine"}


def test_a_check_that_cannot_look_does_not_stop_a_start(tmp_path: Path) -> None:
    def broken(_: Path) -> Space:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    wanted = needs(checkpoint=replace(CHECKPOINT, folder=tmp_path))
    found = {one.name: one for one in look(wanted, Site(root=tmp_path, space=broken))}
    assert found["disk"].outcome == "skipped"
    assert "Input/output error" in found["disk"].sentence


def finding(outcome: Any, code: int = 0, name: str = "x") -> Check:
    return Check(name=name, outcome=outcome, sentence=f"{name} is so", remedy=f"mend {name}", code=code)


def test_the_gravest_error_is_the_error_and_the_others_are_its_details() -> None:
    checks = [finding("warning"), finding("error", 10, "port"), finding("error", 42, "disk"), finding("error", 21, "m")]
    error = error_of(checks)
    assert isinstance(error, DoesNotFitError)
    assert (error.message, error.hint) == ("m is so", "mend m")
    assert error.details == ("port is so; remedy: mend port", "disk is so; remedy: mend disk")
    assert isinstance(error_of([finding("error", 30), finding("error", 42)]), CacheError)
    assert isinstance(error_of([finding("error", 42), finding("error", 20)]), NoAcceleratorError)


def test_without_an_error_a_warning_is_the_worst_and_stops_nothing() -> None:
    checks = [finding("ok"), finding("warning", name="w"), finding("skipped")]
    assert error_of(checks) is None
    assert worst(checks) == checks[1]
    assert worst([finding("ok"), finding("skipped")]) is None


def test_this_very_machine_can_be_asked(tmp_path: Path) -> None:
    found = look(needs(CPU, cache_dir=tmp_path), this_site({}), without=("ports",))
    assert {one.outcome for one in found} <= {"ok", "skipped"}


FILES = ["proc/meminfo", "proc/cmdline", "proc/self/status", "proc/self/cgroup", "proc/sys/kernel/numa_balancing",
         "sys/module/amdgpu/version", "opt/rocm/.info/version", "etc/group",
         "sys/bus/pci/devices/0000:01:00.0/iommu_group/type"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FILES), st.binary(max_size=60)), st.text(max_size=20))
@examples(200)
def test_damaged_files_never_end_in_an_exception(
    tmp_path_factory: pytest.TempPathFactory, files: Mapping[str, bytes], version: str
) -> None:
    root = tmp_path_factory.mktemp("host")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    wanted = needs(*EIGHT, checkpoint=CHECKPOINT, engine_version=version)
    assert len(preflight.look(wanted, Site(root=root, memlock_bytes=1), without=("ports", "cache"))) == len(CHECKS) - 2


# --- a recorded host ---------------------------------------------------------------------------------------------


def test_a_recorded_host_says_itself_who_may_open_what(tmp_path: Path) -> None:
    root = plant_host(read_host("render-nodes-partly-closed"), tmp_path)
    gpus = KfdDetector().detect(Surroundings(root=root, environment={})).gpus
    found = {one.name: one for one in look_from_elsewhere(needs(*gpus), Site(), recorded=recorded_site(root))}
    assert found["devices"].sentence == (
        "/dev/dri/renderD128 and /dev/dri/renderD152 cannot be opened by who recorded it: permission denied"
    )
    assert "--group-add 109" in found["devices"].remedy
    others = {one.sentence for name, one in found.items() if name not in ("devices", "model access")}
    assert others == {"not this machine"}
    (root / ".dockerenv").touch()
    again = look_from_elsewhere(needs(*gpus), Site(), recorded=recorded_site(root))
    assert next(one for one in again if one.name == "devices").remedy == "start the container with --group-add 109"


def test_a_recorded_mode_bars_the_group(tmp_path: Path) -> None:
    root = plant_host(read_host("render-nodes-closed"), tmp_path)
    said = {"/dev/dri/renderD128": {"opens": False, "group": 109, "mode": "0600"}}
    (root / "recording.json").write_text(json.dumps({"device_nodes": said}))
    closed_one = gpu(0, render_node="/dev/dri/renderD128")
    found = {one.name: one for one in look_from_elsewhere(needs(closed_one), Site(), recorded=recorded_site(root))}
    assert "chmod g+rw /dev/dri/renderD128" in found["devices"].remedy
