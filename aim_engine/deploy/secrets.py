"""Secrets for a container, as files that only it sees: in, a spec that names them; out, the spec with mounts in their
place, and the files below the launcher's state.

A variable would be shown by `docker inspect` to everybody who may use Docker; a file's name is all that it shows here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aim_engine.deploy.inside import Mount
from aim_engine.deploy.spec import LABEL, ContainerSpec
from aim_engine.errors import CacheError
from aim_engine.request import SETTINGS, Request

INSIDE = "/run/secrets"  # where Docker's own secrets are found too
SECRETS = LABEL + "secrets"  # the label that names a container's folder: whose a folder is, docker ps --filter says
OF_A_USER = ("aim-engine", "secrets")
_FILES = {setting.variable: setting.file_variable for setting in SETTINGS if setting.file_variable}


def secrets_name(container: str, token: str) -> str:
    """The folder's name for a container of the launch with that token. Its name alone is not enough: a container can
    be renamed, and on another engine another one has the same.
    """
    return f"{container}.{token}"


def secrets_folder(environment: Mapping[str, str], name: str) -> Path:
    """`~/.local/state/aim-engine/secrets/<name>`, or below XDG_STATE_HOME (XDG base directory specification)."""
    state = environment.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):  # the specification: a relative path is to be ignored
        home = environment.get("HOME", "")
        state = f"{home}/.local/state" if home.startswith("/") else f"/tmp/aim-engine-{os.getuid()}/state"  # noqa: S108
    return Path(state, *OF_A_USER, name)


def secret_values(request: Request) -> dict[str, str]:
    """The secrets that were given, by variable; and what else a container's spec only names."""
    found = {setting.variable: getattr(request, setting.field) for setting in SETTINGS if setting.secret}
    found["HF_ENDPOINT"] = request.environment.get("HF_ENDPOINT")
    return {name: value for name, value in found.items() if value}


def with_secret_files(spec: ContainerSpec, values: Mapping[str, str], folder: Path) -> ContainerSpec:
    """The same container, with its secrets mounted from the folder and named by their `_FILE` variables, and the folder
    named by its label.
    """
    names = [one.name for one in spec.passed if one.name in _FILES and one.name in values]
    files = {str(_FILES[name]): f"{INSIDE}/{name}" for name in names}
    mounts = (Mount(source=str(folder / name), target=f"{INSIDE}/{name}", read_only=True) for name in names)
    return replace(
        spec,
        passed=tuple(one for one in spec.passed if one.name not in names),
        environment={**spec.environment, **files},
        mounts=(*spec.mounts, *mounts),
        labels={**spec.labels, **({SECRETS: folder.name} if names else {})},
    )


def write_secrets(folder: Path, values: Mapping[str, str]) -> None:
    """One file for each secret. The folder is this user's alone; the files in it are readable by all, because in the
    container root without capabilities, or any user, must read them.

    Raises:
        CacheError: they cannot be written.
    """
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink():
            folder.unlink()
        shutil.rmtree(folder, ignore_errors=True)  # of an earlier attempt of this launch
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)
        for name in _FILES.keys() & values.keys():
            # never readable by others through a parent folder: the folder was closed before the file was made
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(values[name] + "\n")
                os.fchmod(descriptor, 0o644)
    except OSError as error:
        remove_folder(folder)
        raise CacheError(
            f"{folder}, where the container's secrets would be, cannot be written: {error.strerror}",
            hint="set XDG_STATE_HOME to a folder that you may write",
        ) from None


def remove_secrets(environment: Mapping[str, str], name: str) -> bool:
    """Forget the secrets of a container that is gone; True where there were any. For whoever removes a container."""
    if not name or "/" in name or name in (".", ".."):
        return False
    return remove_folder(secrets_folder(environment, name))


def remove_folder(folder: Path) -> bool:
    """Remove a container's folder of secrets, if it is there."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            return False
    except OSError:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
