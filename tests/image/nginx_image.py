"""A real nginx in an image for the tests: the one that AIM_TEST_NGINX_IMAGE names, or Debian's own package, which needs
no registry. In: an image to build on; out: an image's name, or the reason why there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.image.containers import LABEL, docker

NAME = f"{LABEL}-nginx"
# wget is what the health check asks with; the others are what it is linked with and a small system lacks.
_PACKAGES = ("nginx", "wget", "libidn2-0", "libunistring2", "libunistring5", "libpsl5", "libpsl5t64")
_KEPT = ("usr/sbin/nginx", "usr/bin/wget", "usr/lib")
_INSTALLED = """\
FROM {base}
RUN apt-get update && apt-get install -y --no-install-recommends nginx wget
"""


def nginx_image(base: str, folder: Path) -> str | None:
    """Make it on the base, with this machine's apt or, where the base is another system, with its own."""
    named = os.environ.get("AIM_TEST_NGINX_IMAGE")
    if named:
        return named
    if _unpacked(folder):
        (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY root/ /\n")
        if _built(folder):
            return NAME
    (folder / "Dockerfile").write_text(_INSTALLED.format(base=base))
    return NAME if _built(folder) else None


def _unpacked(folder: Path) -> bool:
    """The files of Debian's packages, without their scripts, in `root`."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return False
    for name in _PACKAGES:  # one at a time: of two spellings a release has one
        subprocess.run(["apt-get", "download", name], cwd=folder, capture_output=True, timeout=120, check=False)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, folder / "all"], check=True, timeout=60)
    for kept in _KEPT:
        source, target = folder / "all" / kept, folder / "root" / kept
        if not source.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    return True


def _built(folder: Path) -> bool:
    built = docker("build", "--label", LABEL, "--tag", NAME, str(folder), check=False, seconds=300)
    works = ["run", "--rm", "--network", "none", NAME, "sh", "-c", "nginx -v && wget --version"]
    return built.returncode == 0 and docker(*works, check=False).returncode == 0
