"""The command further down the ladder: a command and the rungs that were taken in, the command without what they give
up out.

Pure. Which rung is taken when is decided in `attempts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from aim_engine.runtime.contract import Command, Rung


def taken(ladder: Sequence[Rung], names: Iterable[str]) -> tuple[Rung, ...]:
    """The rungs of these names, in the order in which they were taken; what the ladder does not have is left out."""
    known = {rung.name: rung for rung in ladder}
    return tuple(known[name] for name in dict.fromkeys(names) if name in known)


def below(command: Command, rungs: Iterable[Rung]) -> Command:
    """The command with everything that the rungs have otherwise, a later one over an earlier."""
    for rung in rungs:
        argv = command.argv
        for name, words in rung.options.items():
            argv = with_option(argv, name, words)
        unset = tuple(dict.fromkeys((*command.unset, *rung.unset)))
        env = {name: value for name, value in {**command.env, **rung.env}.items() if name not in rung.unset}
        command = replace(command, argv=argv, env=env, unset=unset)
    return command


def with_option(argv: Sequence[str], name: str, words: Sequence[str]) -> tuple[str, ...]:
    """argv with these words for the option, in its place or at the end. An option's values are the words after it up to
    the next that begins with a dash.
    """
    place = next((at for at, word in enumerate(argv) if _names(word, name)), None)
    if place is None:
        return (*argv, *words)
    end = place + 1
    while end < len(argv) and not argv[end].startswith("-"):
        end += 1
    return (*argv[:place], *words, *argv[end:])


def _names(word: str, name: str) -> bool:
    return word in (f"--{name}", f"--no-{name}") or word.startswith(f"--{name}=")
