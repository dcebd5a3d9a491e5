"""Recorded machines for the hardware tests: small trees of files as the kernel shows them, built in a fresh folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

Plant = Callable[[Mapping[str, str]], Path]
Nobody = Callable[[], AbstractContextManager[None]]

_NOBODY = 54321  # an id that no user and no group has


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Write files (path below the root → content) and return the root."""

    def write(files: Mapping[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def nobody() -> Nobody:
    """To be a user without any right, for a while; only root can."""
    if os.getuid() != 0:
        pytest.skip("needs root")

    @contextmanager
    def become() -> Iterator[None]:
        groups = os.getgroups()
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, 0)
        os.setresuid(_NOBODY, _NOBODY, 0)
        try:
            yield
        finally:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
            os.setgroups(groups)

    return become


def has_ended(pid: str) -> bool:
    """Killed a moment ago, so it may still be about to go, or wait for somebody to take note."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False
