"""Which endpoints are meant: all that there are, and a typed name, id, model or folder in; those that are meant out.

Pure, but for `find_endpoint`. Where a typed path is a folder is told: `folders` is what Docker's host may call it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from aim_engine.deploy.endpoints import Endpoint, printable
from aim_engine.deploy.listing import list_endpoints
from aim_engine.errors import InputError

if TYPE_CHECKING:
    from docker import DockerClient

_SHORTEST_ID = 4  # of the digits of a container's id, as a person types them


def checked_names(names: Iterable[Any]) -> tuple[str, ...]:
    """Names of endpoints.

    Raises:
        InputError: one is no text.
    """
    found = tuple(names)
    for one in found:
        if not isinstance(one, str):
            raise InputError(f"{repr(one)[:80]} is no endpoint's name", hint="give a name, an id or a model as text")
    return found


def find_endpoint(client: DockerClient, name: str) -> Endpoint:
    """The one that is meant: by its container's name, the beginning of its id, or a model that only it serves.

    Raises:
        InputError: there is none, or there are several.
    """
    return choose(list_endpoints(client, all=True), name)


def choose(endpoints: Iterable[Endpoint], name: str, folders: Collection[str] = ()) -> Endpoint:
    """The one of them that is meant.

    Raises:
        InputError: there is none, or there are several.
    """
    known = tuple(endpoints)
    for meant in (_by_name(known, name), _by_id(known, name), _by_model(known, name, folders)):
        if len(meant) == 1:
            return meant[0]
        if meant:
            names = ", ".join(one.name for one in meant)
            raise InputError(
                f"{printable(name)} could be any of {len(meant)}: {names}",
                hint="name one of them; stop takes them all with --replicas",
            )
    raise InputError(f"there is no endpoint {printable(name)}", hint=_near(known, name))


def _by_name(known: tuple[Endpoint, ...], wanted: str) -> list[Endpoint]:
    return [one for one in known if one.name == wanted]


def _by_id(known: tuple[Endpoint, ...], wanted: str) -> list[Endpoint]:
    if len(wanted) < _SHORTEST_ID or not re.fullmatch(r"[0-9a-f]+", wanted):
        return []
    return [one for one in known if one.container_id.startswith(wanted)]


def _by_model(known: tuple[Endpoint, ...], wanted: str, folders: Collection[str]) -> list[Endpoint]:
    """Those that run, if any do: what has ended is not what a model's name means."""
    found = serving(known, wanted, folders)
    return [one for one in found if one.is_running] or found


def serving(known: Iterable[Endpoint], wanted: str, folders: Collection[str] = ()) -> list[Endpoint]:
    """All that serve a model: of that folder, else of that name; but where a relative path is a folder here, not those
    that serve another folder by the same words.
    """
    every = list(known)
    if same := [one for one in every if one.model_folder in folders]:
        return same
    here = bool(folders) and not wanted.startswith("/")
    named = (one for one in every if one.model and one.model.lower() == wanted.lower())
    return [one for one in named if not (here and one.model_folder)]


def _near(known: tuple[Endpoint, ...], wanted: str) -> str:
    if not known:
        return "no container of AIM Engine is on this host; aim-engine list --all shows them"
    names = {one.name.lower(): one.name for one in known} | {one.model.lower(): one.name for one in known if one.model}
    close = difflib.get_close_matches(wanted.lower(), names, n=3, cutoff=0.5)
    part = [key for key in names if wanted and wanted.lower() in key]
    near = list(dict.fromkeys(names[key] for key in (*close, *part)))[:3]
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{meant}aim-engine list --all shows them all"


def choose_replicas(endpoints: Iterable[Endpoint], name: str, folders: Collection[str] = ()) -> list[Endpoint]:
    """All that were launched together with the one of that name or id; all that serve the model of that name or folder.

    Raises:
        InputError: there is none.
    """
    known = tuple(endpoints)
    if found := serving(known, name, folders):
        return found
    meant = choose(known, name, folders)
    return [one for one in known if one == meant or (meant.replica_group and one.replica_group == meant.replica_group)]
