"""One streamed completion in a thread: an address, a prompt and a number of tokens come in; what came
of it goes out."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

ANSWER_SECONDS = 300.0


class Stream(threading.Thread):
    """`chunks` grows as they come; `status` is 0 and `error` says why where there was no answer. `prompt` is a text, or
    the ids of tokens.
    """

    def __init__(self, to: tuple[str, int], prompt: str | list[int], tokens: int) -> None:
        super().__init__(daemon=True)
        self._to = to
        self._body = {"prompt": prompt, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True}
        self.chunks: list[str] = []
        self.status = 0
        self.error = ""

    @property
    def has_begun(self) -> bool:
        return bool(self.chunks) or not self.is_alive()

    @property
    def whole(self) -> bool:
        """Every token came, and then the end."""
        if self.chunks[-1:] != ["[DONE]"] or len(self.chunks) < 2:
            return False
        found: dict[str, Any] = json.loads(self.chunks[-2])
        return bool(found.get("choices")) and found["choices"][0]["finish_reason"] == "length"

    @property
    def became(self) -> str:
        """`finished`, `refused` (503), `cut`, or `unheard`: nobody took the connection."""
        if self.whole:
            return "finished"
        if self.status == 503:
            return "refused"
        return "cut" if self.status else "unheard"

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self._to, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", "/v1/completions", json.dumps(self._body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.status = answer.status
            while line := answer.readline():
                if line.startswith(b"data: "):
                    self.chunks.append(line[6:].decode().strip())
        except (OSError, http.client.HTTPException) as error:
            self.error = repr(error)
        finally:
            connection.close()
