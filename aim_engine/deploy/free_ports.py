"""Which ports of the host an endpoint gets: what containers have or will have, and what else listens, in; two out.

Ports that were named are checked, others are the next free ones of the range. Starts nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from aim_engine.deploy.endpoints import Endpoint
from aim_engine.errors import InputError
from aim_engine.hardware.preflight.ports import check_address, check_port
from aim_engine.request import Request
from aim_engine.values import PortRange

_HEALTH_FROM = 8080  # where people look for it
_OVER = ("exited", "dead")


def ports_of_containers(listed: Iterable[Mapping[str, Any]], endpoints: Iterable[Endpoint]) -> dict[int, str]:
    """Every published port and its container's name: of all that run, and of ours that are about to."""
    taken = {}
    for one in listed:
        names = one.get("Names") or ["/?"]
        for port in one.get("Ports") or ():
            if port.get("PublicPort"):
                taken[int(port["PublicPort"])] = str(names[0]).removeprefix("/")
    for endpoint in endpoints:
        if endpoint.state not in _OVER:
            taken |= {port: endpoint.name for port in (endpoint.port, endpoint.health_port) if port}
    return taken


def with_free_ports(request: Request, taken: Mapping[int, str], *, listens: Callable[[Request, int], bool]) -> Request:
    """The request with both ports: those it named, where they are free, else the next free ones of its range.

    `listens` says whether a program that is no container has a port of the host.

    Raises:
        InputError: a named port is taken, or the whole range is.
    """
    named = {name: getattr(request, name) for name in _VARIABLES if _is_named(request, name)}
    for name, port in named.items():
        who = f"the container {taken[port]}" if port in taken else "another program of the host"
        if port in taken or listens(request, port):
            raise InputError(f"{_VARIABLES[name]}={port}: {who} has that port", hint=_hint(name))
    avoid = {*taken, *named.values()}
    for name, first in _order(request.port_range):
        if name not in named:
            named[name] = _next_free(request, first, avoid, listens, taken)
            avoid.add(named[name])
    return replace(request, **named)


def _order(limits: PortRange) -> tuple[tuple[str, int], ...]:
    """Which port is chosen first, and from where on: the API's, unless the health sidecar has a place of its own."""
    api = ("port", limits.first)
    if limits.first <= _HEALTH_FROM <= limits.last:
        return ("health_port", _HEALTH_FROM), api
    return api, ("health_port", limits.first)


def with_ports_of_each(
    request: Request, count: int, taken: Mapping[int, str], *, listens: Callable[[Request, int], bool]
) -> tuple[Request, ...]:
    """The same for several endpoints at once: a port that was named is the first one's, and the others' follow it.

    Raises:
        InputError: a port is taken, is beyond the last one, or is to be both an API's and a health sidecar's.
    """
    requests = replica_requests(request, count)
    named = {port: f"replica {number} of this launch" for number, one in enumerate(requests, 1) for port in _named(one)}
    found: list[Request] = []
    for one in requests:
        others = {port: who for port, who in named.items() if port not in _named(one)}
        chosen = with_free_ports(one, {**others, **taken}, listens=listens)
        taken = {**taken, chosen.port: "another replica", chosen.health_port: "another replica"}
        found.append(chosen)
    return tuple(found)


def replica_requests(request: Request, count: int) -> tuple[Request, ...]:
    """A request for each of several endpoints; of ports that were named each gets its own.

    Raises:
        InputError: there are not so many ports, or one would be taken twice.
    """
    named = [name for name in _VARIABLES if _is_named(request, name)]
    last = {name: getattr(request, name) + count - 1 for name in named}
    for name in named:
        if last[name] > _LAST_PORT:
            raise InputError(
                f"{_VARIABLES[name]}={getattr(request, name)}: {count} ports from there end beyond {_LAST_PORT}",
                hint=_hint(name),
            )
    if len(named) == 2 and request.port <= last["health_port"] and request.health_port <= last["port"]:
        raise InputError(
            f"{count} ports from {request.port} and {count} from {request.health_port} overlap",
            hint="choose another --port or --health-port, or leave one out",
        )
    return tuple(replace(request, **{name: getattr(request, name) + index for name in named}) for index in range(count))


def health_ports_following(request: Request, count: int) -> tuple[Request, ...]:
    """A request for each of several endpoints behind one port: their health sidecars have ports of their own.

    Raises:
        InputError: there are not so many ports, or one of them is the API's.
    """
    last = request.health_port + count - 1
    if last > _LAST_PORT or request.health_port <= request.port <= last:
        what = f"end beyond {_LAST_PORT}" if last > _LAST_PORT else f"have the API's, {request.port}, among them"
        raise InputError(
            f"AIM_HEALTH_PORT={request.health_port}: {count} ports from there {what}", hint=_hint("health_port")
        )
    return tuple(replace(request, health_port=request.health_port + index) for index in range(count))


def _is_named(request: Request, name: str) -> bool:
    return request.origins.get(name, "default") != "default"


def _named(request: Request) -> tuple[int, ...]:
    return tuple(getattr(request, name) for name in _VARIABLES if _is_named(request, name))


_LAST_PORT = 65535
_VARIABLES = {"port": "AIM_PORT", "health_port": "AIM_HEALTH_PORT"}


def _hint(name: str) -> str:
    return f"choose another --{name.replace('_', '-')}, or leave it out: the next free one is taken then"


def _next_free(
    request: Request, first: int, avoid: set[int], listens: Callable[[Request, int], bool], taken: Mapping[int, str]
) -> int:
    limits = request.port_range
    for port in (*range(first, limits.last + 1), *range(limits.first, first)):
        if port not in avoid and not listens(request, port):
            return int(port)
    raise InputError(
        f"no port from {limits} is free{_mostly(taken, limits)}", hint="stop an endpoint, or widen --port-range"
    )


def _mostly(taken: Mapping[int, str], limits: PortRange) -> str:
    """Whose most of them are: an orchestrator that publishes its endpoints' range itself leaves them none."""
    owners = Counter(who for port, who in taken.items() if limits.first <= port <= limits.last)
    who, count = next(iter(owners.most_common(1)), ("", 0))
    return f": {count} of them are published by the container {who}" if count > 1 else ""


def listens_here(request: Request, port: int) -> bool:
    """Whether something listens on the port of this machine; for an engine that is on it.

    Raises:
        InputError: the address is none of this machine's, so that every port of it would look taken.
    """
    check_address(request.host)
    try:
        check_port(request.host, port, "AIM_PORT")
    except InputError:
        return True
    return False


def listens_elsewhere(request: Request, port: int) -> bool:
    """The engine's host is another one, or we are in a container: only its containers are known."""
    del request, port
    return False
