"""The few fixed questions that show whether an engine's answers are sane: a way to ask in, `Sanity` out.

Speaks the OpenAI API, as every backend does. What the answers mean is judged in `sanity`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aim_engine.runtime.sanity import Exchange, Reply, Sanity, is_doubtful, judge

Post = Callable[[str, Mapping[str, Any]], tuple[int, str]]  # a URL and a body in, a status (0: none) and a text out

_TOKENS = 64  # enough to see a loop; two seconds of the slowest models that are served
_BUSY = (408, 425, 429, 503)
# What Python's encoder says of NaN (json/encoder.py); vLLM 0.32 answers it with 400, others with 500.
_NOT_WRITABLE = "not JSON compliant"
_WORDS = re.compile(r"\w+|[^\w\s]")

# Long enough that its cache fills several blocks, whatever their size (16 tokens, 128 on a CPU).
_LONG = (
    "The harbour of the old town lies where the river meets the sea. In the morning the boats come back with their "
    "nets full, and the market opens before the sun is over the hills. Farmers bring apples, cheese and bread; a "
    "smith sells knives, and a woman from the islands sells salt. At noon the bells ring and everybody goes home to "
    "eat. In the afternoon the streets are quiet, and only the children play between the boxes on the quay. When "
    "the evening comes, lamps are lit along the wall, and the sailors tell of ports that they have seen: of ice in "
    "the north, of red cliffs in the south, of cities built on wood. Nobody believes all of it, and everybody "
    "listens. Later, when the wind turns, the water rises over the lowest steps, and the watchman writes down how "
    "high it came. He has done so for thirty years, and his father did before him. In the book one can read that"
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A text to go on with, or one to be answered."""

    name: str
    text: str
    chat: bool = False


# Texts that stop in the middle of a sentence: no model ends there, whether it was made for conversations or not.
QUESTIONS = (
    Question(name="a fact", text="The capital of France is Paris, and the capital of Italy is"),
    Question(name="a story", text="Once upon a time, in a small village by the sea, there lived an old man who"),
    Question(name="a long text", text=_LONG),
    Question(name="a chat", text="Explain in a few sentences why the sky is blue.", chat=True),
)


class NotAnsweredError(Exception):
    """Nothing can be said of its answers: there was none, or only that it is busy."""


def examine(post: Post, *, completions_url: str, model: str) -> Sanity:
    """Ask everything, and again with temperature 1 what was answered doubtfully.

    Raises:
        NotAnsweredError: a question got no answer.
    """
    urls = {False: completions_url, True: completions_url.replace("/completions", "/chat/completions")}
    exchanges = []
    for question in QUESTIONS:
        url = urls[question.chat]
        greedy = _ask(post, url, question, {"model": model, "temperature": 0})
        sampled = None
        if is_doubtful(greedy):
            sampled = _ask(post, url, question, {"model": model, "temperature": 1, "top_p": 1, "seed": 1})
        exchanges.append(Exchange(greedy=greedy, sampled=sampled))
    return judge(exchanges)


def _ask(post: Post, url: str, question: Question, settings: Mapping[str, Any]) -> Reply:
    """Ask with log-probabilities, and without where that is refused or fails."""
    said = {"messages": [{"role": "user", "content": question.text}]} if question.chat else {"prompt": question.text}
    body = {**settings, **said, "max_tokens": _TOKENS}
    status, text = post(url, {**body, "logprobs": True if question.chat else 1})
    if status == 200:
        return read_reply(question, text)
    _refuse_busy(status, text)
    # otherwise a 4xx says that they are not to be had here, or that the question itself is refused
    unwritable = _error_of(status, text) if status >= 500 or _NOT_WRITABLE in text else ""
    status, text = post(url, body)
    if status == 200:
        return replace(read_reply(question, text), unwritable=unwritable)
    _refuse_busy(status, text)
    if status >= 500:
        raise NotAnsweredError(_error_of(status, text))
    return Reply(question=question.name, refused=_error_of(status, text))


def _refuse_busy(status: int, text: str) -> None:
    if status in (0, *_BUSY):
        raise NotAnsweredError(_error_of(status, text))


def _error_of(status: int, text: str) -> str:
    """The engine's own words, in short."""
    if status == 0:
        return "the server ended the connection without an answer"
    try:
        value = json.loads(text)
        found = value.get("error", value)
        said = str(found.get("message", "") if isinstance(found, dict) else found)
    except (ValueError, AttributeError, RecursionError):
        said = text
    return f"the engine answered {status}: {said.strip()[:200] or 'nothing'}"


def read_reply(question: Question, body: str) -> Reply:
    """An answer of /v1/completions or /v1/chat/completions. What cannot be read of it counts as not given."""
    try:
        choice = json.loads(body)["choices"][0]
        text = _text_of(choice)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Reply(question=question.name, refused="the answer is none of the OpenAI API's")
    tokens, logprobs = _tokens_of(choice)
    words = tokens or tuple(_WORDS.findall(text))
    return Reply(question=question.name, text=text, tokens=words, logprobs=logprobs)


def _text_of(choice: Mapping[str, Any]) -> str:
    """A reasoning parser keeps the thoughts apart; when the limit came early they are all there is."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return str(choice.get("text") or "")
    return "".join(str(message.get(key) or "") for key in ("reasoning_content", "reasoning", "content"))


def _tokens_of(choice: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float | None, ...] | None]:
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        return (), None
    if isinstance(content := given.get("content"), list):
        pairs = [(one.get("token"), one.get("logprob")) for one in content if isinstance(one, dict)]
    else:
        pairs = list(zip(given.get("tokens") or (), given.get("token_logprobs") or (), strict=False))
    numbers = tuple(float(number) if isinstance(number, (int, float)) else None for _, number in pairs)
    return tuple(str(token) for token, _ in pairs), numbers or None
