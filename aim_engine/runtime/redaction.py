"""Secrets out of what is kept: an environment, and texts or JSON values in; the same without the environment's secrets,
and without what looks like one, out. Pure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from aim_engine.secret_shapes import MASK, VARIABLE, masked

_NAME = re.compile(VARIABLE, re.IGNORECASE)
_SHORTEST = 4  # a shorter one would be found in innocent words


class Redaction:
    """Knows the secrets of one environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        found = {value for name, value in environment.items() if _NAME.fullmatch(name) and len(value) >= _SHORTEST}
        # an engine may print bytes that are no UTF-8 in its own way, and a client what it sends in Latin-1
        found |= {os.fsencode(value).decode("latin-1") for value in found}
        self._values = sorted(found, key=len, reverse=True)  # one may hold another

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return masked(text)

    def value(self, value: Any) -> Any:
        """JSON, with every text in it looked through, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(one) for one in value]
        return value
