"""The host's CPU from recorded trees, the limits of control groups, and this very machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.hardware.cgroup import CgroupLimits, read_limits, read_text
from aim_engine.hardware.cpu import CpuDetector, parse_cpu_list, read_host, survey_host
from aim_engine.hardware.inventory import Host, Surroundings
from tests.hardware.conftest import Plant

GIB = 2**30
EPYC = {
    "proc/meminfo": "MemTotal:       1056771072 kB\nMemFree:  5 kB\nMemAvailable:   1048576000 kB\n",
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni\n\nprocessor\t: 1\n",
    "sys/devices/system/cpu/online": "0-191\n",
    "sys/devices/system/node/node0/cpulist": "0-95\n",
    "sys/devices/system/node/node1/cpulist": "96-191\n",
    "sys/devices/system/node/node2/cpulist": "\n",  # memory without cores (CXL)
}
GRACE = {
    "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
    "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\nCPU part\t: 0xd4f\n",
    "sys/devices/system/cpu/online": "0-3,8\n",
    "sys/devices/system/node/node0/cpulist": "0-8\n",
}


def survey(root: Path) -> tuple[Host, tuple[str, ...]]:
    return survey_host(Surroundings(root=root, environment={}))


def test_a_server_without_limits(plant: Plant) -> None:
    host, notes = survey(plant(EPYC))
    assert host == Host(
        cores=192,
        numa_nodes=2,
        memory_bytes=1056771072 * 1024,
        memory_available_bytes=1048576000 * 1024,
        architecture="x86_64",
        isa=("avx2", "avx512f", "avx512_bf16", "avx512_vnni"),
    )
    assert notes == ()


def test_an_arm_host(plant: Plant) -> None:
    host, notes = survey(plant(GRACE))
    assert (host.architecture, host.isa, host.cores) == ("aarch64", ("asimd", "bf16", "sve", "i8mm"), 5)
    assert (host.memory_bytes, host.memory_available_bytes, notes) == (16 * GIB, 8 * GIB, ())


V2 = {"proc/self/cgroup": "0::/kubepods/pod1/main\n"}
V1 = {"proc/self/cgroup": "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n"}


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, CgroupLimits()),
        (
            V2
            | {
                "sys/fs/cgroup/kubepods/pod1/main/memory.max": "max\n",
                "sys/fs/cgroup/kubepods/pod1/main/cpu.max": "max 100000\n",
                "sys/fs/cgroup/kubepods/pod1/memory.max": f"{8 * GIB}\n",
                "sys/fs/cgroup/kubepods/pod1/memory.current": f"{6 * GIB}\n",
                "sys/fs/cgroup/kubepods/pod1/memory.stat": f"anon 1\ninactive_file {5 * GIB}\n",
                "sys/fs/cgroup/kubepods/pod1/cpu.max": "350000 100000\n",
                "sys/fs/cgroup/kubepods/memory.max": f"{64 * GIB}\n",
                "sys/fs/cgroup/kubepods/cpu.max": "800000 100000\n",
            },
            CgroupLimits(cpus=3.5, memory_bytes=8 * GIB, memory_free_bytes=7 * GIB),
        ),
        (  # a namespace of its own: the group is the mount
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": f"{GIB}",
                "sys/fs/cgroup/cpu.max": "50000 100000",
            },
            CgroupLimits(cpus=0.5, memory_bytes=GIB, memory_free_bytes=GIB),
        ),
        (  # no namespace of its own: the path is the host's, the mount is the container's group
            V2 | {"sys/fs/cgroup/memory.max": f"{GIB}"},
            CgroupLimits(memory_bytes=GIB, memory_free_bytes=GIB),
        ),
        ({"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/cpu.max": "100000 100000"}, CgroupLimits(cpus=1.0)),
        (
            V1
            | {
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{4 * GIB}\n",
                "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            },
            CgroupLimits(cpus=2.0, memory_bytes=4 * GIB, memory_free_bytes=3 * GIB),
        ),
        (V2 | {"sys/fs/cgroup/memory.max": "garbage", "sys/fs/cgroup/cpu.max": "1 0"}, CgroupLimits()),
        ({"proc/self/cgroup": "nonsense\n\n::\n"}, CgroupLimits()),
    ],
)
def test_control_groups(plant: Plant, files: Mapping[str, str], limits: CgroupLimits) -> None:
    assert read_limits(plant(files)) == limits


def test_limits_cut_the_host_down(plant: Plant) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{64 * GIB}",
        "sys/fs/cgroup/memory.current": f"{16 * GIB}",
        "sys/fs/cgroup/cpu.max": "450000 100000",
    }
    host, _ = survey(plant(EPYC | files))
    assert (host.cores, host.cgroup_cpu_limit) == (4, 4.5)
    assert (host.memory_bytes, host.cgroup_memory_limit_bytes) == (64 * GIB, 64 * GIB)
    assert host.memory_available_bytes == 48 * GIB


def test_a_limit_above_the_memory_limits_nothing(plant: Plant) -> None:
    host, _ = survey(plant(GRACE | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{64 * GIB}"}))
    assert (host.memory_bytes, host.memory_available_bytes) == (16 * GIB, 8 * GIB)
    assert host.cgroup_memory_limit_bytes is None


def test_less_than_a_core_is_still_one(plant: Plant) -> None:
    host, _ = survey(plant(EPYC | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000"}))
    assert (host.cores, host.cgroup_cpu_limit) == (1, 0.2)


def test_an_empty_tree_is_all_notes(tmp_path: Path) -> None:
    host, notes = survey(tmp_path)
    assert (host.cores, host.numa_nodes, host.architecture, host.isa) == (1, 1, "unknown", ())
    assert len(notes) == 4
    finding = CpuDetector().detect(Surroundings(root=tmp_path, environment={}))
    assert not finding.gpus
    assert finding.reason == "the host's memory size cannot be read"
    assert not finding.blocking


@pytest.mark.parametrize("name", sorted(EPYC))
@pytest.mark.parametrize("damage", ["", "\x00\x01", "a: b: c\n", "999999999999999999999999999999\n", "flags\n0-\n-5\n"])
def test_one_damaged_file_never_raises(plant: Plant, name: str, damage: str) -> None:
    host, _ = survey(plant(EPYC | {name: damage}))
    assert host.cores >= 1
    assert host.numa_nodes >= 1


def test_a_folder_in_a_files_place_never_raises(tmp_path: Path) -> None:
    for name in (*EPYC, "proc/self/cgroup", "sys/fs/cgroup/memory.max"):
        (tmp_path / name).mkdir(parents=True)
    assert survey(tmp_path)[0].cores == 1


def test_the_cpu_as_an_accelerator(plant: Plant) -> None:
    (gpu,) = CpuDetector().detect(Surroundings(root=plant(GRACE), environment={})).gpus
    assert (gpu.index, gpu.product, gpu.vendor) == (0, "CPU", "cpu")
    assert (gpu.memory_bytes, gpu.memory_free_bytes) == (16 * GIB, 8 * GIB)


def test_this_machine() -> None:
    host = read_host(Surroundings(environment={}))
    assert 1 <= host.cores <= len(os.sched_getaffinity(0))
    assert host.architecture == os.uname().machine
    assert 0 < host.memory_available_bytes <= host.memory_bytes
    assert host.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("7", {7}), ("", set()), ("x,2", {2}), ("5-3", set()), ("0-99999999999", set())],
)
def test_cpu_lists(text: str, cores: set[int]) -> None:
    assert parse_cpu_list(text) == cores


@given(st.text(alphabet="0123456789,-\n x", max_size=30))
def test_any_cpu_list_is_a_set(text: str) -> None:
    assert all(core >= 0 for core in parse_cpu_list(text))


def pipe(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(root: Path, name: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("odd", [pipe, endless])
def test_what_is_no_file_is_not_read(plant: Plant, odd: Callable[[Path, str], None]) -> None:
    """A pipe would be waited for and a device read for ever: in a process of its own, or this test would hang too."""
    root = plant(EPYC)
    for name in (*EPYC, "proc/self/cgroup", "sys/fs/cgroup/memory.max", "sys/devices/system/node/node0/cpulist"):
        odd(root, name)
    command = [sys.executable, "-c", SURVEY, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split() == ["1", "0", "4"]


SURVEY = """
import pathlib, resource, sys
from aim_engine.hardware.cpu import survey_host
from aim_engine.hardware.inventory import Surroundings
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
host, notes = survey_host(Surroundings(root=pathlib.Path(sys.argv[1]), environment={}))
print(host.cores, host.memory_bytes, len(notes))
"""


def test_a_line_without_an_end_is_read_in_part(plant: Plant) -> None:
    root = plant(EPYC | {"proc/cpuinfo": "flags\t\t: avx2 " + "x" * (1 << 22)})
    started = time.process_time()
    assert survey(root)[0].isa == ("avx2",)
    assert time.process_time() - started < 1
    assert len(read_text(root / "proc/cpuinfo") or "") <= 65536


def test_a_file_of_the_kernels_is_read_in_as_many_pieces_as_it_gives() -> None:
    """A read of /proc gives a page at most, whatever is asked for."""
    whole = Path("/proc/self/mountinfo").read_text()
    assert read_text(Path("/proc/self/mountinfo")) == whole[:65536]
    assert read_text(Path("/proc/self/smaps"), most_bytes=10_000) is not None
    assert len(read_text(Path("/proc/self/smaps"), most_bytes=10_000) or "") == 10_000
    assert read_text(Path("/dev/null")) is None
