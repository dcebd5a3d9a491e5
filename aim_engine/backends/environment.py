"""The environment of any engine's server: a job and the engine's own defaults in, what to set and what to take out.

Knows which variables choose devices, and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aim_engine.backends.base import ServeJob


def layered(
    job: ServeJob,
    defaults: Mapping[str, str],
    visible_variables: tuple[str, ...],
    *,
    origins: dict[str, str],
    notes: list[str],
    origin: Callable[[str], str] | None = None,
) -> tuple[dict[str, str], tuple[str, ...]]:
    """What to lay over the user's environment, whose own variables win, and the choices of devices to take out of it
    because they say nothing. `origins` and `notes` are added to; `origin` says where a variable of the recipe comes
    from, if it has more to say than the recipe's id.
    """
    env: dict[str, str] = {}
    of_recipe = f"recipe {job.recipe_id}"
    for giver, layer in (("AIM Engine", {**defaults, **_choice_of_gpus(job, visible_variables)}), (of_recipe, job.env)):
        for variable, value in layer.items():
            own = job.environment.get(variable)
            if own is None or (not own and variable in visible_variables):
                env[variable] = value
                origins[variable] = origin(variable) if origin and giver == of_recipe else giver
            elif own != value:
                origins[variable] = theirs = job.giver(variable, "your environment")
                notes.append(f"{variable}: {theirs} says {own}, {giver} would have said {value}")
    for variable in sorted(job.hooked & job.environment.keys()):
        env[variable] = job.environment[variable]
        origins[variable] = job.giver(variable, "")
    empty = [name for name in _set_to_nothing(job, visible_variables) if name not in env]
    notes += [f"{name} is taken out of the engine's environment: set to nothing, some versions of ROCm hide every GPU"
              for name in empty]  # fmt: skip
    return env, tuple(empty)


def _set_to_nothing(job: ServeJob, variables: tuple[str, ...]) -> list[str]:
    """Visibility variables that are there and say nothing (clr's flags.cpp keeps such a one as a blank)."""
    return [name for name in variables if name in job.environment and not job.environment[name].strip()]


def _choice_of_gpus(job: ServeJob, variables: tuple[str, ...]) -> dict[str, str]:
    """The one variable that tells the engine its GPUs; none where it would take these anyway, or where the user has
    chosen and the plan has followed. A choice of theirs that the plan does not know of still wins, and is noted.
    """
    indices = [gpu.index for gpu in job.gpus]
    first_ones = [gpu.index for gpu in job.visible_gpus][: len(indices)]
    if not variables or job.visibility or indices == first_ones:
        return {}
    theirs = [name for name in variables if job.environment.get(name, "").strip()]
    return {(theirs or variables)[0]: ",".join(str(index) for index in indices)}


def base_url(job: ServeJob) -> str:
    """Where the server answers on this machine: one bound to every address on loopback, one bound to a single address
    there only.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(job.host, job.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if job.tls_cert else 'http'}://{host}:{job.port}"
