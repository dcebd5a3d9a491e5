"""What a signature is: a text by which an engine or a library tells why it ends, with what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from aim_engine.errors import AimError


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A text that tells a failure. `kind` names what failed, for the ladder; `starting` says that it tells so of an
    engine that starts, `serving` of one that was ready. Groups of `pattern` may be used in `sentence` and `hint` as
    {name}; {mend_files} is what to do about a model's damaged files.
    """

    pattern: str
    kind: str
    error: type[AimError]
    sentence: str
    hint: str
    source: str
    starting: bool = True
    serving: bool = False
