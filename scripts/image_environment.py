"""Run by the image's build with a base's python. `has ENGINE`: exit status 0 when that python has it. `make FOLDER
BUILD`: an environment in FOLDER/venv that sees every package of the base, and holds only what the base lacks of the
dependencies in BUILD/pyproject.toml, from BUILD's wheels where they suffice.

Nothing of the base changes: what is installed is held to the base's versions, and a package that would take the place
of one of the base's ends the build.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

LAUNCHER = """#!{python}
import sys

from aim_engine.cli.main import main

sys.exit(main())
"""


def main(arguments: list[str]) -> int:
    if arguments[0] == "has":
        return 0 if installed().keys() & {arguments[1], f"{arguments[1]}-cpu"} else 1
    folder, build = Path(arguments[1]), Path(arguments[2])
    if sys.version_info < (3, 11):  # noqa: UP036 - an older base may be named
        sys.exit(f"the base's {sys.executable} is Python {sys.version.split()[0]}; AIM Engine needs 3.11 or newer")
    make(folder, build)
    return 0


def installed(*path: str) -> dict[str, str]:
    """Names and versions of the distributions on an import path, or on ours. The first of a name is what is imported:
    Debian's own may stand behind it, in another folder.
    """
    found: dict[str, str] = {}
    for each in metadata.distributions(path=list(path)) if path else metadata.distributions():
        if name := each.metadata["Name"]:
            found.setdefault(str(name).lower().replace("_", "-"), each.version)
    return found


def make(folder: Path, build: Path) -> None:
    of_base = installed()
    environment = folder / "venv"
    venv.EnvBuilder(system_site_packages=True, with_pip=False, symlinks=True).create(environment)
    python = environment / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)}))
    (site / "aim-engine.pth").write_text(f"{folder}/src\n")
    if sys.prefix != sys.base_prefix:  # the base's vLLM is in an environment itself, which a new one does not see
        lines = [f"import site; site.addsitedir({sysconfig.get_path(kind)!r})" for kind in ("purelib", "platlib")]
        (site / "base.pth").write_text("\n".join(dict.fromkeys(lines)) + "\n")
    install(python, build, of_base)
    shadowing = installed(str(site)).keys() & of_base.keys()
    if shadowing:
        sys.exit(f"the base's {', '.join(sorted(shadowing))} would have been replaced; take a newer base")
    launcher = environment / "bin" / "aim-engine"
    launcher.write_text(LAUNCHER.format(python=python))
    launcher.chmod(0o755)
    subprocess.run([python, "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash", site], check=True)
    print("installed beside the base's packages:", ", ".join(sorted(installed(str(site)))) or "none")


def install(python: Path, build: Path, of_base: dict[str, str]) -> None:
    """Install what is lacking: from the wheels, and if they do not suffice, as pip is configured."""
    import tomllib

    project = tomllib.loads((build / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["stacks"]
    held = build / "versions-of-the-base.txt"
    held.write_text("".join(f"{name}=={version}\n" for name, version in of_base.items()))
    pip = [str(python), "-m", "pip"]
    if subprocess.run([*pip, "--version"], check=False, capture_output=True).returncode != 0:
        subprocess.run([python, "-m", "ensurepip"], check=True)
    command = [
        *pip,
        "install",
        "--no-compile",
        "--no-input",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
    ]
    command += ["--constraint", str(held), *wanted]
    offline = [*command, "--no-index", "--find-links", str(build)]
    if subprocess.run(offline, check=False, capture_output=True).returncode == 0:
        return
    print("the wheels in build/wheels do not suffice; asking pip's index", flush=True)
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("pip cannot install what the base lacks; scripts/build downloads it outside of the container")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
