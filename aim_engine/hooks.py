"""The functions that a program gives to AIM Engine: plain callables in, what the rest of the package asks for out.

What a hook raises, or returns that cannot be used, is an error that names the hook. Plans and launches nothing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from aim_engine.backends.base import HOOK
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.inside import checked_variables
from aim_engine.deploy.launch import Teller
from aim_engine.deploy.looking import READY, Health, Judge
from aim_engine.errors import InputError
from aim_engine.plan import Plan
from aim_engine.request import Request
from aim_engine.selection.candidate import Judged
from aim_engine.selection.select import Chooser
from aim_engine.values import RefusedError, engine_options

Select = Callable[[tuple[Judged, ...]], Judged]
HealthCheck = Callable[[Endpoint], Health | bool]
ConfigureHook = Callable[[dict[str, Any], dict[str, str]], tuple[Mapping[str, Any], Mapping[str, str]]]
OnProgress = Callable[[str, float | None, str], object]

_MEND = "its own traceback is the cause of this error"


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Each may be None. They may be called from several threads, and more than once for one launch.

    - `select` is given the judged candidates that fit, best first, and returns one of them;
    - `health_check` is given an endpoint that runs, and says whether it is ready;
    - `configure` is given the engine's options and variables, and returns both as they shall be;
    - `on_progress` is told the step, how far it is (None where nobody knows), and words.
    """

    select: Select | None = None
    health_check: HealthCheck | None = None
    configure: ConfigureHook | None = None
    on_progress: OnProgress | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            hook = getattr(self, one.name)
            if hook is not None and not callable(hook):
                raise InputError(f"{one.name}={hook!r} cannot be called", hint="give a function, or leave it out")

    @property
    def chooser(self) -> Chooser | None:
        """The select hook as the selection asks it."""
        return None if self.select is None else Chooser(name="the select hook", choose=self._chosen)

    def _chosen(self, offered: tuple[Judged, ...]) -> Judged:
        answer = _called("select", self.select, offered)
        # by identity: an equal one that was made elsewhere has not been judged here
        if any(answer is one for one in offered):
            found: Judged = answer
            return found
        raise InputError(
            f"the select hook returned {_shown(answer)}, which is none of the {len(offered)} candidates it was given",
            hint="return one of them; the first is the best",
        )

    @property
    def judge(self) -> Judge | None:
        """The health_check hook as looks ask it."""
        return None if self.health_check is None else self._judged

    def _judged(self, endpoint: Endpoint) -> Health:
        answer = _called("health_check", self.health_check, endpoint)
        if isinstance(answer, Health):
            return answer
        if isinstance(answer, bool):
            return Health(
                word=READY if answer else "not ready", source="the health_check hook", ready=answer, live=True
            )
        raise InputError(
            f"the health_check hook returned {_shown(answer)}, which is no verdict",
            hint="return True, False or a Health",
        )

    @property
    def configuring(self) -> Callable[[Plan], Request] | None:
        """The configure hook as a plan asks it: the plan's request with what the hook would have otherwise."""
        return None if self.configure is None else self._configured

    def _configured(self, plan: Plan) -> Request:
        request, command = plan.request, plan.command
        answer = _called("configure", self.configure, copy.deepcopy(dict(command.options)), dict(command.env))
        if not (isinstance(answer, tuple) and len(answer) == 2 and all(isinstance(one, Mapping) for one in answer)):
            raise InputError(
                f"the configure hook returned {_shown(answer)}",
                hint="return the two mappings that it was given: options, variables",
            )
        options = {name.replace("_", "-"): value for name, value in _changes(answer[0], command.options).items()}
        variables = checked_variables(_texts(_changes(answer[1], command.env)), giver=f"{HOOK}:")
        if not options and not variables:
            return request
        kept = {name: value for name, value in request.engine_args.items() if name.replace("_", "-") not in options}
        origin = request.origins.get("engine_args", "default")
        return replace(
            request,
            engine_args={**kept, **_checked_options(options)},
            environment={**request.environment, **variables},
            hooked=request.hooked | options.keys() | variables.keys(),
            origins={**request.origins, "engine_args": "hook" if options and origin == "default" else origin},
        )

    def telling(self) -> Teller:
        """The on_progress hook as a launch tells it."""
        return _Telling(self.tell)

    def tell(self, step: str, fraction: float | None, words: str) -> None:
        if self.on_progress is not None:
            _called("on_progress", self.on_progress, step, fraction, words)


def _called(name: str, hook: Callable[..., Any] | None, *arguments: Any) -> Any:
    assert hook is not None
    try:
        return hook(*arguments)
    except Exception as error:
        raise InputError(f"the {name} hook raised {type(error).__name__}: {error}", hint=_MEND) from error


def _shown(answer: Any) -> str:
    return repr(answer)[:80]


def _changes(answer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is new or other than it was. What is gone cannot be taken back: a container is only told what to add."""
    strange = [name for name in answer if not isinstance(name, str)]
    if strange:
        raise InputError(f"the configure hook returned the name {_shown(strange[0])}", hint="use names that are text")
    gone = [name for name in given if name not in answer]
    if gone:
        raise InputError(f"the configure hook left out {gone[0]}", hint="give it another value; False turns a flag off")
    return {name: value for name, value in answer.items() if name not in given or given[name] != value}


def _texts(variables: Mapping[str, Any]) -> dict[str, str]:
    for name, value in variables.items():
        if not isinstance(value, str):
            raise InputError(f"the configure hook: {name}={_shown(value)} is no text", hint="give variables as text")
    return dict(variables)


def _checked_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same checks as for AIM_ENGINE_ARGS: what comes back has been written as JSON and read again."""
    try:
        return engine_options(json.dumps(options))
    except (RefusedError, TypeError, ValueError) as error:
        raise InputError(f"the configure hook returned options that cannot be passed on: {error}", hint=_JSON) from None


_JSON = "give values that JSON knows"


class _Telling:
    """A teller that passes on to a function of three words."""

    def __init__(self, tell: OnProgress) -> None:
        self._tell, self._step = tell, ""

    def begin(self, step: str) -> None:
        self._step = step
        self._tell(step, 0.0, "")

    def progress(self, done: int, total: int, words: str) -> None:
        self._tell(self._step, done / total if total else None, words)

    def end(self, words: str) -> None:
        self._tell(self._step, 1.0, words)

    def warn(self, text: str) -> None:
        self._tell("warning", None, text)


@dataclass(frozen=True, kw_only=True)
class Remembering:
    """A teller that passes everything on, and keeps the warnings."""

    teller: Teller
    warnings: list[str] = field(default_factory=list)

    def begin(self, step: str) -> None:
        self.teller.begin(step)

    def progress(self, done: int, total: int, words: str) -> None:
        self.teller.progress(done, total, words)

    def end(self, words: str) -> None:
        self.teller.end(words)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.teller.warn(text)
