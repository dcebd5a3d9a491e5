"""What containers and images may be called: a plan or a typed name in, a name that Docker takes out.

Pure text. Knows no container.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import ip_address
from pathlib import Path

from aim_engine.errors import InputError
from aim_engine.plan import Plan
from aim_engine.values import slug

# A container's name is also its host name on a compose network, and a DNS label has 63 characters (RFC 1035).
_LONGEST_NAME = 63
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", re.ASCII)  # moby/moby, daemon/names: RestrictedNamePattern
HOST_NETWORK = "host"
# distribution/reference, reference.go and regexp.go: a host and its port, a path of small letters, a tag, a digest
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?/"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?=.{{1,512}}\Z)(?:{_HOST})?{_PART}(?:/{_PART})*(?::\w[\w.-]{{0,127}})?(?:@[a-z][a-z0-9+._-]*:[0-9a-f]{{32,}})?",
    re.ASCII,
)
_LARGEST_ID = 2**31 - 1  # opencontainers/runc, libcontainer/user: maxID
_USER = re.compile(r"\d{1,10}(:\d{1,10})?", re.ASCII)


def container_name(plan: Plan, *, longest: int = _LONGEST_NAME) -> str:
    """`aim-engine-qwen-qwen3-32b-4gpu-bf16-vllm`; a folder gives its last name, a name without letters its digest."""
    winner = plan.winner
    folder = plan.request.model_folder
    model = plan.model if folder is None else Path(folder).absolute().name
    devices = "cpu" if winner.recipe.gpu_type == "CPU" else f"{winner.gpu_count}gpu"
    tail = f"{devices}-{slug(winner.recipe.precision)}-{slug(winner.variant.backend)}"
    room = longest - len(f"aim-engine--{tail}")
    return f"aim-engine-{_short(slug(model), model, max(room, 12))}-{tail}"


def _short(word: str, text: str, room: int) -> str:
    """The word, or where it is empty or too long as much of it as fits and eight digits that tell it from others."""
    if word and len(word) <= room:
        return word
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{word[: room - 9].strip('-') or 'model'}-{digest}"


def checked_name(name: str) -> str:
    """A typed container name.

    Raises:
        InputError: Docker would not take it.
    """
    if _NAME.fullmatch(name) and len(name) <= _LONGEST_NAME:
        return name
    raise InputError(
        f"{name[:80]!r} cannot be the name of a container",
        hint=f"use letters, digits, '_', '.' and '-', beginning with a letter or digit, 2 to {_LONGEST_NAME} in all",
    )


def name_taken(asked: str, name: str, removal: str) -> InputError:
    """The error for a `--name` that makes a container's name which another one has; `removal` would remove that."""
    which = "of that name" if asked == name else name
    return InputError(
        f"--name {asked}: a container {which} is there already",
        hint=f"choose another, or leave it out; {removal} removes that one",
    )


def checked_text(text: str, taker: str, hint: str) -> str:
    """A text that `taker` ("a compose file is") can be given.

    Raises:
        InputError: it is not UTF-8; a path of the file system need not be.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{shown} is not UTF-8, and {taker}", hint=hint) from None
    return text


def checked_image(image: str) -> str:
    """A typed image reference.

    Raises:
        InputError: it cannot be one.
    """
    if _IMAGE.fullmatch(image):
        return image
    raise InputError(
        f"{image[:80]!r} cannot be an image", hint="use a reference such as registry.example.com/aim-engine:1.0"
    )


def checked_network(network: str | None) -> str | None:
    """A typed network: `host`, or the name of one that Docker knows.

    Raises:
        InputError: it cannot be one, or nobody could reach an endpoint on it.
    """
    if network is None:
        return None
    if network == "none" or network.startswith("container:"):
        raise InputError(f"nobody could reach an endpoint on the network {network[:80]!r}", hint="use host, or a name")
    if not _NAME.fullmatch(network):
        raise InputError(f"{network[:80]!r} cannot be a network", hint="docker network ls lists those that exist")
    return network


def numbered(name: str, number: int) -> str:
    """The name of the second, third, ... container of its kind: `name-2`, cut where it would be too long."""
    return ending_in(name, f"-{number}")


def ending_in(name: str, tail: str) -> str:
    """The name with that at its end, cut where it would be too long."""
    return name[: _LONGEST_NAME - len(tail)].rstrip("-._") + tail


def checked_user(user: str | None) -> str | None:
    """A typed `UID` or `UID:GID`. Numbers only: the image need not know the host's names.

    Raises:
        InputError: it is neither.
    """
    if user is None or (_USER.fullmatch(user) and max(map(int, user.split(":"))) <= _LARGEST_ID):
        return user
    raise InputError(f"{user[:80]!r} is not a user id", hint="use UID or UID:GID, for instance $(id -u):$(id -g)")


def publish_address(host: str) -> str:
    """The host's address that ports are published on; Docker wants a number.

    Raises:
        InputError: it is neither an IP address nor localhost.
    """
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or "%" in host:
        raise InputError(
            f"AIM_HOST={host}: a container's ports can be published on an IP address only",
            hint="use 0.0.0.0 for every address of the host, or 127.0.0.1 for this host alone",
        )
    return str(address) if address.version == 4 else f"[{address}]"
