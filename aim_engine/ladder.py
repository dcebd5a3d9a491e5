"""The ladder below a plan: a job, its command and what its backend can do without in, `Rung`s out.

Each rung says what of the command is otherwise, so that several can be taken one on top of another. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aim_engine.backends.base import Backend, ServeJob, ServerCommand, Step
from aim_engine.request import Request
from aim_engine.selection.ladder import ORDER, failures_for


@dataclass(frozen=True, kw_only=True)
class Rung:
    """`options` maps options' names to the words that stand for them in argv, none where the option is left out; `env`
    and `unset` likewise. `failures` are those after which it is tried.
    """

    name: str
    failures: tuple[str, ...]
    gives_up: str
    options: Mapping[str, tuple[str, ...]]
    env: Mapping[str, str]
    unset: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """`{name, failures, gives_up, options: {name: [word]}, env, unset}`."""
        return {
            "name": self.name,
            "failures": list(self.failures),
            "gives_up": self.gives_up,
            "options": {name: list(words) for name, words in self.options.items()},
            "env": dict(self.env),
            "unset": list(self.unset),
        }


def rungs(
    backend: Backend, job: ServeJob, command: ServerCommand, request: Request, others: Sequence[Step] = ()
) -> tuple[Rung, ...]:
    """Every step that the request allows and that changes the command, in the order in which they are tried; `others`
    are steps besides the backend's.
    """
    if job.group.count > 1:  # what one node gave up the others would not know of: the whole group starts anew instead
        return ()
    found = (_rung(backend, step, command, request) for step in (*backend.steps(job), *others))
    return tuple(sorted((one for one in found if one), key=lambda one: ORDER.index(one.name)))


def _rung(backend: Backend, step: Step, command: ServerCommand, request: Request) -> Rung | None:
    failures = failures_for(step.kind, request)
    if not failures:
        return None
    other = backend.command(step.job)
    rung = Rung(
        name=step.kind,
        failures=failures,
        gives_up=step.gives_up,
        options=_changed_options(command, other, backend),
        env={name: value for name, value in other.env.items() if command.env.get(name) != value},
        unset=tuple(name for name in (*other.unset, *command.env) if name not in (*command.unset, *other.env)),
    )
    return rung if rung.options or rung.env or rung.unset else None  # an option of the user's may stand against it


def _changed_options(old: ServerCommand, new: ServerCommand, backend: Backend) -> dict[str, tuple[str, ...]]:
    changed = {name: tuple(backend.words({name: value})) for name, value in new.options.items()
               if name not in old.options or old.options[name] != value}  # fmt: skip
    return changed | {name: () for name in old.options if name not in new.options}
