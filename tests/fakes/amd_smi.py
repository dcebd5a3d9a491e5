"""Builds the stand-in libamd_smi.so for one of the real amdsmi packages, and writes what it shall pretend.

In: a package, a folder to build in, and descriptions of GPUs in the words of amd_smi.c. Out: the environment in which
that package finds the stand-in.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aim_engine.hardware.products import Product

SOURCE = Path(__file__).with_name("amd_smi.c")
VERSIONS = ("6.4.4", "7.0.2")
Line = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A real amdsmi package and a stand-in library that has every function it binds."""

    version: str
    package: Path
    library: Path

    def environment(self, gpus: Iterable[Line], **host: object) -> dict[str, str]:
        """The variables that let this package find this library, and the library the description of a host."""
        lines = ["host " + _words({"driver": "6.14.14", **host}), *("gpu " + _words(gpu) for gpu in gpus)]
        with tempfile.NamedTemporaryFile(
            "w", dir=self.library.parent, prefix="host", suffix=".txt", delete=False
        ) as file:
            file.write("\n".join(lines) + "\n")
        return {
            "PYTHONPATH": str(self.package.parent),
            "LD_LIBRARY_PATH": str(self.library.parent),
            "AMDSMI_MOCK_STATE_DIR": str(self.library.parent),
            "FAKE_AMDSMI": file.name,
        }


def _words(line: Line) -> str:
    return " ".join(f"{key}={str(value).replace(' ', '_')}" for key, value in line.items())


# --- the packages ----------------------------------------------------------------------------------------------------


def package(version: str, cache: Path) -> Path:
    """The folder of amdsmi `version`: the installed one, else one that pip puts into `cache`.

    Raises:
        OSError: pip cannot get it; the text says why.
    """
    installed = importlib.util.find_spec("amdsmi")
    assert installed is not None, "the tests need the amdsmi package: pip install -e .[dev]"
    assert installed.origin is not None
    folder = Path(installed.origin).parent
    if f'"{version}"' in (folder / "_version.py").read_text():
        return folder
    kept = cache / f"amdsmi-{version}"
    if not kept.is_dir():
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            _pip_install(version, fresh)
            try:
                (Path(fresh) / "amdsmi").rename(_made(kept) / "amdsmi")
            except OSError:  # another test run was faster
                assert (kept / "amdsmi").is_dir()
    return kept / "amdsmi"


def _pip_install(version: str, folder: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--target", folder, f"amdsmi=={version}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"pip did not get amdsmi {version} within two minutes") from None
    if done.returncode != 0:
        raise OSError(f"pip cannot get amdsmi {version}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


# --- the library -----------------------------------------------------------------------------------------------------


def wrapper_symbols(package: Path) -> frozenset[str]:
    """Every function that the binding asks of the library; it binds them all while it is imported."""
    wrapper = (package / "amdsmi_wrapper.py").read_text()
    return frozenset(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper))


def build(version: str, package: Path, folder: Path, *, without: tuple[str, ...] = ()) -> StandIn:
    """The stand-in for `package`, built into `folder`; `without` leaves functions out, as an older ROCm would."""
    written = SOURCE.read_text()
    stubs = sorted(name for name in wrapper_symbols(package) if not re.search(rf"\b{name}\(", written))
    source = folder / "libamd_smi.c"
    body = "\n".join(f"uint32_t {name}(void) {{ return NOT_SUPPORTED; }}" for name in stubs if name not in without)
    source.write_text(f'#include "{SOURCE}"\n{body}\n')
    library = folder / "libamd_smi.so"
    flags = [f"-DGENERATION={version[0]}", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(source)], check=True)
    return StandIn(version=version, package=package, library=library)


# --- hosts to pretend ------------------------------------------------------------------------------------------------

MI300X: Line = {
    "name": "AMD Instinct MI300X", "device": "0x74a1", "revision": 0, "units": 304, "gfx": "0x942",
    "memory": 206141652992, "used": 0, "compute": "SPX", "memory_mode": "NPS1", "hive": 0,
}  # fmt: skip


def like(product: Product) -> Line:
    """One GPU of a product, as its facts are in our table."""
    device, _, revision = product.device_ids[0].partition(":")
    line: dict[str, object] = {
        "name": product.full_name, "device": device, "revision": f"0x{revision or '00'}",
        "units": product.compute_units, "gfx": product.gfx.replace("gfx", "0x"), "memory": product.memory_bytes,
        "used": 0,
    }  # fmt: skip
    if product.link == "xgmi":
        line["hive"] = 0
    if product.gfx in ("gfx942", "gfx950"):
        line |= {"compute": "SPX", "memory_mode": "NPS1"}
    return line


def host(gpus: Sequence[Line]) -> list[Line]:
    """Whole GPUs in PCI order, each with its own address, KFD node and render node, as an eight-GPU server has them."""
    return [
        {
            "bdf": f"0000:{5 + 16 * place:02x}:00.0", "node": 2 + place, "partition": 0, "render": 128 + 8 * place,
            "numa": place // 4, "serial": f"{0xAB00 + place:016x}",
            "uuid": f"{place:02x}ff74a1-0000-1000-8000-{place:012x}",
            **gpu,
        }
        for place, gpu in enumerate(gpus)
    ]  # fmt: skip


def partitioned(gpus: Sequence[Line], parts: int, **changes: object) -> list[Line]:
    """The same host with every GPU cut into parts: one package each, the partition's number in the PCI function.

    `changes` are for every partition; "units" is divided unless it is among them.
    """
    nodes = itertools.count(2)
    return [
        {
            **gpu,
            "bdf": str(gpu["bdf"])[:-1] + str(part), "node": next(nodes), "partition": part,
            "render": int(str(gpu["render"])) + part, "units": int(str(gpu["units"])) // parts, **changes,
        }
        for gpu in host(gpus)
        for part in range(parts)
    ]  # fmt: skip
