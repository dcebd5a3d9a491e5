"""What the commands that look at running endpoints have in common: the way to Docker and to the endpoints, and how
times and amounts are written in a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A Docker Engine, and where we stand with regard to its containers."""

    client: Any
    vantage: Any

    def endpoints(self, *, everything: bool) -> list[Any]:
        """Ours, with the addresses that work from here; with `everything` those that have ended too."""
        from aim_engine.deploy.docker import guarded
        from aim_engine.deploy.endpoints import list_endpoints

        with guarded("list its containers"):
            return [self.vantage.reach(one) for one in list_endpoints(self.client, all=everything)]

    def find(self, *names: str, replicas: bool = False) -> list[Any]:
        """The endpoints that are meant, each once; with `replicas` all of the same launch or model.

        Raises:
            InputError: a name is none's, or several'.
        """
        from aim_engine.deploy.endpoints import choose
        from aim_engine.deploy.stopping import choose_replicas

        known = self.endpoints(everything=True)
        chosen = (choose_replicas(known, name) if replicas else [choose(known, name)] for name in names)
        found = {one.container_id: one for several in chosen for one in several}
        return list(found.values())


@contextmanager
def engine(environment: Mapping[str, str]) -> Iterator[Engine]:
    """The way to Docker.

    Raises:
        DockerError: no engine answers.
    """
    from aim_engine.deploy.docker import connect, guarded
    from aim_engine.deploy.reach import vantage

    client = connect(environment)
    try:
        with guarded("say where this process runs"):
            place = vantage(client)
        yield Engine(client=client, vantage=place)
    finally:
        client.close()


def duration(seconds: float | None) -> str:
    """`45 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    rest = int(seconds)
    if rest < 60:
        return f"{rest} s"
    if rest < 3600:
        return f"{rest // 60} min {rest % 60} s"
    if rest < 86400:
        return f"{rest // 3600} h {rest % 3600 // 60} min"
    return f"{rest // 86400} d {rest % 86400 // 3600} h"


def amount(value: float | None, unit: str = "", digits: int = 0) -> str:
    """A number that may be unknown."""
    return NOTHING if value is None else f"{value:,.{digits}f}{unit}"


def share(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f}%"


def gpus(endpoint: Any) -> str:
    """`4 x MI300X`, `CPU`."""
    if endpoint.gpu_count and endpoint.gpu_type:
        return f"{endpoint.gpu_count} x {endpoint.gpu_type}"
    return str(endpoint.gpu_count) if endpoint.gpu_count else endpoint.gpu_type or NOTHING


def state(endpoint: Any) -> str:
    return endpoint.state if endpoint.exit_code is None else f"{endpoint.state} ({endpoint.exit_code})"


def seconds_typed(text: str) -> int:
    """For a flag that takes whole seconds.

    Raises:
        InputError: it is no such number.
    """
    from aim_engine.errors import InputError

    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise InputError(f"{text[:80]!r} is no number of seconds", hint="use a whole number, for instance 90")
    return int(text)
