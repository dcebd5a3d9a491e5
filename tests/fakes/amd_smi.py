"""Builds the stand-in libamd_smi.so: amd_smi.c plus a "not supported" for every other function the binding names.

In: the folder to build in. Out: the environment in which the real amdsmi package finds it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("amd_smi.c")


def wrapper_symbols() -> frozenset[str]:
    """Every function the installed binding asks of the library; it binds them all while it is imported."""
    spec = importlib.util.find_spec("amdsmi")
    assert spec is not None, "the tests need the amdsmi package: pip install -e .[dev]"
    assert spec.origin is not None
    wrapper = Path(spec.origin).with_name("amdsmi_wrapper.py").read_text()
    return frozenset(re.findall(r"_libraries\['libamd_smi\.so'\]\.(\w+)", wrapper))


def build_library(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    """The stand-in built into `folder`; `without` leaves functions out, as an older ROCm would."""
    written = SOURCE.read_text()
    stubs = sorted(name for name in wrapper_symbols() if not re.search(rf"\b{name}\(", written))
    source = folder / "libamd_smi.c"
    body = "\n".join(f"uint32_t {name}(void) {{ return NOT_SUPPORTED; }}" for name in stubs if name not in without)
    source.write_text(f'#include "{SOURCE}"\n{body}\n')
    library = folder / "libamd_smi.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


def library_environment(library: Path, **pretended: object) -> dict[str, str]:
    """The variables that let amdsmi find `library`, and that say what it shall pretend (the keys of amd_smi.c)."""
    return {
        "LD_LIBRARY_PATH": str(library.parent),
        "AMDSMI_MOCK_STATE_DIR": str(library.parent),
        "FAKE_AMDSMI": ",".join(f"{key}={value}" for key, value in pretended.items()),
    }
